"""
Has `allennlp train` write into its folder alone, and say in our words that it cannot be written to.

AllenNLP would let two trainings mix their files, and `--force` remove the folder of one that runs.
"""

import logging
import os
import platform
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import IO, Any, Iterator, Optional, Union

from allennlp.commands import train
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model
from allennlp.models.archival import CONFIG_NAME

from sledgehammer_allennlp.files import no_room
from sledgehammer_allennlp.training.whole_archive import write_config_whole

try:
    import fcntl
except ImportError:  # Windows has none.
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_ARGUMENT = "--serialization-dir"

_train_model = train.train_model


def check_writable(folder: Path, argument: str) -> None:
    """
    Makes a folder if there is none.

    # Raises

    ConfigurationError
        If nothing can be written to it, naming the argument that asks for it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to '{folder}': wanted another {argument}. {error}"
        ) from error


def check_new(folder: Path) -> None:
    """
    # Raises

    ConfigurationError
        If there is something in a folder, which a new training would want empty.
    """
    if not any(folder.iterdir()):
        return
    is_training = (folder / CONFIG_NAME).exists()
    go_on = ", --recover to go on with its training" if is_training else ""
    raise ConfigurationError(
        f"there is something in '{folder}': wanted another {_ARGUMENT}{go_on}, or --force to "
        "replace it"
    )


def lock_file_of(folder: Path) -> Path:
    """Beside the folder, which has to be empty for a new training, and which `--force` removes."""
    folder = Path(os.path.realpath(folder))
    return folder.with_name(f".{folder.name}.training")


@contextmanager
def training_alone_in(folder: Path) -> Iterator[None]:
    """
    While this lasts, no other process trains into the folder. The system gives the lock up when
    this process dies. Where there are no locks, on some network file systems, a warning says so.

    # Raises

    ConfigurationError
        If another process trains into it.
    """
    path = lock_file_of(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(path, folder)
    except OSError as error:
        logger.warning(
            "Cannot lock '%s', and would not notice another training into '%s': %s",
            *(path, folder, error),
        )
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                path.unlink()
            lock.close()


def _locked(path: Path, folder: Path) -> Optional[IO[str]]:
    """The file, locked for this process; `None` on systems without such locks."""
    if fcntl is None:
        return None
    while True:
        with ExitStack() as on_failure:
            lock = on_failure.enter_context(open(path, "a+"))
            try:
                # Of this process alone: processes that it forks, to read data, may outlive it.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                lock.seek(0)
                raise ConfigurationError(
                    f"another training runs in '{folder}', {lock.read(200) or 'just started'}: "
                    f"wanted another {_ARGUMENT}, or that it is ended first"
                ) from None
            if _is_there(path, lock):
                with suppress(OSError):
                    lock.truncate(0)
                    lock.write(f"process {os.getpid()} of {platform.node()}")
                    lock.flush()
                on_failure.pop_all()
                return lock
            # Else the training that had it has just ended, and removed it.


def _is_there(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@wraps(_train_model)
def train_model_alone(
    params: Params,
    serialization_dir: Union[str, "PathLike[str]"],
    recover: bool = False,
    force: bool = False,
    node_rank: int = 0,
    *others: Any,
    **settings: Any,
) -> Optional[Model]:
    folder = Path(serialization_dir)
    arguments = (params, serialization_dir, recover, force, node_rank, *others)
    # What there is to recover, AllenNLP says. Of several machines the first has the lock of all.
    if node_rank > 0 or recover and not folder.exists():
        return _train_model(*arguments, **settings)
    try:
        with training_alone_in(folder):
            for written in (folder, folder.parent) if force else (folder,):
                check_writable(written, _ARGUMENT)
            if not (recover or force):
                check_new(folder)
            write_config_whole(params)
            return _train_model(*arguments, **settings)
    except (OSError, RuntimeError) as error:
        if no_room(error) is None:
            raise
        raise ConfigurationError(
            f"the training in '{folder}' cannot be written: wanted room for it, after which "
            f"--recover goes on from the last checkpoint, or another {_ARGUMENT}. {error}"
        ) from error


# The command has no setting for it.
train.train_model = train_model_alone

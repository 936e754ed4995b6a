"""Writing files that are there whole or not at all, temporary folders, and what can be read."""

import errno
import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

_TEMPORARY = "sledgehammer-"

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""When a disk is full, or broken."""

_TORCH_CANNOT_WRITE = ("PytorchStreamWriter", "unexpected pos", "iostream error")
"""What `torch.save` says then, in an error of another class."""


def check_regular(path: str) -> None:
    """
    Nothing is opened: a pipe without a writer would never answer, and a device never end.

    # Raises

    ValueError
        If what is at the path is neither a file nor a link to one.
    OSError
        If there is nothing.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise ValueError(f"'{path}' is {kind}: wanted a file")


def no_room(error: Exception) -> Optional[str]:
    """What an error says of a disk that is full, or broken; `None` if it is of something else."""
    if isinstance(error, OSError):
        return error.strerror if error.errno in NO_ROOM else None
    if isinstance(error, RuntimeError) and any(word in str(error) for word in _TORCH_CANNOT_WRITE):
        return "torch could write a part only; is the disk full?"
    return None


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """
    Writes a file beside `path` and renames it, so that `path` is never half written. What a process
    that was killed here has left beside `path` is removed.

    # Parameters

    path : `Path`
    write : `Callable[[Path], Any]`
        Writes to the path it is given.

    # Raises

    OSError
        If it cannot be written, naming `path`.
    """
    _remove_of_dead(path.parent, f".{path.name}.", ".new")
    beside = path.with_name(f".{path.name}.{_PLACE}.{os.getpid()}.new")
    try:
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        reason = no_room(error)
        if reason is None:
            raise
        number = getattr(error, "errno", errno.EIO)
        raise OSError(number, f"cannot be written: {reason}", str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """
    An empty folder as long as this lasts. What processes that were killed meanwhile have left of
    such folders is removed.
    """
    folder = new_temporary_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_temporary_folder() -> Path:
    """The same, which its maker removes; if it is killed, the next that makes one does."""
    _remove_of_dead(Path(tempfile.gettempdir()), _TEMPORARY, "")
    return Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{_PLACE}.{os.getpid()}."))


def _place() -> str:
    """Names the machine, and on Linux the container: process ids are of there."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def _remove_of_dead(folder: Path, start: str, end: str) -> None:
    """Removes files and folders of this name that are of processes of this place that are gone."""
    if os.name == "nt":
        return  # where there is no harmless way to ask whether a process is there
    name = re.compile(
        rf"{re.escape(start)}{_PLACE}\.(\d+){re.escape(end) if end else '[.].*'}", re.DOTALL
    )
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = name.fullmatch(entry.name)
            if found is None or _is_alive(int(found.group(1))):
                continue
            # Nobody else's in a folder that all may write to, and never through a link.
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid != os.getuid():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True


def write_text_whole(path: Path, text: str) -> None:
    """The same for a text, in UTF-8 and with its own line breaks."""
    write_whole(path, lambda beside: beside.write_bytes(text.encode("utf-8")))


def remove_unfinished(folder: Path) -> None:
    """
    Removes what processes that were killed in `write_whole` have left in a folder, also those of
    other machines; what a living one of this machine is writing stays.
    """
    for path in folder.glob(".*.new"):
        found = re.fullmatch(r"\..+\.(\d+)\.new", path.name, re.DOTALL)
        if found is None:
            continue
        process_id = int(found.group(1))
        is_of_here = f".{_PLACE}." in path.name and os.name != "nt"
        if not is_of_here or process_id == os.getpid() or not _is_alive(process_id):
            path.unlink(missing_ok=True)


_PLACE = _place()

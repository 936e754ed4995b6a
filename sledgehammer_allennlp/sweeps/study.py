"""The study that the workers share: where it is stored, and whether it is the same sweep."""

import json
import uuid
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator

import optuna
from allennlp.common.checks import ConfigurationError
from optuna.exceptions import ExperimentalWarning, StorageInternalError

from sledgehammer_allennlp.files import write_text_whole

SWEEP_FILE = "sweep.json"
# Seconds to wait for a database that another worker writes to.
_SQLITE_TIMEOUT = 120


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """
    # Parameters

    url : `str`
        Of a database, as SQLAlchemy takes it; without `://`, the path of a journal file.

    # Raises

    ConfigurationError
        If it cannot be opened.
    """
    try:
        if "://" not in url:
            from optuna.storages.journal import JournalFileBackend

            return optuna.storages.JournalStorage(JournalFileBackend(url))
        arguments: Dict[str, Any] = {}
        if url.startswith("sqlite"):
            arguments["connect_args"] = {"timeout": _SQLITE_TIMEOUT}
        return optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except Exception as error:  # each database has errors of its own
        raise ConfigurationError(
            f"cannot open --storage '{url}': wanted a database, as in sqlite:///sweep.db, or a "
            f"journal file. {type(error).__name__}: {first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says, without the program in the database's language that follows."""
    return str(error).strip().split("\n")[0]


@contextmanager
def storage_in_our_words(url: str) -> Iterator[None]:
    """
    # Raises

    ConfigurationError
        If the study cannot be read or written meanwhile, because the disk is full, say.
    """
    try:
        yield
    except StorageInternalError as error:
        cause = error.__cause__
        raise ConfigurationError(
            f"cannot use --storage '{url}': wanted a database that can be read and written, with "
            "which the same command goes on. "
            f"{first_line(cause if isinstance(cause, Exception) else error)}"
        ) from error


def check_study_exists(storage: optuna.storages.BaseStorage, name: str, url: str) -> None:
    """
    # Raises

    ConfigurationError
        If a storage has no study with this name.
    """
    there = optuna.get_all_study_names(storage)
    if name not in there:
        raise ConfigurationError(
            f"--study-name is '{name}', which is not in '{url}': wanted one that is there, "
            f"{', '.join(there) or 'but there is none'}"
        )


def open_study(
    storage: optuna.storages.BaseStorage,
    name: str,
    direction: str,
    sampler: str,
    pruner: str,
    pruner_startup_trials: int = 5,
) -> optuna.Study:
    """
    Makes a study, or takes the one with this name.

    # Raises

    ConfigurationError
        If there is one that goes in the other direction.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction=optuna.study.StudyDirection[direction.upper()],
            load_if_exists=True,
            # The trials of a grid are all enqueued beforehand: this sampler is not used.
            sampler=optuna.samplers.TPESampler(constant_liar=True)
            if sampler == "tpe"
            else optuna.samplers.RandomSampler(),
            pruner=_pruner(pruner, pruner_startup_trials),
        )
    found = study.direction.name.lower()
    if found != direction:
        raise ConfigurationError(
            f"study '{name}' is to {found} its metric: wanted --direction {found}, or another "
            "--study-name"
        )
    return study


def _pruner(name: str, startup_trials: int) -> optuna.pruners.BasePruner:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=startup_trials)
    if name == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner()
    return optuna.pruners.NopPruner()


def claim(
    study: optuna.Study, folder: Path, *, config: Path, space: Path, digests: Dict[str, str]
) -> None:
    """
    Notes in a study and in its folder that they belong together, and what is searched.

    # Parameters

    study : `optuna.Study`
    folder : `Path`
        Where the runs go.
    config : `Path`
    space : `Path`
    digests : `Dict[str, str]`
        Of what has to stay the same: `config`, `space`, `metric`.

    # Raises

    ConfigurationError
        If the study or the folder belongs to another sweep.
    """
    known = study.user_attrs.get("digests")
    sources = {
        "config": f"the config '{config}', with --overrides,",
        "space": f"the search space '{space}', with --seeds,",
        "metric": "--metric",
    }
    if known is not None:
        # Configs are evaluated with values of the search space, so the space is compared first.
        for key in ("space", "config", "metric"):
            if known.get(key) != digests[key]:
                was = f" ('{known[key]}')" if key == "metric" else ""
                raise ConfigurationError(
                    f"{sources[key]} is not what study '{study.study_name}' began with{was}: "
                    "wanted the same, or another --study-name and --serialization-dir"
                )
    file = folder / SWEEP_FILE
    note: Dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    noted, sweep = note.get("sweep"), study.user_attrs.get("sweep")
    # Of a worker that was killed between the two notes.
    is_half = sweep is None and note.get("study_name") == study.study_name
    if noted is not None and noted != sweep and not (is_half and _has_no_runs(folder)):
        raise ConfigurationError(
            f"'{folder}' has the runs of another study: wanted another --serialization-dir than "
            f"for that, for study '{study.study_name}'"
        )
    if sweep is not None and noted is None:
        raise ConfigurationError(
            f"'{folder}' is not where the runs of study '{study.study_name}' are: wanted "
            f"--serialization-dir '{study.user_attrs.get('folder')}', or to where that was moved; "
            "all workers share it"
        )
    if sweep is None:
        sweep = uuid.uuid4().hex
        # The folder's note comes first: without the study's, it is made anew.
        write_text_whole(file, json.dumps({"study_name": study.study_name, "sweep": sweep}) + "\n")
        study.set_user_attr("folder", str(folder.resolve()))
        study.set_user_attr("digests", digests)
        study.set_user_attr("sweep", sweep)


def _has_no_runs(folder: Path) -> bool:
    return not any(folder.glob("trial_*"))

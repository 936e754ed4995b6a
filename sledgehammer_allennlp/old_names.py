"""Names that moved: the old ones work for one more version, with a warning."""

import warnings
from importlib import import_module
from typing import Any

_NAME = "sledgehammer_allennlp"

_MOVED = {
    f"{_NAME}.exits.{old}": (f"{_NAME}{now_in}", name)
    for old, now_in, name in (
        ("load_archived_classifier", "", "load_archived_classifier"),
        ("ArchivedClassifier", ".archives", "ArchivedClassifier"),
        ("ExitOutput", ".engine", "EarlyExitOutput"),
        ("ExitRule", ".engine", "ExitRule"),
        ("cost_of_exits", ".engine", "cost_of_exits"),
        ("run_exits", ".engine", "run_exits"),
        ("run_to_exits", ".engine", "run_early_exit"),
        ("NgramClassifier", ".ngrams", "NgramClassifier"),
        ("Said", ".exits", "ExitScores"),
    )
}
_MOVED.update(
    {
        f"{_NAME}.archives.loading.{name}": (f"{_NAME}.models.checked_archive", name)
        for name in ("load_checked_archive", "check_archive")
    }
)
"""The module and the name that each old name is imported by now."""


def moved(module: str, name: str) -> Any:
    """
    What `module.name` stands for, if it moved; for the `__getattr__` of a module.

    # Raises

    AttributeError
        If it is none of the old names.
    """
    now_in, new_name = _MOVED.get(f"{module}.{name}", (None, name))
    if now_in is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(
        f"{name} of {module} is {new_name} of {now_in} now; the old name goes in the next version",
        DeprecationWarning,
        stacklevel=3,
    )
    return getattr(import_module(now_in), new_name)

"""Names that moved: the old ones work for one more version, with a warning."""

import warnings
from importlib import import_module
from typing import Any

_MOVED = {
    "sledgehammer_allennlp.exits.load_archived_classifier": "sledgehammer_allennlp",
    "sledgehammer_allennlp.archives.loading.load_checked_archive": (
        "sledgehammer_allennlp.models.checked_archive"
    ),
}
"""The module that each old name is imported from now."""


def moved(module: str, name: str) -> Any:
    """
    What `module.name` stands for, if it moved; for the `__getattr__` of a module.

    # Raises

    AttributeError
        If it is none of the old names.
    """
    now_in = _MOVED.get(f"{module}.{name}")
    if now_in is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(
        f"{name} is imported from {now_in} now; from {module} it will not be in the next version",
        DeprecationWarning,
        stacklevel=3,
    )
    return getattr(import_module(now_in), name)

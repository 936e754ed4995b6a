"""Saying what to install where AllenNLP is needed and is not there."""

from importlib.util import find_spec


def require_allennlp(module: str) -> None:
    """
    Called by the folders that need AllenNLP, before they import it.

    # Parameters

    module : `str`
        Which needs it.

    # Raises

    ModuleNotFoundError
        If AllenNLP is not installed.
    """
    if not has_allennlp():
        raise ModuleNotFoundError(
            f"{module} needs AllenNLP: pip install 'sledgehammer_allennlp[train]' with Python "
            "3.10, or requirements.txt with --no-deps with Python 3.11 to 3.13 (see README, "
            "Install)",
            name="allennlp",
        )


def has_allennlp() -> bool:
    """Whether AllenNLP is installed. A folder that has only its name is not AllenNLP."""
    spec = find_spec("allennlp")
    return spec is not None and spec.origin is not None

"""What bulk prediction needs besides inference: the extra `[bulk]`."""

import importlib.util


def require_arrow() -> None:
    """
    # Raises

    ValueError
        With what to install, if pyarrow or fsspec is missing.
    """
    for name in ("pyarrow", "fsspec"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(
                f"bulk prediction needs {name}: pip install 'sledgehammer_allennlp[bulk]'"
            )

"""
Has `--include-package sledgehammer_allennlp` pass over modules whose extra is not installed.
AllenNLP imports every module of an included package, and those of services and bulk jobs take
libraries that training does without.
"""

from functools import wraps
from typing import Optional, Set

from allennlp.common import util

_LIBRARIES_OF_EXTRAS = (
    *("fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn"),
    *("fsspec", "pyarrow", "ray"),
)

_import = util.import_module_and_submodules


@wraps(_import)
def _import_what_is_installed(package_name: str, exclude: Optional[Set[str]] = None) -> None:
    try:
        _import(package_name, exclude)
    except ImportError as error:
        is_ours = package_name.startswith("sledgehammer_allennlp.")
        library = (error.name or "").split(".")[0]
        if not is_ours or library not in _LIBRARIES_OF_EXTRAS:
            raise


# It calls itself for each module.
util.import_module_and_submodules = _import_what_is_installed

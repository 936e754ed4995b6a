"""AllenNLP goes through all modules of a package whenever a command runs: here once a process."""

from typing import Iterable, Optional, Set

_IMPORTED: Set[str] = set()


def import_once(packages: Optional[Iterable[str]] = None) -> None:
    """
    From now on a command imports the modules of a package once in this process.

    # Parameters

    packages : `Iterable[str]`, optional (default = all)
        Of which packages.
    """
    from allennlp import commands
    from allennlp.common import plugins
    from allennlp.common.util import import_module_and_submodules

    only = None if packages is None else set(packages)

    def imported(package: str, exclude: Optional[Set[str]] = None) -> None:
        if package in _IMPORTED:
            return
        import_module_and_submodules(package, exclude)
        if only is None or package in only:
            _IMPORTED.add(package)

    commands.import_module_and_submodules = imported
    plugins.import_module_and_submodules = imported

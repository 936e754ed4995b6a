"""The public names of the package: what its `__init__` files export."""

import ast
import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, List, Tuple

import sledgehammer_allennlp

PACKAGE = sledgehammer_allennlp.__name__
FOLDER = Path(sledgehammer_allennlp.__file__).parent

# Named in the pages, and not in an `__init__` file, because what it imports would come too early.
_MORE = {f"{PACKAGE}.models": [(f"{PACKAGE}.models.checked_archive", "load_checked_archive")]}


@dataclass(frozen=True)
class PublicName:
    """
    # Parameters

    module : `str`
        From which it is imported.
    name : `str`
    value : `Any`
    doc : `str`
        The docstring; of a constant, the string below it. Empty if there is none.
    """

    module: str
    name: str
    value: Any
    doc: str

    @property
    def is_class(self) -> bool:
        return inspect.isclass(self.value)

    @property
    def is_function(self) -> bool:
        return inspect.isroutine(self.value)


def modules() -> List[str]:
    """The package and its folders."""
    folders = sorted(path.parent.name for path in FOLDER.glob("*/__init__.py"))
    return [PACKAGE, *(f"{PACKAGE}.{folder}" for folder in folders)]


def public_names(module: str) -> List[PublicName]:
    """What a module exports, by name."""
    found = []
    for name, source in sorted(_exports(module)):
        value = getattr(importlib.import_module(source), name)
        if not isinstance(value, ModuleType):
            is_documented = inspect.isclass(value) or inspect.isroutine(value)
            doc = value.__doc__ if is_documented else _below(source, name)
            found.append(PublicName(module, name, value, doc or ""))
    return found


def all_public_names() -> List[PublicName]:
    """Of the package and its folders; a name that a folder exports is not the package's, too."""
    found: Dict[int, PublicName] = {}
    for module in [*modules()[1:], PACKAGE]:
        for name in public_names(module):
            found.setdefault(id(name.value), name)
    return list(found.values())


def _exports(module: str) -> Iterator[Tuple[str, str]]:
    """Names, each with the module that defines it: `import x as x`, and public constants."""
    yield from ((name, source) for source, name in _MORE.get(module, []))
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            for alias in node.names:
                if alias.asname == alias.name:
                    yield alias.name, str(node.module)
        elif isinstance(node, ast.Assign) and node.col_offset == 0:
            for target in node.targets:
                if isinstance(target, ast.Name) and not target.id.startswith("_"):
                    yield target.id, module


def _below(module: str, name: str) -> str:
    """The string that stands below the assignment of a constant."""
    body = _tree(module).body
    for node, following in zip(body, body[1:]):
        if isinstance(node, ast.AnnAssign):
            targets: List[ast.expr] = [node.target]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets) and (
            isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        ):
            return str(following.value.value)
    return ""


def _tree(module: str) -> ast.Module:
    file = inspect.getsourcefile(importlib.import_module(module))
    assert file is not None
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def public_methods(cls: type) -> List[Tuple[str, Any]]:
    """
    The methods and properties that a class defines, by name, but for those that do what the method
    of a base says and have no docstring of their own.
    """
    found = []
    for name, member in sorted(vars(cls).items()):
        member = getattr(member, "__func__", member)  # of static and class methods
        is_method = inspect.isfunction(member) or isinstance(member, property)
        if not is_method or name.startswith("_"):
            continue
        if member.__doc__ or not any(hasattr(base, name) for base in cls.__mro__[1:]):
            found.append((name, member))
    return found

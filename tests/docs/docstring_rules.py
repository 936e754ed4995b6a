"""What the docstring of a public name has to say, as far as the code can tell."""

import ast
import inspect
import re
from textwrap import dedent
from typing import Any, Callable, Iterator, List, Set

from scripts.reference.docstrings import Docstring, parse
from scripts.reference.public_names import PACKAGE, PublicName, public_methods

_DEFAULT = re.compile(r"default = `([^`]*)`")


def faults_of(name: PublicName) -> List[str]:
    """What is missing or wrong in the docstrings of a name and of its methods."""
    place = f"{name.module}.{name.name}"
    if not name.doc:
        return [f"{place} has no docstring"]
    faults: List[str] = []
    if name.is_function:
        faults += _faults(place, name.doc, name.value, [name.value])
    if name.is_class:
        makers = [vars(name.value).get(method) for method in ("__init__", "__post_init__")]
        theirs = parameters_of_other_libraries(name.value, "__init__")
        faults += _faults(place, name.doc, name.value, [f for f in makers if f], theirs)
        for method, member in public_methods(name.value):
            functions = [member.fget, member.fset] if isinstance(member, property) else [member]
            signed = None if isinstance(member, property) else member
            doc = member.__doc__ or ""
            theirs = parameters_of_other_libraries(name.value, method)
            faults += _faults(f"{place}.{method}", doc, signed, [f for f in functions if f], theirs)
    return faults


def parameters_of_other_libraries(cls: type, method: str) -> Set[str]:
    """Those of the methods that a method overrides, or a class inherits, from other libraries."""
    found: Set[str] = set()
    for base in cls.__mro__:
        overridden = vars(base).get(method)
        if not base.__module__.startswith(PACKAGE) and inspect.isfunction(overridden):
            found |= set(inspect.signature(overridden).parameters)
    return found


def _faults(
    place: str,
    text: str,
    signed: Any,
    bodies: List[Callable[..., Any]],
    said_elsewhere: Set[str] = frozenset(),  # type: ignore[assignment]
) -> List[str]:
    if not text:
        return [f"{place} has no docstring"]
    doc = parse(text)
    wrong = _wrong_parameters(doc, text, signed, said_elsewhere)
    faults = [f"{place}: {one}" for one in wrong]
    raised = {error for body in bodies for error in errors_raised(body)}
    said = {name for item in doc.raises for name in item.names} | set(re.findall(r"\w+", text))
    faults += [f"{place} does not say when it raises {error}" for error in sorted(raised - said)]
    return faults


def _wrong_parameters(
    doc: Docstring, text: str, signed: Any, said_elsewhere: Set[str]
) -> Iterator[str]:
    """Of what is called with arguments: those that are not named, are not there, or differ."""
    if signed is None:
        return
    try:
        parameters = inspect.signature(signed).parameters
    except ValueError:  # of what is written in C
        return
    said_names = {
        "self",
        "cls",
        *re.findall(r"`(\w+)`", text),
        *doc.parameter_names,
        *said_elsewhere,
    }
    for name, parameter in parameters.items():
        is_rest = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name not in said_names and not is_rest:
            yield f"does not name its parameter {name}"
    takes_more = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for item in doc.parameters:
        for name in item.names:
            if name not in parameters and not takes_more:
                yield f"has no parameter {name}"
        said = _DEFAULT.search(item.kind)
        if said and len(item.names) == 1 and item.names[0] in parameters:
            yield from _wrong_default(item.names[0], said.group(1), parameters[item.names[0]])


def _wrong_default(name: str, said: str, parameter: inspect.Parameter) -> Iterator[str]:
    try:
        value = ast.literal_eval(said)
    except (SyntaxError, ValueError):  # in words
        return
    # `None` in the signature can stand for a default that is made later.
    if parameter.default is not None and value != parameter.default:
        yield f"says that the default of {name} is {said}, and it is {parameter.default!r}"


def errors_raised(function: Callable[..., Any]) -> Set[str]:
    """The classes of the errors that a function's own body makes and raises."""
    function = inspect.unwrap(function)
    try:
        (tree,) = ast.parse(dedent(inspect.getsource(function))).body
    except (OSError, TypeError):  # of dataclasses, whose source is made
        return set()
    return {
        node.exc.func.id
        for node in _statements(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id[0].isupper()  # not a function that makes one
        and node.exc.func.id != "NotImplementedError"
    }


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Below a node, but not of the functions that are defined in it."""
    for below in ast.iter_child_nodes(node):
        if not isinstance(below, (ast.FunctionDef, ast.Lambda)):
            yield below
            yield from _statements(below)

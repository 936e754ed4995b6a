"""Docstrings and signatures as Markdown of MyST."""

import inspect
import re
from textwrap import indent
from typing import Any, Callable, Dict, List, Optional

from scripts.reference.docstrings import Docstring, Item, code_names, parse
from scripts.reference.public_names import PublicName, all_public_names, public_methods

_NAME_IN_CODE = re.compile(r"(?<!`)`([A-Za-z_]\w*)`(?!`)")


def name_links() -> Dict[str, str]:
    """The full name of each public name, to link where a docstring has it in code."""
    return {found.name: f"{found.module}.{found.name}" for found in all_public_names()}


def linked(text: str, links: Dict[str, str]) -> str:
    """Markdown whose public names lead to their entries; code blocks stay as they are."""

    def link(found: "re.Match[str]") -> str:
        name = found.group(1)
        return f"{{py:obj}}`{name} <{links[name]}>`" if name in links else found.group(0)

    lines = text.splitlines()
    return "\n".join(
        line if line.startswith("    ") else _NAME_IN_CODE.sub(link, line) for line in lines
    )


def definitions(items: List[Item]) -> str:
    """A definition list: the type and default before the text."""
    parts = []
    for item in items:
        text = ". ".join(part for part in (item.kind, item.text) if part) or "As its name says."
        parts.append(f"{code_names(item.names)}\n: {indent(text, '  ').lstrip()}\n")
    return "\n".join(parts)


def body(doc: Docstring, links: Dict[str, str]) -> str:
    """All of a docstring, its sections under bold names: an entry can have no headings."""
    parts = [doc.prose]
    if doc.parameters:
        parts += ["**Parameters**", definitions(doc.parameters)]
    if doc.returns:
        parts += ["**Returns**", doc.returns]
    if doc.raises:
        parts += ["**Raises**", definitions(doc.raises)]
    return linked("\n\n".join(part for part in parts if part), links)


def signature(function: Callable[..., Any]) -> str:
    """
    Names and defaults, without types, which the docstring has.
    """
    found = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty, default=_shown(parameter.default))
        for name, parameter in found.parameters.items()
        if name != "self"
    ]
    return str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


class _Verbatim:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _shown(default: Any) -> Any:
    """A default whose `repr` can stand in Python."""
    if default is inspect.Parameter.empty or isinstance(default, (bool, int, float, str, tuple)):
        return default
    return default if default is None else _Verbatim("...")


def entry(name: PublicName, links: Dict[str, str]) -> str:
    """A name of a page of a module, with its methods."""
    doc = body(parse(name.doc), links)
    if name.is_function:
        return directive("function", f"{name.name}{signature(name.value)}", doc)
    if not name.is_class:
        return directive("data", name.name, doc)
    methods = [
        directive(
            "property" if isinstance(member, property) else "method",
            method if isinstance(member, property) else f"{method}{signature(member)}",
            body(parse(member.__doc__ or ""), links),
        )
        for method, member in public_methods(name.value)
    ]
    return directive("class", f"{name.name}{_constructor(name.value)}", doc, methods)


def _constructor(cls: type) -> str:
    try:
        return signature(cls)
    except ValueError:  # of those that are written in C
        return ""


def directive(kind: str, argument: str, text: str, nested: Optional[List[str]] = None) -> str:
    """An entry of Sphinx's domain of Python."""
    fence = "::::" if nested is not None else ":::"
    inside = "\n\n".join([text, *(nested or [])])
    return f"{fence}{{py:{kind}}} {argument}\n\n{inside}\n{fence}"

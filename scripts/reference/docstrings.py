"""Reading docstrings, which are Markdown with `# Parameters`, `# Returns` and `# Raises`."""

import inspect
import re
from dataclasses import dataclass, field
from typing import Dict, List, Tuple

_HEADING = re.compile(r"^# (Parameters|Returns|Raises)$")
_REGISTERED = re.compile(r"\n*Registered as an? `\w+` with name.*\Z", re.DOTALL)


@dataclass(frozen=True)
class Item:
    """
    A term of a section, and what stands indented below it.

    # Parameters

    names : `List[str]`
        Of the parameters, or the error.
    kind : `str`
        After the colon: the type, and the default. May be empty.
    text : `str`
        May be empty.
    """

    names: List[str]
    kind: str
    text: str


@dataclass(frozen=True)
class Docstring:
    """
    # Parameters

    prose : `str`
        What stands before the sections, in Markdown.
    parameters, raises : `List[Item]`
    returns : `str`
        In Markdown.
    """

    prose: str
    parameters: List[Item] = field(default_factory=list)
    returns: str = ""
    raises: List[Item] = field(default_factory=list)

    @property
    def parameter_names(self) -> List[str]:
        """Of all items, in order."""
        return [name for item in self.parameters for name in item.names]

    @property
    def prose_without_registration(self) -> str:
        """The prose but for the sentence that says under which name a class is registered."""
        return _REGISTERED.sub("", self.prose)


def parse(text: str) -> Docstring:
    """The parts of a docstring, as it stands in the source."""
    sections: Dict[str, List[str]] = {"": []}
    lines = sections[""]
    for line in inspect.cleandoc(text).splitlines():
        heading = _HEADING.match(line)
        if heading:
            lines = sections[heading.group(1)] = []
        else:
            lines.append(line)
    returns = sections.get("Returns", [])
    return Docstring(
        prose=_text(sections[""]),
        parameters=_items(sections.get("Parameters", [])),
        returns=_returns(returns),
        raises=_items(sections.get("Raises", [])),
    )


def _text(lines: List[str]) -> str:
    return "\n".join(lines).strip("\n")


def _items(lines: List[str]) -> List[Item]:
    items: List[Item] = []
    for term, below in _terms(lines):
        names, _, kind = term.partition(" : ")
        items.append(Item([name.strip() for name in names.split(",")], kind, below))
    return items


def _terms(lines: List[str]) -> List[Tuple[str, str]]:
    """Each line that is not indented, with the indented ones below it."""
    terms: List[Tuple[str, List[str]]] = []
    for line in lines:
        if line and not line.startswith(" "):
            terms.append((line, []))
        elif terms:
            terms[-1][1].append(line)
    return [(term, inspect.cleandoc("\n".join(["", *below]))) for term, below in terms]


def _returns(lines: List[str]) -> str:
    """As it is, or, where terms have something indented below them, as a list."""
    if not any(line.startswith("    ") for line in lines):
        return _text(lines)
    parts: List[str] = []
    for term, below in _terms(lines):
        names, colon, kind = term.partition(" : ")
        shown = f"{code_names(names.split(','))}: {kind}" if colon else term
        if not below:
            parts.append(("- " if colon else "") + shown)
        else:
            parts.append(f"- {shown}. {' '.join(below.split())}")
    return "\n".join(parts)


def code_names(names: List[str]) -> str:
    """Names in code, with commas."""
    return ", ".join(f"`{name.strip()}`" for name in names)

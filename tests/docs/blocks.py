"""The fenced blocks of a page, and which of them run.

A block with a line `<!-- not run: WHY -->` before its fence does not run. One with a line
`<!-- file: NAME -->` before it is what a reader saves under that name.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from markdown_it import MarkdownIt

RUN = ("bash", "python", "json", "jsonnet")
FREE = ("text", "console", "html", "bibtex")
"""Languages of blocks that show something."""

_MARKER = re.compile(r"<!-- *(not run|file)\b:? *(.*?) *-->")


@dataclass(frozen=True)
class Block:
    """
    # Parameters

    page : `Path`
    line : `int`
        Of the fence, from 1.
    language : `str`
    text : `str`
    file : `str`, optional
        Under which name it is saved.
    is_run : `bool`
    """

    page: Path
    line: int
    language: str
    text: str
    file: Optional[str]
    is_run: bool

    @property
    def place(self) -> str:
        return f"{self.page.name}, line {self.line}"


def blocks_of(page: Path) -> List[Block]:
    """
    All blocks of a page but directives and those that only show something.

    # Raises

    ValueError
        If a block is neither of a language that runs nor marked, a marker has no reason, or stands
        before no block.
    """
    found = []
    marker: Optional[re.Match[str]] = None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.map is None:
            continue
        line = token.map[0] + 1
        if marker is not None and token.type != "fence":
            raise ValueError(f"{page.name}, line {line}: wanted a block below {marker.group(0)}")
        if token.type == "html_block":
            marker = _marker(token.content, f"{page.name}, line {line}")
        elif token.type == "fence":
            language = token.info.split()[0] if token.info.strip() else ""
            if marker is not None or not _is_shown(language):
                found.append(_block(page, line, language, token.content, marker))
            marker = None
    if marker is not None:
        raise ValueError(f"{page.name}: wanted a block below {marker.group(0)}")
    return found


def _marker(html: str, place: str) -> Optional["re.Match[str]"]:
    marker = _MARKER.match(html.strip())
    if marker is not None and not marker.group(2):
        wanted = "a reason" if marker.group(1) == "not run" else "a name"
        raise ValueError(f"{place}: wanted {wanted} in {marker.group(0)}")
    return marker


def _is_shown(language: str) -> bool:
    return language in FREE or language.startswith("{")


def _block(
    page: Path, line: int, language: str, text: str, marker: Optional["re.Match[str]"]
) -> Block:
    kind = None if marker is None else marker.group(1)
    if language not in RUN and kind is None:
        raise ValueError(
            f"{page.name}, line {line}: the block's language is {language!r}: wanted one of those "
            f"that run, {', '.join(RUN)}, or that show something, {', '.join(FREE)}, or a line "
            "<!-- not run: WHY --> before it"
        )
    file = marker.group(2) if marker is not None and kind == "file" else None
    return Block(page, line, language, text, file, is_run=kind != "not run")

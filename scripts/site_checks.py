"""What Sphinx does not check of the site: links of the files beside it, and where it loads from."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set, Tuple

from markdown_it import MarkdownIt

_ELSEWHERE = re.compile(r"(?:[a-z]+:)?//|mailto:")
_ID = re.compile(r"<[^>]*\b(?:id|name)=[\"']([^\"']+)[\"']")
_LOADED_BY_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)")
# By tag, the attribute that names what a browser loads by itself. A link that is followed is none.
_LOADED = {
    **dict.fromkeys(("script", "img", "iframe", "source", "audio", "video", "embed"), "src"),
    "link": "href",
    "object": "data",
}


def dead_links(page: Path) -> List[str]:
    """Links of a Markdown file to files that are not there, or to anchors that they have not."""
    found = []
    for line, link in _links(page.read_text(encoding="utf-8")):
        if _ELSEWHERE.match(link):
            continue
        name, _, anchor = link.partition("#")
        path = page.parent / name if name else page
        if not path.exists():
            found.append(f"{page.name}, line {line}: there is no file {name}")
        elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
            found.append(f"{page.name}, line {line}: {name or page.name} has no anchor {anchor}")
    return found


def _links(text: str) -> Iterator[Tuple[int, str]]:
    for token in MarkdownIt().enable("table").parse(text):
        for child in token.children or []:
            link = child.attrGet("href") or child.attrGet("src")
            if link:
                yield (token.map or [0])[0] + 1, str(link)


def anchors(text: str) -> Set[str]:
    """Those of the headings of a Markdown file, as GitHub and the site make them, and its ids."""
    found: Set[str] = set(_ID.findall(text))
    tokens = MarkdownIt().enable("table").parse(text)
    for token, inline in zip(tokens, tokens[1:]):
        if token.type == "heading_open":
            shown = "".join(child.content for child in inline.children or [])
            slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
            same = sum(1 for anchor in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", anchor))
            found.add(f"{slug}-{same}" if slug in found else slug)
    return found


class _Loaded(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: List[str] = []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        given: Dict[str, Optional[str]] = dict(attrs)
        address = given.get(_LOADED.get(tag, ""))
        if address and _ELSEWHERE.match(address):
            self.addresses.append(address)


def loaded_from_elsewhere(site: Path) -> List[str]:
    """What the pages and style sheets of a site have browsers load from other servers."""
    found = []
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            parser = _Loaded()
            parser.feed(path.read_text(encoding="utf-8"))
            addresses = parser.addresses
        elif path.suffix == ".css":
            addresses = _LOADED_BY_CSS.findall(path.read_text(encoding="utf-8"))
        else:
            continue
        found += [f"{path.relative_to(site)} loads {address}" for address in addresses]
    return found

"""Reading a tar file once, from its beginning to its end, in little memory.

Python's `tarfile` reads headers of any size at once, goes back for links, and makes files larger
than what is stored of them. Here a header is bounded, each byte is read once, and what a model's
archive does not need is refused.
"""

import tarfile
from typing import IO, Any, Dict, Iterator, List, NamedTuple, Optional

BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20

_FILES = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
_LINKS = {tarfile.LNKTYPE, tarfile.SYMTYPE}
_LONG_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_ATTRIBUTES = {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE}
_DEVICES = {tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE}

_USED = ("path", "linkpath", "size")
_SPARSE = "GNU.sparse"


class Refused(ValueError):
    """A member that an archive may not have; says why, and what was wanted."""


class Unreadable(ValueError):
    """What is no tar file; says what was found."""


class CutOff(ValueError):
    """The file ends before the archive does."""


class Member(NamedTuple):
    """A file, folder or link."""

    name: str
    """As it is written."""
    kind: str
    """ "file", "folder", "hard link" or "soft link"."""
    size: int
    """Of a file, in bytes."""
    link: str
    """What a link leads to, as it is written."""


class TarStream:
    """
    The members of a tar file, in its order; after each, `copy_content` gives a file's content.

    # Parameters

    file : a binary file
        Its content, without compression. Only `read` is used.
    max_header : `int`
        How many bytes a header may have beyond the 512 that each member has.

    # Raises

    Refused
        At a member that is neither file, folder nor link, or stored in another way than whole, or
        whose header is too large.
    Unreadable
        If it is no tar file.
    CutOff
        If the file ends in between.
    """

    def __init__(self, file: Any, max_header: int) -> None:
        self._file = file
        self._max_header = max_header
        self._unread = 0  # bytes of the content of the last member
        self._padding = 0
        self._is_start = True

    def __iter__(self) -> Iterator[Member]:
        while True:
            self._skip_content()
            member = self._next()
            if member is None:
                break
            yield member
        while self._file.read(_CHUNK):  # so that a checksum at the end is compared, too
            pass

    def copy_content(self, target: IO[bytes]) -> None:
        """Writes what the last member has."""
        while self._unread:
            chunk = self._read(min(self._unread, _CHUNK))
            self._unread -= len(chunk)
            target.write(chunk)

    def _next(self) -> Optional[Member]:
        attributes: Dict[str, str] = {}
        headers = 0
        while True:
            header = self._header()
            if header is None:
                if headers:
                    raise CutOff("a header without its member")
                return None
            if header.type not in _LONG_NAMES and header.type not in _ATTRIBUTES:
                return self._member(header, attributes)
            headers += 1
            if header.size > self._max_header or headers > 8:
                raise Refused(
                    f"its member {header.name[:100]!r} has headers of {header.size:,} bytes or "
                    f"more: wanted at most {self._max_header:,}, and few of them"
                )
            content = self._read_padded(header.size)
            if header.type in _LONG_NAMES:
                name = content.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
                attributes[_LONG_NAMES[header.type]] = name
                continue
            found = _records(content, header.name)
            if header.type != tarfile.XGLTYPE:
                attributes.update({key: found[key] for key in _USED if key in found})
            elif any(key in found for key in _USED):
                raise Refused(
                    f"its header {header.name[:100]!r} has a name or a size for all members: "
                    "wanted one for each"
                )

    def _header(self) -> Optional[tarfile.TarInfo]:
        block = self._read(BLOCK, is_start=self._is_start)
        self._is_start = False
        if not block.strip(b"\0"):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise Unreadable(f"wanted a model.tar.gz. {error}") from error
        if header.size < 0:
            raise Unreadable(f"its member {header.name!r} has a size below 0: wanted a tar file")
        return header

    def _member(self, header: tarfile.TarInfo, attributes: Dict[str, str]) -> Member:
        name = attributes.get("path", header.name)
        link = attributes.get("linkpath", header.linkname)
        if header.type in _DEVICES:
            raise Refused(
                f"its member {name!r} is a device or a pipe: wanted files and folders only"
            )
        if header.type in _LINKS:
            kind = "hard link" if header.type == tarfile.LNKTYPE else "soft link"
            return Member(name, kind, 0, link)
        if header.type == tarfile.DIRTYPE:
            return Member(name, "folder", 0, "")
        if header.type not in _FILES:
            stored = "stored with holes" if header.type == tarfile.GNUTYPE_SPARSE else "of no type"
            raise Refused(f"its member {name!r} is {stored} that is read here: wanted whole files")
        size = _size(attributes["size"], name) if "size" in attributes else header.size
        self._unread, self._padding = size, -size % BLOCK
        return Member(name, "file", size, "")

    def _skip_content(self) -> None:
        remaining = self._unread + self._padding
        self._unread = self._padding = 0
        while remaining:
            remaining -= len(self._read(min(remaining, _CHUNK)))

    def _read_padded(self, size: int) -> bytes:
        return self._read(size + -size % BLOCK)[:size]

    def _read(self, size: int, is_start: bool = False) -> bytes:
        parts: List[bytes] = []
        while size:
            part = self._file.read(size)
            if not part and is_start and parts:
                raise Unreadable("wanted a model.tar.gz. It is shorter than any")
            if not part:
                raise CutOff("unexpected end of data")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _records(content: bytes, name: str) -> Dict[str, str]:
    """What a PAX header has, records of "LENGTH KEY=VALUE" and a line break."""
    found = {}
    while content.strip(b"\0"):
        length, space, _ = content[:20].partition(b" ")
        end = int(length) if length.isdigit() and space else 0
        record = content[len(length) + 1 : end]
        key, equals, value = record.partition(b"=")
        if not 0 < end <= len(content) or not equals or not value.endswith(b"\n"):
            raise Unreadable(f"its header {name[:100]!r} has no attributes: wanted a tar file")
        text = key.decode("utf-8", "replace")
        if text.startswith(_SPARSE):
            raise Refused(
                f"its member {name[:100]!r} is stored with holes, as a sparse file: wanted whole "
                "files"
            )
        found[text] = value[:-1].decode("utf-8", "surrogateescape")
        content = content[end:]
    return found


def _size(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Unreadable(f"its member {name!r} has the size {text[:50]!r}: wanted a number")
    return int(text)

"""Extracting an archive: only files and folders, inside of one folder, and not too much of them."""

import gzip
import posixpath
import shutil
import tempfile
import unicodedata
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Dict, Iterator, Optional

from sledgehammer_allennlp.archives.limits import VARIABLE, Limits, limits_of_environment
from sledgehammer_allennlp.archives.names import path_problem
from sledgehammer_allennlp.archives.tar_stream import (
    CutOff,
    Member,
    Refused,
    TarStream,
    Unreadable,
)
from sledgehammer_allennlp.encoders.archived_files import StrPath
from sledgehammer_allennlp.files import check_regular, temporary_folder

_FOR_HEADERS = 64 << 20


@contextmanager
def archive_folder(archive: StrPath, limits: Optional[Limits] = None) -> Iterator[Path]:
    """
    The folder of an archive's content, as long as this lasts; a folder is taken as it is.

    # Parameters

    archive : `str`
    limits : `Limits`, optional (default = those of the environment)

    # Raises

    ValueError
        If there is no archive, it cannot be read, or a member of it is refused: see `extract`.
    """
    path = Path(archive)
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise ValueError(f"there is no archive '{archive}': wanted a model.tar.gz")
    with temporary_folder() as folder:
        extract(path, folder, limits)
        yield folder


def extract(archive: Path, folder: Path, limits: Optional[Limits] = None) -> None:
    """
    Writes an archive's files into a folder that is empty. No mode, owner or link is taken over: in
    place of a link to a file before it comes a copy of that file. Of members of one name the last
    counts.

    # Raises

    ValueError
        If the archive cannot be read, is cut off or damaged, has more than `limits`, or a member
        that is neither a file nor a folder nor such a link, or has a name that leads elsewhere or
        differs from another only in case.
    """
    limits = limits or limits_of_environment()
    check_regular(str(archive))
    try:
        with open(archive, "rb") as packed:
            _Extraction(archive, folder, limits).run(packed)
    except (EOFError, zlib.error, gzip.BadGzipFile, CutOff) as error:
        raise ValueError(
            f"cannot read the archive '{archive}': it is cut off or damaged, as if training had "
            "been interrupted while it was written, or a copy: wanted the whole file. `allennlp "
            f"train` with --recover makes it anew from the folder of the run. ({error})"
        ) from error
    except Unreadable as error:
        raise ValueError(f"cannot read the archive '{archive}': {error}") from error
    except Refused as error:
        raise ValueError(f"the archive '{archive}' is refused: {error}") from error


class _Extraction:
    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self.limits = limits
        self.max_bytes = limits.unpacked(archive.stat().st_size)
        self.free = shutil.disk_usage(folder).free
        self.total = 0
        self.sizes: Dict[str, int] = {}  # of the files
        self.names: Dict[str, str] = {}  # by how systems compare them that know no case

    def run(self, packed: IO[bytes]) -> None:
        start = packed.read(2)
        packed.seek(0)
        if not start:
            raise CutOff("empty file")
        unpacked: Any = gzip.GzipFile(fileobj=packed) if start == b"\x1f\x8b" else packed
        stream = TarStream(
            _Bounded(unpacked, self.max_bytes + _FOR_HEADERS),
            self.limits.max_header,
        )
        for number, member in enumerate(stream, start=1):
            self.write(member, number, stream)

    def write(self, member: Member, number: int, stream: TarStream) -> None:
        """Checks a member and writes it."""
        named = f"its member {member.name!r}"
        if number > self.limits.max_members:
            raise Refused(f"{named} is number {number:,}: wanted at most {number - 1:,}")
        name = posixpath.normpath(member.name)
        reason = path_problem(name)
        if reason:
            named = named if len(named) < 300 else f"{named[:300]}..."
            raise Refused(f"{named} {reason}: wanted a name inside of the archive")
        self.check_case(name, named)
        source = self.linked(member, name, named) if "link" in member.kind else None
        if member.kind != "folder":
            self.check_size(member.size if source is None else self.sizes[source], named)
        try:
            self.put(member, name, source, stream)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise Unreadable(
                f"{named} is in the way of another: wanted names that differ. {error}"
            ) from error
        except OSError as error:
            raise Unreadable(
                f"{named} cannot be written into '{tempfile.gettempdir()}', where it is unpacked: "
                f"wanted room for it. {error}"
            ) from error

    def put(self, member: Member, name: str, source: Optional[str], stream: TarStream) -> None:
        path = self.folder / name
        if member.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if source == name:
            return
        path.unlink(missing_ok=True)
        if source is not None:
            shutil.copyfile(self.folder / source, path)
            self.sizes[name] = self.sizes[source]
            return
        with open(path, "xb") as target:
            stream.copy_content(target)
        self.sizes[name] = member.size

    def linked(self, member: Member, name: str, named: str) -> str:
        """The file before it that a link leads to."""
        start = "" if member.kind == "hard link" else posixpath.dirname(name)
        target = posixpath.normpath(posixpath.join(start, member.link))
        if target not in self.sizes:
            raise Refused(
                f"{named} is a link to {member.link!r}: wanted files and folders, and links to "
                "files before them"
            )
        return target

    def check_size(self, size: int, named: str) -> None:
        self.total += size
        takes = f"{named} takes all files together to {self.total:,} bytes"
        if self.total > self.max_bytes:
            raise Refused(
                f"{takes}: wanted at most {self.max_bytes:,} for an archive of this size. If you "
                f"know who made it, the environment variable {VARIABLE} sets how many it may have"
            )
        if self.total > self.free:
            raise Refused(
                f"{takes}: wanted at most the {self.free:,} that are free in "
                f"'{tempfile.gettempdir()}'"
            )

    def check_case(self, name: str, named: str) -> None:
        """Of two such names, some systems would make one file."""
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            path = "/".join(parts[:end])
            folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
            other = self.names.setdefault(folded, path)
            if other != path:
                raise Refused(
                    f"{named} differs from {other!r} only in case or in how letters are written: "
                    "wanted names that differ on any system"
                )


class _Bounded:
    """A file that ends with an error after so many bytes, whatever they are."""

    def __init__(self, file: Any, max_bytes: int) -> None:
        self.file = file
        self.remaining = self.max_bytes = max_bytes

    def read(self, size: int) -> bytes:
        content = self.file.read(size)
        self.remaining -= len(content)
        if self.remaining < 0:
            raise Refused(
                f"it has more than {self.max_bytes:,} bytes unpacked: wanted fewer for an archive "
                "of this size"
            )
        return content

"""Extracting an archive: only files and folders, inside of one folder."""

import gzip
import lzma
import posixpath
import shutil
import tarfile
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, Tuple

from sledgehammer_allennlp.archives.names import path_problem
from sledgehammer_allennlp.encoders.archived_files import StrPath

MAX_MEMBERS = 10_000


@contextmanager
def archive_folder(archive: StrPath) -> Iterator[Path]:
    """
    The folder of an archive's content, as long as this lasts; a folder is taken as it is.

    # Raises

    ValueError
        If there is no archive, it cannot be read, or a member of it is refused: see
        `checked_members`.
    """
    path = Path(archive)
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise ValueError(f"there is no archive '{archive}': wanted a model.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        extract(path, Path(folder))
        yield Path(folder)


def extract(archive: Path, folder: Path) -> None:
    """
    Writes an archive's files into a folder that is empty.

    # Raises

    ValueError
        As `archive_folder` does.
    """
    with opened(archive) as tar:
        try:
            for name, member in checked_members(tar, archive, shutil.disk_usage(folder).free):
                if member.isdir():
                    (folder / name).mkdir(parents=True, exist_ok=True)
                    continue
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                # No mode, owner or link is taken over. Of members of one name the last counts.
                (folder / name).unlink(missing_ok=True)
                with source, open(folder / name, "xb") as target:
                    shutil.copyfileobj(source, target)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise ValueError(
                f"cannot read the archive '{archive}': its member '{name}' is in the way of "
                f"another: wanted names that differ. {error}"
            ) from error


@contextmanager
def opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """
    # Raises

    ValueError
        If the archive cannot be read, also later while it is.
    """
    # What is done meanwhile may raise errors of writing, which are left as they are.
    try:
        with tarfile.open(archive) as tar:
            yield tar
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(_cut_off(archive, error)) from error
    except tarfile.TarError as error:
        if "unexpected end of data" in str(error) or archive.stat().st_size == 0:
            raise ValueError(_cut_off(archive, error)) from error
        raise ValueError(
            f"cannot read the archive '{archive}': wanted a model.tar.gz. {error}"
        ) from error


def _cut_off(archive: Path, error: Exception) -> str:
    return (
        f"cannot read the archive '{archive}': it is cut off or damaged, as if training had been "
        "interrupted while it was written, or a copy: wanted the whole file. `allennlp train` "
        f"with --recover makes it anew from the folder of the run. ({error})"
    )


def checked_members(
    tar: tarfile.TarFile, archive: StrPath, max_size: float = float("inf")
) -> Iterator[Tuple[str, tarfile.TarInfo]]:
    """
    The files and folders of an archive, in its order, with their normalised names. In place of a
    link to a file before it comes that file, so that links need never be made.

    # Parameters

    tar : `tarfile.TarFile`
    archive : `str`
        What it is called in error messages.
    max_size : `float`, optional (default = any)
        How many bytes all files may have together.

    # Raises

    ValueError
        At the first member that is neither a file nor a folder nor such a link, has a name that
        leads elsewhere, or is one too many, naming it.
    """
    files: Dict[str, tarfile.TarInfo] = {}
    size = 0
    for number, member in enumerate(tar, start=1):
        refused = f"the archive '{archive}' is refused: its member {member.name!r}"
        if number > MAX_MEMBERS:
            raise ValueError(f"{refused} is number {number:,}: wanted at most {MAX_MEMBERS:,}")
        name = posixpath.normpath(member.name)
        reason = path_problem(name)
        if reason:
            raise ValueError(f"{refused} {reason}: wanted a name inside of the archive")
        content = member
        if member.islnk() or member.issym():
            start = "" if member.islnk() else posixpath.dirname(name)
            target = posixpath.normpath(posixpath.join(start, member.linkname))
            if target not in files:
                raise ValueError(
                    f"{refused} is a link to {member.linkname!r}: wanted files and folders, and "
                    "links to files before them"
                )
            content = files[target]
        elif not member.isfile() and not member.isdir():
            raise ValueError(f"{refused} is a device or a pipe: wanted files and folders only")
        if not member.isdir():
            files[name] = content
            size += content.size
        if size > max_size:
            raise ValueError(
                f"{refused} takes all files together to {size:,} bytes: wanted at most the "
                f"{int(max_size):,} that are free in '{tempfile.gettempdir()}'"
            )
        yield name, content

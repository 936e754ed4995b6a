"""Which files are read: those that a user names, by path, folder, pattern or URL."""

import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import fsspec

from sledgehammer_allennlp.bulk.formats import (
    COMPRESSION_OF_SUFFIX,
    FORMAT_OF_SUFFIX,
    format_and_compression,
)

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "ETag", "etag")
_WANTED = f"wanted names that end in {', '.join(FORMAT_OF_SUFFIX)}, with or without "
_WANTED += f"{', '.join(COMPRESSION_OF_SUFFIX)}, or --input-format"


class InputFile(NamedTuple):
    """
    A file of rows.

    # Parameters

    url : `str`
        An absolute path, or a URL that fsspec opens.
    format : `str`
        One of `FORMATS`.
    compression : `str`, optional
        By fsspec's name.
    """

    url: str
    format: str
    compression: Optional[str]

    def open(self) -> Any:
        """A binary file of its content, decompressed."""
        return fsspec.open(self.url, "rb", compression=self.compression).open()

    def state(self) -> Dict[str, Any]:
        """Its `size` in bytes and when it was `modified`, by which a changed file is noticed."""
        filesystem, path = fsspec.core.url_to_fs(self.url)
        info = filesystem.info(path)
        times = [str(info[key]) for key in _TIMES if info.get(key) is not None]
        return {"size": info["size"], "modified": times[0] if times else None}


def find_inputs(names: Sequence[str], format_: Optional[str] = None) -> List[InputFile]:
    """
    The files of paths, folders, patterns (`*`, `?`, `[`) and URLs: names in the order given, what a
    folder or a pattern has in the order of its paths.

    # Parameters

    names : `Sequence[str]`
    format_ : `str`, optional (default = by each file's name)
        One of `FORMATS`.

    # Raises

    ValueError
        If a name finds nothing, a file is found twice, or its format is not known.
    """
    found: Dict[str, InputFile] = {}
    for name in names:
        for url in _urls(name, format_ is not None):
            if url in found:
                raise ValueError(f"the input {url!r} is named twice: wanted each once")
            found[url] = _input_file(url, format_)
    return list(found.values())


def _urls(name: str, any_suffix: bool) -> List[str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"cannot read the input {name!r}: {error}") from error
    if filesystem.isfile(path):
        paths = [path]
    elif filesystem.isdir(path):
        paths = [
            one
            for one in filesystem.find(path)
            if not _is_hidden(one[len(path) :]) and (any_suffix or format_and_compression(one)[0])
        ]
    elif any(letter in path for letter in "*?["):
        paths = [one for one in filesystem.glob(path) if filesystem.isfile(one)]
    else:
        raise ValueError(f"there is no input {name!r}: wanted a file, a folder or a pattern")
    if not paths:
        raise ValueError(f"the input {name!r} has no files: {_WANTED}")
    are_local = is_local(filesystem)
    return [
        os.path.abspath(one) if are_local else filesystem.unstrip_protocol(one)
        for one in sorted(paths)
    ]


def is_local(filesystem: Any) -> bool:
    """Whether a file system of fsspec is this machine's."""
    protocol = filesystem.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _is_hidden(path_in_folder: str) -> bool:
    return any(part.startswith((".", "_")) for part in path_in_folder.split("/"))


def _input_file(url: str, format_: Optional[str]) -> InputFile:
    by_name, compression = format_and_compression(url)
    format_ = format_ or by_name
    if format_ is None:
        raise ValueError(f"the format of the input {url!r} is not known: {_WANTED}")
    if format_ == "parquet" and compression is not None:
        raise ValueError(f"the input {url!r} is Parquet in {compression}: wanted Parquet alone")
    return InputFile(url, format_, compression)

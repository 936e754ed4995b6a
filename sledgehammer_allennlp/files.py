"""Writing files that are there whole or not at all, and what can be read."""

import os
import re
import stat
from pathlib import Path
from typing import Any, Callable


def check_regular(path: str) -> None:
    """
    Nothing is opened: a pipe without a writer would never answer, and a device never end.

    # Raises

    ValueError
        If what is at the path is neither a file nor a link to one.
    OSError
        If there is nothing.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise ValueError(f"'{path}' is {kind}: wanted a file")


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """
    Writes a file beside `path` and renames it, so that `path` is never half written.

    # Parameters

    path : `Path`
    write : `Callable[[Path], Any]`
        Writes to the path it is given.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text_whole(path: Path, text: str) -> None:
    """The same for a text, in UTF-8 and with its own line breaks."""
    write_whole(path, lambda beside: beside.write_bytes(text.encode("utf-8")))


def remove_unfinished(folder: Path) -> None:
    """Removes what a process that was killed in `write_whole` has left in a folder."""
    for path in folder.glob(".*.new"):
        if re.fullmatch(r"\..+\.\d+\.new", path.name):
            path.unlink()

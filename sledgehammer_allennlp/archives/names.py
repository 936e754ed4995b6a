"""Which names a config or a member of an archive may have, where files are read or written by them.

A name may lead to a file inside of the archive's folder and nowhere else, on any system: whoever
checks an archive may not be whoever loads it.
"""

import posixpath
import re
from typing import Any, Optional

MAX_PART = 200
"""Bytes of a file's or folder's name; systems take 255, and ours gets a digest or an ending."""

MAX_PATH = 1_000
"""Bytes of a path inside of an archive."""

MAX_DEPTH = 30
"""Folders within folders."""

_DRIVE = re.compile(r"[A-Za-z]:")


def path_problem(path: Any) -> Optional[str]:
    """Why a path with forward slashes leads to no place inside of a folder, if it does not."""
    if not isinstance(path, str):
        return "is no text"
    if "\0" in path or "\\" in path or posixpath.isabs(path) or _DRIVE.match(path):
        return "would be elsewhere"
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        return "would be elsewhere"
    if len(_bytes(path)) > MAX_PATH or any(len(_bytes(part)) > MAX_PART for part in parts):
        return f"is too long for a name: of {len(path):,} characters"
    if len(parts) > MAX_DEPTH:
        return f"is in too many folders: {len(parts) - 1:,}"
    return None


def name_problem(name: Any) -> Optional[str]:
    """The same for the name of one file, which has no folders."""
    problem = path_problem(name)
    if problem is None and (not name or "/" in name or name == "."):
        return "would be elsewhere"
    return problem


def model_name_problem(name: Any) -> Optional[str]:
    """
    Why the name of a pretrained model cannot be that of a folder in an archive, see
    `archived_folder`. It may be a path of any system, of which only the last part is used.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        return "is no name"
    if len(_bytes(posixpath.basename(name))) > MAX_PART or len(name) > MAX_PATH:
        return f"is too long for a name: of {len(name):,} characters"
    return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")

"""The copy of `multi_exit.libsonnet` beside a config, and how both are written."""

from contextlib import suppress
from pathlib import Path
from typing import Dict, Optional

from sledgehammer_allennlp.configs import SETTINGS_FILE
from sledgehammer_allennlp.files import write_text_whole

_HEAD = "// Copied by new-config from sledgehammer_allennlp "


def settings_text(version: str) -> str:
    """The library of settings, with a line before it that says where it is from."""
    head = f"{_HEAD}{version}. It stays as it is when the package is upgraded.\n//\n"
    return head + SETTINGS_FILE.read_text(encoding="utf-8")


def has_same_settings(path: Path, text: str) -> bool:
    """Whether a file is such a copy, of whatever version and with whatever line ends."""
    try:
        found = path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return False
    return _without_head(found) == _without_head(text)


def _without_head(text: str) -> str:
    if not text.startswith(_HEAD):
        return text
    return text.split("\n//\n", 1)[-1]


def write_together(texts: Dict[Path, str]) -> None:
    """
    Writes files whole, and all of them or none: if one cannot be written, those before it are as
    they were.
    """
    before: Dict[Path, Optional[bytes]] = {}
    try:
        for path, text in texts.items():
            content = path.read_bytes() if path.exists() else None
            write_text_whole(path, text)
            before[path] = content
    except BaseException:
        for path, content in before.items():
            with suppress(OSError):
                if content is None:
                    path.unlink()
                else:
                    path.write_bytes(content)
        raise

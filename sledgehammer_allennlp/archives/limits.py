"""How much an archive may have, so that reading it takes bounded time, memory and disk."""

import os
from typing import NamedTuple

VARIABLE = "SLEDGEHAMMER_MAX_ARCHIVE_BYTES"
"""The environment variable that sets how many bytes an archive may have, at any ratio."""


class Limits(NamedTuple):
    """Upper bounds of what an archive may have; what is beyond is refused."""

    max_bytes: int = 16 << 30
    """Unpacked, all files together. A large pretrained model is of 2 GB."""
    max_ratio: int = 100
    """Unpacked bytes for each byte of the archive; weights are hardly compressed."""
    any_ratio: int = 64 << 20
    """Unpacked bytes that an archive may have at any ratio."""
    max_members: int = 10_000
    """Files, folders and links."""
    max_header: int = 1 << 20
    """Bytes of a header beyond a member's 512: of a long name or of attributes."""

    def unpacked(self, packed: int) -> int:
        """How many bytes an archive of `packed` bytes may unpack to."""
        return min(self.max_bytes, max(self.any_ratio, self.max_ratio * packed))


def limits_of_environment() -> Limits:
    """
    The limits, with what the environment sets.

    # Raises

    ValueError
        If it sets no number of bytes.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return Limits()
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValueError(f"{VARIABLE} is {text[:100]!r}: wanted a number of bytes")
    return Limits(max_bytes=int(text), any_ratio=int(text))

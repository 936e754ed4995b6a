"""Formats of files of rows, and how names of files tell them. Needs no library of the extra."""

import os
from typing import Optional, Tuple

FORMATS = ("jsonl", "csv", "tsv", "txt", "parquet")
FORMAT_OF_SUFFIX = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
    ".parquet": "parquet",
    ".pq": "parquet",
}
COMPRESSION_OF_SUFFIX = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
"""By fsspec's names."""


def format_and_compression(name: str) -> Tuple[Optional[str], Optional[str]]:
    """One of `FORMATS`, and the compression, by a file's name; `None` where it does not tell."""
    rest, last = os.path.splitext(name.lower())
    compression = COMPRESSION_OF_SUFFIX.get(last)
    if compression is not None:
        last = os.path.splitext(rest)[1]
    return FORMAT_OF_SUFFIX.get(last), compression

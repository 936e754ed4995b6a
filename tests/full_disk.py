"""Files that cannot be longer than some size, as on a disk that gets full."""

import resource
import sys
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """In this process, and those that it starts."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # What Python compiles would be cut off, too, and read by other processes.
    wrote_no_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sys.dont_write_bytecode = wrote_no_bytecode

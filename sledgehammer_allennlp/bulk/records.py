"""Where the records of a file of lines begin and end.

A record is a line; in CSV a line break between quotes is part of a record (RFC 4180).
"""

from typing import BinaryIO, Iterator, List, Optional

import numpy as np

MAX_RECORD_BYTES = 2**24
"""A longer record is not held in memory: it is a bad row."""

_CHUNK_BYTES = 2**20
_LINE_BREAK, _CARRIAGE_RETURN, _QUOTE = b'\n\r"'


class RecordEnds:
    """
    Finds the ends of records in the chunks of a file, given one after the other.

    # Parameters

    delimiter : `str`, optional (default = `None`)
        Of CSV: a quote begins a quoted field at a record's start or after a delimiter. `None`:
        every line break ends a record.
    """

    def __init__(self, delimiter: Optional[str] = None) -> None:
        self._before_a_field = None if delimiter is None else (_LINE_BREAK, ord(delimiter))
        self._is_quoted = False
        self._last_byte = _LINE_BREAK
        self._has_just_closed = False

    def of(self, chunk: bytes) -> "np.ndarray":
        """The positions in the chunk after each line break that ends a record, ascending."""
        codes = np.frombuffer(chunk, dtype=np.uint8)
        ends = np.flatnonzero(codes == _LINE_BREAK) + 1
        if self._before_a_field is None or not chunk:
            return ends
        turns = self._turns(chunk, np.flatnonzero(codes == _QUOTE).tolist())
        self._last_byte = chunk[-1]
        if not turns:
            return ends[:0] if self._is_quoted else ends
        was_quoted = self._is_quoted ^ (len(turns) % 2 == 1)
        is_inside = (np.searchsorted(turns, ends) % 2 == 1) ^ was_quoted
        return ends[~is_inside]

    def _turns(self, chunk: bytes, quotes: List[int]) -> List[int]:
        """The quotes that open or close; a doubled one closes and opens again."""
        assert self._before_a_field is not None
        turns = []
        closed_at = -1 if self._has_just_closed else -2
        for quote in quotes:
            before = chunk[quote - 1] if quote else self._last_byte
            if self._is_quoted:
                self._is_quoted, closed_at = False, quote
            elif before in self._before_a_field or closed_at == quote - 1:
                self._is_quoted = True
            else:
                continue  # A quote within a field stands for itself.
            turns.append(quote)
        self._has_just_closed = closed_at == len(chunk) - 1
        return turns


def iter_records(
    file: BinaryIO, ends: RecordEnds, num_bytes: Optional[int] = None
) -> Iterator[Optional[bytes]]:
    """
    The records in the next bytes of a file, without their line breaks; `None` for one that is too
    long.

    # Parameters

    file : `BinaryIO`
    ends : `RecordEnds`
        New.
    num_bytes : `int`, optional (default = up to the end of the file)

    # Raises

    ValueError
        If the file ends before.
    """
    pending: List[bytes] = []
    num_pending = 0
    while num_bytes is None or num_bytes > 0:
        chunk = file.read(_CHUNK_BYTES if num_bytes is None else min(_CHUNK_BYTES, num_bytes))
        if not chunk:
            if num_bytes is not None:
                raise ValueError(f"the file has {num_bytes} bytes less than it had")
            break
        if num_bytes is not None:
            num_bytes -= len(chunk)
        start = 0
        for end in ends.of(chunk).tolist():
            if num_pending == 0:
                record: Optional[bytes] = chunk[start:end]
            elif num_pending + end - start <= MAX_RECORD_BYTES:
                record = b"".join([*pending, chunk[start:end]])
            else:
                record = None
            yield record and _without_line_break(record)
            pending, num_pending, start = [], 0, end
        num_pending += len(chunk) - start
        pending = [*pending, chunk[start:]] if num_pending <= MAX_RECORD_BYTES else []
    if num_pending:
        yield b"".join(pending) if num_pending <= MAX_RECORD_BYTES else None


def _without_line_break(record: bytes) -> bytes:
    record = record[:-1]
    return record[:-1] if record.endswith(b"\r") else record

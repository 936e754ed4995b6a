"""Files of lines: JSON lines, CSV, TSV and plain text, compressed or not."""

import csv
import json
from itertools import islice
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, Optional

import pyarrow as pa

from sledgehammer_allennlp.bulk.columns import Columns, type_of_values
from sledgehammer_allennlp.bulk.inputs import InputFile
from sledgehammer_allennlp.bulk.parts import PartRange
from sledgehammer_allennlp.bulk.records import MAX_RECORD_BYTES, RecordEnds, iter_records
from sledgehammer_allennlp.bulk.rows import RowBatch, RowBatchBuilder
from sledgehammer_allennlp.values import short_repr

TEXT_COLUMN = "text"
"""What the only column of plain text is called."""

NUM_SAMPLED = 1000
"""So many rows of JSON lines tell the columns."""

_MARK = b"\xef\xbb\xbf"
_MAX_PART_BYTES = 2**26
_CHUNK_BYTES = 2**22


class LineFile:
    """
    A file of lines, of which parts can be read by byte ranges. A file that is compressed is
    decompressed up to the part; it is then left open, and the next part goes on from there.

    # Parameters

    input_file : `InputFile`

    # Raises

    ValueError
        With the file's name, if it cannot be read, or a CSV or TSV file has no header.
    """

    def __init__(self, input_file: InputFile) -> None:
        self.name = input_file.url
        self._input = input_file
        self._opened: Optional[BinaryIO] = None
        self._mark_bytes = 0
        self._header: List[str] = []
        self._read_start()

    def _ends(self) -> RecordEnds:
        return RecordEnds("," if self._input.format == "csv" else None)

    @property
    def _has_header(self) -> bool:
        return self._input.format in ("csv", "tsv")

    def _read_start(self) -> None:
        with self._input.open() as file:
            if file.read(len(_MARK)) == _MARK:
                self._mark_bytes = len(_MARK)
        self._data_start = self._mark_bytes
        if not self._has_header:
            return
        file = self._at(self._mark_bytes)
        line = self._first_record(file)
        self.close()
        try:
            self._header = self._fields(line.decode("utf-8"))
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{self.name}: cannot read the header: {error}") from error
        for name in self._header:
            if self._header.count(name) > 1:
                raise ValueError(f"{self.name}: the header has {name!r} twice: wanted it once")

    def _first_record(self, file: BinaryIO) -> bytes:
        """The header; `_data_start` is then after it."""
        ends = self._ends()
        read: List[bytes] = []
        while sum(map(len, read)) <= MAX_RECORD_BYTES:
            chunk = file.read(2**16)
            found = ends.of(chunk)
            if len(found) or not chunk:
                record = b"".join([*read, chunk[: int(found[0])] if chunk else b""])
                self._data_start = self._mark_bytes + len(record)
                if not record.strip():
                    raise ValueError(f"{self.name}: there is no header: wanted names of columns")
                return record.rstrip(b"\r\n")
            read.append(chunk)
        raise ValueError(f"{self.name}: the header has no end: wanted names of columns")

    def column_types(self) -> Dict[str, pa.DataType]:
        """The columns; of JSON lines those of the first 1,000 rows."""
        if self._has_header:
            return {name: pa.string() for name in self._header}
        if self._input.format == "txt":
            return {TEXT_COLUMN: pa.string()}
        values: Dict[str, List[Any]] = {}
        file = self._at(self._data_start)
        for record in islice(iter_records(file, self._ends()), NUM_SAMPLED):
            try:
                row = self._row(record)
            except ValueError:
                continue
            for name, value in (row or {}).items():
                values.setdefault(name, []).append(value)
        self.close()
        return {name: type_of_values(of_column) for name, of_column in values.items()}

    def plan(self, rows_per_part: int) -> List[PartRange]:
        """Parts of so many rows, or of as many bytes as one part may have."""
        parts: List[PartRange] = []
        ends, file = self._ends(), self._at(self._data_start)
        start = end = position = self._data_start
        row = 1 + self._has_header
        num_rows = 0
        while chunk := file.read(_CHUNK_BYTES):
            found = ends.of(chunk)
            taken = 0
            while taken < len(found):
                # The first record that ends after the most bytes of a part closes the part.
                limit = int(found.searchsorted(start + _MAX_PART_BYTES - position)) + 1
                take = min(rows_per_part - num_rows, len(found) - taken, max(limit - taken, 1))
                taken += take
                num_rows += take
                end = position + int(found[taken - 1])
                if num_rows == rows_per_part or end - start >= _MAX_PART_BYTES:
                    parts.append(PartRange(start, end - start, row, num_rows))
                    start, row, num_rows = end, row + num_rows, 0
            position += len(chunk)
        self.close()
        if position > start:
            # What follows the last line break is a record, too.
            parts.append(PartRange(start, position - start, row, num_rows + (position > end)))
        return parts

    def read(self, part: PartRange, columns: Columns, batch_size: int) -> Iterator[RowBatch]:
        """The rows of a part, so many at a time or fewer."""
        builder = RowBatchBuilder(columns, part.first_row)
        try:
            file = self._at(part.start)
            for record in iter_records(file, self._ends(), part.size):
                try:
                    row = self._row(record)
                except ValueError as error:
                    builder.add_bad(str(error))
                else:
                    if row is None:
                        builder.leave_out()
                    else:
                        builder.add(row)
                if builder.is_full(batch_size):
                    yield builder.build()
        except (ValueError, EOFError, OSError) as error:
            self.close()
            raise ValueError(f"cannot read {self.name}: {error}") from error
        if builder.num_rows:
            yield builder.build()

    def _at(self, position: int) -> BinaryIO:
        """The file, at a position."""
        is_compressed = self._input.compression is not None
        if is_compressed and self._opened is not None and position < self._opened.tell():
            self.close()  # Not every decompressor can go back.
        if self._opened is None:
            self._opened = self._input.open()
        self._opened.seek(position)
        return self._opened

    def close(self) -> None:
        """Closes the file, which `read` leaves open."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def _row(self, record: Optional[bytes]) -> Optional[Mapping[str, Any]]:
        """A record's values by column; `None` for a blank line where that is no text."""
        if record is None:
            raise ValueError(f"it has more than {MAX_RECORD_BYTES:,} bytes: wanted fewer")
        if self._input.format != "txt" and not record.strip():
            return None
        try:
            text = record.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not UTF-8: {error}") from error
        if self._input.format == "txt":
            return {TEXT_COLUMN: text}
        if self._input.format == "jsonl":
            return _json_object(text)
        fields = self._fields(text)
        if len(fields) != len(self._header):
            raise ValueError(
                f"it has {len(fields)} fields: wanted {len(self._header)}, one a column"
            )
        return dict(zip(self._header, fields))

    def _fields(self, text: str) -> List[str]:
        if self._input.format == "tsv":
            return text.split("\t")
        csv.field_size_limit(MAX_RECORD_BYTES)
        try:
            (fields,) = csv.reader([text])
        except csv.Error as error:
            raise ValueError(f"it is not CSV: {error}") from error
        return fields


def _json_object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {text[:100]!r}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"it is {short_repr(found)}: wanted a JSON object")
    return found

"""Files of Parquet."""

from typing import Any, Dict, Iterator, List, Optional

import pyarrow as pa
import pyarrow.parquet as pq

from sledgehammer_allennlp.bulk.columns import Columns
from sledgehammer_allennlp.bulk.inputs import InputFile
from sledgehammer_allennlp.bulk.parts import PartRange
from sledgehammer_allennlp.bulk.rows import RowBatch

_MAX_ROWS_DECODED = 4096


class ParquetFile:
    """
    A Parquet file, of which parts can be read by rows. Only the columns that are needed are read,
    some thousand rows at a time, however large a row group is. The file is left open, and the next
    part goes on from there.

    # Parameters

    input_file : `InputFile`

    # Raises

    ValueError
        With the file's name, if it cannot be read.
    """

    def __init__(self, input_file: InputFile) -> None:
        self.name = input_file.url
        self._source = input_file.open()
        try:
            self._file = pq.ParquetFile(self._source)
        except (pa.ArrowException, OSError) as error:
            self._source.close()
            raise ValueError(f"{self.name}: it is not Parquet: {error}") from error
        self._batches: Optional[Iterator[pa.RecordBatch]] = None
        self._rest: Optional[pa.RecordBatch] = None
        self._position = 0

    def close(self) -> None:
        """Closes the file."""
        self._batches = self._rest = None
        self._source.close()

    def column_types(self) -> Dict[str, pa.DataType]:
        """The columns."""
        return {field.name: field.type for field in self._file.schema_arrow}

    def plan(self, rows_per_part: int) -> List[PartRange]:
        """Parts of so many rows."""
        num_rows = self._file.metadata.num_rows
        return [
            PartRange(start, size, start + 1, size)
            for start in range(0, num_rows, rows_per_part)
            for size in [min(rows_per_part, num_rows - start)]
        ]

    def read(self, part: PartRange, columns: Columns, batch_size: int) -> Iterator[RowBatch]:
        """The rows of a part, so many at a time."""
        try:
            self._go_to(part.start, columns)
            num_left, number = part.size, part.first_row
            while num_left > 0:
                rows = self._exactly(min(num_left, batch_size))
                num_left -= rows.num_rows
                yield _row_batch(rows, columns, number)
                number += rows.num_rows
        except (pa.ArrowException, OSError) as error:
            self._batches = None
            raise ValueError(f"cannot read {self.name}: {error}") from error

    def _go_to(self, row: int, columns: Columns) -> None:
        if self._batches is None or row < self._position:
            groups = list(range(self._file.num_row_groups))
            self._position = 0
            while groups:
                size = self._file.metadata.row_group(groups[0]).num_rows
                if self._position + size > row:
                    break
                self._position += size
                groups.pop(0)
            self._rest = None
            self._batches = self._file.iter_batches(
                _MAX_ROWS_DECODED, groups, columns.read, use_threads=False
            )
        while self._position < row:
            self._next(row - self._position)

    def _exactly(self, num_rows: int) -> pa.Table:
        """The next rows, so that batches do not depend on where reading began."""
        batches = []
        while num_rows > 0:
            batches.append(self._next(num_rows))
            num_rows -= batches[-1].num_rows
        return pa.Table.from_batches(batches)

    def _next(self, num_rows: int) -> pa.RecordBatch:
        """The next rows, so many or fewer."""
        assert self._batches is not None
        batch = self._rest
        if batch is None:
            batch = next(self._batches, None)
        if batch is None:
            raise OSError("it has fewer rows than it had")
        self._rest = batch.slice(num_rows) if batch.num_rows > num_rows else None
        taken = batch.slice(0, num_rows)
        self._position += taken.num_rows
        return taken


def _row_batch(rows: pa.Table, columns: Columns, first_row: int) -> RowBatch:
    names = [columns.text]
    if columns.second_text is not None:
        names.append(columns.second_text)
    texts = [rows.column(name).to_pylist() for name in names]
    errors: Dict[int, str] = {}
    for place, values in enumerate(zip(*texts)):
        for name, value in zip(names, values):
            if not isinstance(value, str):
                error = f"row {first_row + place}: {name!r} is {_shown(value)}: wanted a text"
                errors.setdefault(place, error)
    good = [place for place in range(rows.num_rows) if place not in errors]
    if errors:
        texts = [[values[place] for place in good] for values in texts]
    return RowBatch(
        rows.num_rows,
        good,
        texts[0],
        texts[1] if len(texts) > 1 else None,
        [first_row + place for place in good],
        errors,
        [rows.column(name).combine_chunks() for name in columns.kept],
        {},
    )


def _shown(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"

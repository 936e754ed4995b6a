"""Tables of rows, whatever the format of their files, and the columns that a job reads of them."""

from typing import Dict, List, Optional, Sequence, Union

import pyarrow as pa

from sledgehammer_allennlp.bulk.columns import Columns, choose_columns
from sledgehammer_allennlp.bulk.inputs import InputFile
from sledgehammer_allennlp.bulk.line_file import LineFile
from sledgehammer_allennlp.bulk.parquet_file import ParquetFile
from sledgehammer_allennlp.bulk.parts import PartRange

Table = Union[LineFile, ParquetFile]


def open_table(input_file: InputFile) -> Table:
    """
    Opens a file of rows.

    # Raises

    ValueError
        With the file's name, if it cannot be read.
    """
    try:
        if input_file.format == "parquet":
            return ParquetFile(input_file)
        return LineFile(input_file)
    except (OSError, EOFError) as error:
        raise ValueError(f"cannot read {input_file.url}: {error}") from error


def columns_of(
    inputs: Sequence[InputFile],
    text_column: Optional[str] = None,
    second_text_column: Optional[str] = None,
    keep: Sequence[str] = (),
) -> Columns:
    """
    The columns that are read of all inputs; see `choose_columns`.

    # Raises

    ValueError
        If a file has not the columns, or one that is kept is of different types.
    """
    chosen: Optional[Columns] = None
    first = ""
    for input_file in inputs:
        table = open_table(input_file)
        types = table.column_types()
        table.close()
        if not types:
            continue  # A file without a row: of JSON lines nothing is known then.
        if chosen is None:
            first = input_file.url
            chosen = choose_columns(types, text_column, second_text_column, keep, first)
            continue
        names = list(chosen.kept)
        here = choose_columns(types, chosen.text, chosen.second_text, names, input_file.url)
        for name, type_ in here.kept.items():
            chosen.kept[name] = _common(chosen.kept[name], type_, name, first, input_file.url)
    if chosen is None:
        raise ValueError("the input has no rows: wanted some")
    return chosen


def _common(one: pa.DataType, other: pa.DataType, name: str, first: str, here: str) -> pa.DataType:
    if one == other:
        return one
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    raise ValueError(
        f"column {name!r}, which is kept, is {one} in {first}, and {other} in {here}: wanted one "
        "type"
    )


def plan_parts(
    inputs: Sequence[InputFile], rows_per_part: int, limit: Optional[int] = None
) -> List[List[PartRange]]:
    """
    The parts of each input.

    # Parameters

    inputs : `Sequence[InputFile]`
    rows_per_part : `int`
    limit : `int`, optional (default = all rows)
        How many rows there are to be, up to the end of a part.
    """
    plan: List[List[PartRange]] = []
    num_left = limit
    for input_file in inputs:
        parts: List[PartRange] = []
        if num_left is None or num_left > 0:
            table = open_table(input_file)
            parts = table.plan(rows_per_part if num_left is None else min(rows_per_part, num_left))
            table.close()
        if num_left is not None:
            parts, num_left = _first_parts(parts, num_left)
        plan.append(parts)
    return plan


def _first_parts(parts: List[PartRange], num_rows: int) -> "tuple[List[PartRange], int]":
    taken = []
    for part in parts:
        if num_rows <= 0:
            break
        taken.append(part)
        num_rows -= part.num_rows
    return taken, num_rows


class OpenTables:
    """The tables of inputs, of which only the one that was read last is open."""

    def __init__(self, inputs: Sequence[InputFile]) -> None:
        self._inputs = inputs
        self._open: Dict[int, Table] = {}

    def get(self, index: int) -> Table:
        """The table of an input, by its place."""
        if index not in self._open:
            self.close()
            self._open[index] = open_table(self._inputs[index])
        return self._open[index]

    def close(self) -> None:
        """Closes what is open."""
        for table in self._open.values():
            table.close()
        self._open = {}

"""Tables of rows, whatever the format of their files, and the columns that a job reads of them."""

from typing import Dict, List, Optional, Sequence, Union

import pyarrow as pa

from sledgehammer_allennlp.bulk.columns import Columns, check_kept_names, choose_columns
from sledgehammer_allennlp.bulk.inputs import InputFile
from sledgehammer_allennlp.bulk.line_file import NUM_SAMPLED, LineFile
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
    The columns that are read of all inputs; see `choose_columns`. Of `["all"]` they are those of
    any input; JSON lines need not have them all, and may have other keys.

    # Raises

    ValueError
        If a file has not the columns, or one that is kept is of different types.
    """
    types_of = {one: types for one in inputs if (types := _column_types(one))}
    if not types_of:
        raise ValueError("the input has no rows: wanted some")
    (first, types), *_ = types_of.items()
    chosen = choose_columns(
        types, text_column, second_text_column, keep, first.url, _num_sampled(first)
    )
    are_all = list(keep) == ["all"] and "all" not in types
    names = list(chosen.kept)
    if are_all:
        texts = (chosen.text, chosen.second_text)
        names = list(dict.fromkeys(name for types in types_of.values() for name in types))
        names = [name for name in names if name not in texts]
        check_kept_names(names)
    kept: Dict[str, pa.DataType] = {}
    first_with: Dict[str, str] = {}
    for input_file, types in types_of.items():
        may_lack = are_all and input_file.format == "jsonl"
        wanted = [name for name in names if name in types or not may_lack]
        here = choose_columns(
            types,
            chosen.text,
            chosen.second_text,
            wanted,
            input_file.url,
            _num_sampled(input_file),
        )
        for name, type_ in here.kept.items():
            file = first_with.setdefault(name, input_file.url)
            kept[name] = _common(kept.get(name, type_), type_, name, file, input_file.url)
    with_other_keys = are_all and any(one.format == "jsonl" for one in inputs)
    return Columns(
        chosen.text, chosen.second_text, {name: kept[name] for name in names}, with_other_keys
    )


def _num_sampled(input_file: InputFile) -> Optional[int]:
    """Of how many rows the columns are known, where it is not all."""
    return NUM_SAMPLED if input_file.format == "jsonl" else None


def _column_types(input_file: InputFile) -> Dict[str, pa.DataType]:
    """The columns of a file; none of JSON lines without a row, of which nothing is known."""
    table = open_table(input_file)
    types = table.column_types()
    table.close()
    return types


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

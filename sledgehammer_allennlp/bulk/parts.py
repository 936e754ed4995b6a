"""Parts of a job: where they lie, and what became of them."""

from typing import List, Mapping, NamedTuple, Optional

MAX_OTHER_KEYS_COUNTED = 100
"""Where keys are data, there is a new one in every row."""


class PartRange(NamedTuple):
    """
    Where a part lies in its file.

    # Parameters

    start : `int`
        The first byte (of lines, after decompression), or the first row (of Parquet).
    size : `int`
        The number of bytes, or of rows.
    first_row : `int`
        The number of the first row in the file, from 1; lines that are blank and a header count.
    num_rows : `int`
        Blank lines count.
    """

    start: int
    size: int
    first_row: int
    num_rows: int


class Part(NamedTuple):
    """A part: the place of its input, its own place in it, and where it lies there."""

    input_index: int
    part_index: int
    range: PartRange


class PartResult(NamedTuple):
    """
    What became of a part.

    # Parameters

    input_index, part_index : `int`
    num_rows, num_bad : `int`
        Blank lines do not count.
    exits : `List[int]`
        How many rows exited at each exit.
    size : `int`
        Of its file, in bytes.
    errors : `List[str]`
        The first bad rows.
    other_keys : `Dict[str, int]`, optional (default = none)
        In how many rows there were keys that have no column, by their names; of the first 100.
    num_cut : `int`, optional (default = 0)
        Rows whose texts were too long and were cut.
    windows_exits : `List[int]`, optional (default = none)
        Of texts that are read in windows, how many windows exited at each exit.
    """

    input_index: int
    part_index: int
    num_rows: int
    num_bad: int
    exits: List[int]
    size: int
    errors: List[str]
    other_keys: Mapping[str, int] = {}
    num_cut: int = 0
    windows_exits: Optional[List[int]] = None

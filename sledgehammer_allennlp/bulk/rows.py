"""Rows of input, some thousand at a time."""

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import pyarrow as pa

from sledgehammer_allennlp.bulk.columns import Columns, OtherKeys, as_kept
from sledgehammer_allennlp.values import short_repr

_MAX_CHARACTERS = 2**23


class RowBatch(NamedTuple):
    """
    Rows that are predicted together.

    # Parameters

    num_rows : `int`
    good : `List[int]`
        The places of those that can be answered, ascending, from 0.
    texts, second_texts : `List[str]`
        Of these.
    numbers : `List[int]`
        Of these rows in the file, from 1.
    errors : `Dict[int, str]`
        What is wrong with each other row, with its number in the file, by its place.
    kept : `List[pa.Array]`
        `(num_rows,)` each, one for each column that is kept.
    other_keys : `Dict[int, Dict[str, Any]]`
        What rows of JSON lines have beside their columns, by their places.
    """

    num_rows: int
    good: List[int]
    texts: List[str]
    second_texts: Optional[List[str]]
    numbers: List[int]
    errors: Dict[int, str]
    kept: List[pa.Array]
    other_keys: Dict[int, Dict[str, Any]]


class RowBatchBuilder:
    """
    Takes rows one by one, checks them, and makes a batch of them.

    # Parameters

    columns : `Columns`
    first_row : `int`
        The number of the first row in the file, for error messages.
    """

    def __init__(self, columns: Columns, first_row: int) -> None:
        self._columns = columns
        self._other_keys_of = OtherKeys(columns).of
        self._number = first_row
        self._begin()

    def _begin(self) -> None:
        self.num_rows = 0
        self.num_characters = 0
        self._good: List[int] = []
        self._texts: List[str] = []
        self._second_texts: List[str] = []
        self._numbers: List[int] = []
        self._errors: Dict[int, str] = {}
        self._kept: List[List[Any]] = [[] for _ in self._columns.kept]
        self._other_keys: Dict[int, Dict[str, Any]] = {}

    def is_full(self, batch_size: int) -> bool:
        """Whether there are so many rows, or as many characters as one batch may have."""
        return self.num_rows >= batch_size or self.num_characters >= _MAX_CHARACTERS

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a row; values of columns that are kept are of JSON."""
        error = self._keep(row)
        texts = []
        for column in (self._columns.text, self._columns.second_text):
            if column is not None:
                text = row.get(column)
                if isinstance(text, str):
                    texts.append(text)
                else:
                    error = error or _not_a_text(row, column)
        if error is not None:
            self._errors[self.num_rows] = f"row {self._number}: {error}"
        else:
            self._good.append(self.num_rows)
            self._numbers.append(self._number)
            self._texts.append(texts[0])
            self._second_texts.extend(texts[1:])
            self.num_characters += sum(map(len, texts))
        self._count()

    def _keep(self, row: Mapping[str, Any]) -> Optional[str]:
        """Gives what is wrong with what is kept."""
        error = None
        for values, (column, type_) in zip(self._kept, self._columns.kept.items()):
            try:
                value = as_kept(row.get(column), type_, column)
                self.num_characters += len(value) if isinstance(value, str) else 0
            except ValueError as problem:
                value, error = None, str(problem)
            values.append(value)
        try:
            others = self._other_keys_of(row)
        except ValueError as problem:
            return str(problem)
        if others:
            self._other_keys[self.num_rows] = others
            self.num_characters += len(json.dumps(others))
        return error

    def add_bad(self, error: str) -> None:
        """Adds a row that cannot be read."""
        self._errors[self.num_rows] = f"row {self._number}: {error}"
        for values in self._kept:
            values.append(None)
        self._count()

    def _count(self) -> None:
        self.num_rows += 1
        self._number += 1

    def leave_out(self) -> None:
        """Counts a blank line, which is no row."""
        self._number += 1

    def build(self) -> RowBatch:
        """The batch; then begins another."""
        batch = RowBatch(
            self.num_rows,
            self._good,
            self._texts,
            None if self._columns.second_text is None else self._second_texts,
            self._numbers,
            self._errors,
            [
                pa.array(values, type_)
                for values, type_ in zip(self._kept, self._columns.kept.values())
            ],
            self._other_keys,
        )
        self._begin()
        return batch


def _not_a_text(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        found = ", ".join(short_repr(name) for name in list(row)[:10]) or "none"
        return f"there is no {column!r}, found {found}: wanted a text there"
    return f"{column!r} is {short_repr(row[column])}: wanted a text"

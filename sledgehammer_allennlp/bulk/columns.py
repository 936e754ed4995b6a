"""Which columns of the input are read, and of which Arrow types those are that are kept."""

import json
from collections import Counter
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

import pyarrow as pa

from sledgehammer_allennlp.bulk.kept_names import kept_name
from sledgehammer_allennlp.values import short_repr

_TEXT_COLUMNS = (("text", None), ("sentence", None), ("premise", "hypothesis"))
_SEPARATORS = ",;\t|"
_INT64 = 2**63
_MAX_DEPTH = 100


class Columns(NamedTuple):
    """
    The columns of the input that a job reads.

    # Parameters

    text : `str`
    second_text : `str`, optional
    kept : `Dict[str, pa.DataType]`
        Those that stand beside the answers, and as what.
    with_other_keys : `bool`, optional (default = `False`)
        Whether the keys of JSON lines that have no column stand beside the answers, too.
    """

    text: str
    second_text: Optional[str]
    kept: Dict[str, pa.DataType]
    with_other_keys: bool = False

    @property
    def read(self) -> List[str]:
        """All of them, each once."""
        texts = [self.text] if self.second_text is None else [self.text, self.second_text]
        return list(dict.fromkeys([*texts, *self.kept]))


def choose_columns(
    types: Mapping[str, pa.DataType],
    text_column: Optional[str],
    second_text_column: Optional[str],
    keep: Sequence[str],
    where: str,
    num_sampled: Optional[int] = None,
) -> Columns:
    """
    # Parameters

    types : `Mapping[str, pa.DataType]`
        All columns of the input.
    text_column, second_text_column : `str`, optional
        By default `text`, `sentence`, or `premise` and `hypothesis`.
    keep : `Sequence[str]`
        Names of columns; `["all"]` for all but the texts'.
    where : `str`
        What error messages call the input.
    num_sampled : `int`, optional
        How many rows the columns are those of, where it is not all.

    # Raises

    ValueError
        If the input has not the columns.
    """
    found = _found(types)
    if text_column is None:
        if second_text_column is not None:
            raise ValueError("--second-text-column is given: wanted --text-column, too")
        for text, second_text in _TEXT_COLUMNS:
            if text in types and (second_text is None or second_text in types):
                text_column, second_text_column = text, second_text
                break
        else:
            raise ValueError(
                f"{where}: found the columns {found}: wanted 'text', 'sentence', 'premise' and "
                "'hypothesis', or another by --text-column"
            )
    texts = [text_column] if second_text_column is None else [text_column, second_text_column]
    if list(keep) == ["all"] and "all" not in types:
        keep = [name for name in types if name not in texts]
    for name in [*texts, *keep]:
        if name not in types:
            raise ValueError(
                f"{where}: there is no column {name!r}{_of_first_rows(num_sampled)}: found {found}"
            )
    check_kept_names(keep)
    return Columns(text_column, second_text_column, {name: types[name] for name in keep})


def _found(types: Mapping[str, pa.DataType]) -> str:
    """The columns that there are. If it is one that looks like several, what separates them."""
    names = list(types)
    found = ", ".join(map(repr, names[:20])) or "none"
    if len(names) != 1 or not any(mark in names[0] for mark in _SEPARATORS):
        return found
    return f"{found}, one column: in CSV columns are separated by ',', in TSV by tabs"


def _of_first_rows(num_sampled: Optional[int]) -> str:
    return "" if num_sampled is None else f" in the first {num_sampled:,} rows"


def check_kept_names(keep: Iterable[str]) -> None:
    """
    # Raises

    ValueError
        If two columns would have the same name beside the answers.
    """
    for name, count in Counter(map(kept_name, keep)).items():
        if count > 1:
            raise ValueError(f"two columns that are kept would be called {name!r}: wanted one")


def type_of_values(values: Sequence[Any]) -> pa.DataType:
    """
    As what values of JSON are kept: as booleans, whole numbers, numbers or strings if all are, else
    as JSON in strings. `None` is of every type.
    """
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(value is None or -_INT64 <= value < _INT64 for value in values):
        return pa.int64()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    return pa.string()


def as_scalar(value: Any) -> Any:
    """A value of JSON, of which lists and objects are JSON in strings."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _is_deep(value: Any) -> bool:
    """Whether JSON is nested so deeply that Python may not write or read it again."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, (list, dict))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return any(isinstance(one, (list, dict)) for one in level)


def as_kept(value: Any, type_: pa.DataType, column: str) -> Any:
    """
    A value of JSON as what its column is kept as.

    # Raises

    ValueError
        If it is of another type, half a character, or nested too deeply.
    """
    if value is None:
        return None
    if _is_deep(value):
        raise ValueError(
            f"column {column!r}, which is kept, is nested more than {_MAX_DEPTH} levels deep"
        )
    if pa.types.is_string(type_):
        text = value if isinstance(value, str) else json.dumps(value)
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"column {column!r}, which is kept, has half a character")
        return text
    if pa.types.is_boolean(type_) and isinstance(value, bool):
        return value
    if not isinstance(value, bool) and isinstance(value, int):
        if pa.types.is_int64(type_) and -_INT64 <= value < _INT64:
            return value
        if pa.types.is_float64(type_):
            return float(value)
    if pa.types.is_float64(type_) and isinstance(value, float):
        return value
    raise ValueError(
        f"column {column!r}, which is kept, is {short_repr(value)}: the first rows had {type_} "
        "there"
    )


class OtherKeys:
    """
    Takes the keys that have no column out of rows of JSON lines.

    # Parameters

    columns : `Columns`
    """

    def __init__(self, columns: Columns) -> None:
        self._are_kept = columns.with_other_keys
        self._read = set(columns.read)
        self._kept = list(columns.kept)

    def of(self, row: Mapping[str, Any]) -> Dict[str, Any]:
        """
        The keys and their values.

        # Raises

        ValueError
            If a key cannot stand beside the answers.
        """
        if not self._are_kept or row.keys() <= self._read:
            return {}
        found = {name: value for name, value in row.items() if name not in self._read}
        check_kept_names([*self._kept, *found])
        for name, value in found.items():
            for text in (name, value):
                as_kept(text, pa.string(), name)
        return found

"""Labelled rows of tables: the format of the reader `labeled_table`."""

from typing import Any, Callable, Iterator, Optional, Sequence

from sledgehammer_allennlp.bulk.inputs import find_inputs
from sledgehammer_allennlp.bulk.rows import RowBatch
from sledgehammer_allennlp.bulk.tables import columns_of, open_table
from sledgehammer_allennlp.labeled_lines import Row, raised

_ROWS_PER_PART = 8192
_BATCH_SIZE = 1024
_MAX_LABEL_LENGTH = 1000


def labeled_rows(
    name: str,
    text_column: str,
    second_text_column: Optional[str],
    label_column: str,
    format_: Optional[str] = None,
    on_fault: Callable[[ValueError], None] = raised,
) -> Iterator[Row]:
    """
    The rows of a file, a folder or a pattern, some thousand of them in memory at a time.

    # Parameters

    name : `str`
        As `find_inputs` takes it.
    text_column, second_text_column, label_column : `str`
    format_ : `str`, optional (default = by each file's name)
    on_fault : `Callable[[ValueError], None]`, optional (default = `raised`)
        Is given what is wrong with a row. If it returns, the row is left out.

    # Raises

    ValueError
        With file and row, if a text or a label is missing or empty, a label is neither a string
        nor a whole number nor a boolean, or has more than 1,000 characters; if there are no rows.
    """
    inputs = find_inputs([name], format_)
    columns = columns_of(inputs, text_column, second_text_column, [label_column])
    for input_file in inputs:
        table = open_table(input_file)
        try:
            for part in table.plan(_ROWS_PER_PART):
                for rows in table.read(part, columns, _BATCH_SIZE):
                    yield from _checked(rows, input_file.url, on_fault)
        finally:
            table.close()


def _checked(rows: RowBatch, url: str, on_fault: Callable[[ValueError], None]) -> Iterator[Row]:
    second_texts: Sequence[Optional[str]] = rows.second_texts or [None] * len(rows.good)
    good = zip(rows.numbers, rows.texts, second_texts)
    for place, label in enumerate(rows.kept[0].to_pylist()):
        error = rows.errors.get(place)
        if error is None:
            number, text, second_text = next(good)
            row = Row(number, _label(label), None, text, second_text)
            fault = _fault_of(row, label)
            if fault is None:
                yield row
                continue
            error = f"row {number}: {fault}"
        on_fault(ValueError(f"{url}, {error}"))


def _label(value: Any) -> str:
    if isinstance(value, (str, bool, int)):
        return str(value).strip()
    return ""


def _fault_of(row: Row, label: Any) -> Optional[str]:
    """What is wrong with a row, whose label is this in the file."""
    if not row.label:
        return f"the label is {label!r}: wanted a string or a whole number"
    if len(row.label) > _MAX_LABEL_LENGTH:
        return (
            f"the label has {len(row.label)} characters: wanted at most {_MAX_LABEL_LENGTH}. "
            f"It starts {row.label[:60]!r}"
        )
    for text in (row.text, row.second_text):
        if text is not None and not text.strip():
            return "the text is empty: wanted some text"
    return None

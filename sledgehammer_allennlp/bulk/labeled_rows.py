"""Labelled rows of tables: the format of the reader `labeled_table`."""

from typing import Any, Iterator, Optional, Sequence

from sledgehammer_allennlp.bulk.inputs import find_inputs
from sledgehammer_allennlp.bulk.tables import columns_of, open_table
from sledgehammer_allennlp.labeled_lines import Row

_ROWS_PER_PART = 8192
_BATCH_SIZE = 1024
_MAX_LABEL_LENGTH = 1000


def labeled_rows(
    name: str,
    text_column: str,
    second_text_column: Optional[str],
    label_column: str,
    format_: Optional[str] = None,
) -> Iterator[Row]:
    """
    The rows of a file, a folder or a pattern, some thousand of them in memory at a time.

    # Parameters

    name : `str`
        As `find_inputs` takes it.
    text_column, second_text_column, label_column : `str`
    format_ : `str`, optional (default = by each file's name)

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
                    if rows.errors:
                        raise ValueError(f"{input_file.url}, {rows.errors[min(rows.errors)]}")
                    second_texts: Sequence[Optional[str]] = (
                        rows.second_texts or [None] * rows.num_rows
                    )
                    for number, text, second_text, label in zip(
                        rows.numbers, rows.texts, second_texts, rows.kept[0].to_pylist()
                    ):
                        row = Row(number, _label(label), None, text, second_text)
                        _check(row, f"{input_file.url}, row {number}", label)
                        yield row
        finally:
            table.close()


def _label(value: Any) -> str:
    if isinstance(value, (str, bool, int)):
        return str(value).strip()
    return ""


def _check(row: Row, where: str, label: Any) -> None:
    if not row.label:
        raise ValueError(f"{where}: the label is {label!r}: wanted a string or a whole number")
    if len(row.label) > _MAX_LABEL_LENGTH:
        raise ValueError(
            f"{where}: the label has {len(row.label)} characters: wanted at most "
            f"{_MAX_LABEL_LENGTH}. It starts {row.label[:60]!r}"
        )
    for text in (row.text, row.second_text):
        if text is not None and not text.strip():
            raise ValueError(f"{where}: the text is empty: wanted some text")

"""Reading and checking files of labelled texts, one a line: the format of the reader `labeled_tsv`.

It needs no AllenNLP. Every error is a `ValueError` that names file and line.
"""

import codecs
import logging
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Set, Union

from sledgehammer_allennlp.files import check_regular

logger = logging.getLogger(__name__)

_MAX_LABELS = 100_000
_MAX_LABEL_LENGTH = 1000
_NUM_LINES_WITH_EQUAL_LABELS = 1000
_MAX_EXIT_LAYER = 1000
_CHUNK_SIZE = 2**16


class Row(NamedTuple):
    """One line of a file, in columns."""

    line_number: int
    label: str
    exit_layer: Optional[int]
    text: str
    second_text: Optional[str]


def raised(fault: ValueError) -> None:
    """Raises what is wrong with a row."""
    raise fault


def checked_rows(
    path: str,
    name: str,
    encoding: str = "utf-8",
    with_exit_layers: bool = False,
    on_fault: Callable[[ValueError], None] = raised,
) -> Iterator[Row]:
    """
    The lines of a file of `label<TAB>text` or `label<TAB>text<TAB>second text`, one at a time. No
    more than one line is held in memory.

    # Parameters

    path : `str`
        The file on the disk.
    name : `str`
        What error messages call it.
    encoding : `str`, optional (default = `"utf-8"`)
        A text encoding, by the name that `codecs.lookup` gives it.
    with_exit_layers : `bool`, optional (default = `False`)
        Whether there is another column after the label: `label<TAB>layer<TAB>text…`.
    on_fault : `Callable[[ValueError], None]`, optional (default = `raised`)
        Is given what is wrong with a line. If it returns, the line is left out.

    # Raises

    ValueError
        With file and line, if a line has too few or too many columns, an empty text or label, one
        of more than 1,000 characters, a carriage return before its last column, or bytes that are
        not in the encoding; if a file has no lines, more than 100,000 different labels, or is not
        a file that can be read again and again.
    """
    wanted = _wanted(with_exit_layers)
    try:
        check_regular(path)
    except (OSError, ValueError) as error:
        raise unreadable(name, with_exit_layers, error) from error
    labels: Set[str] = set()
    num_columns = blank_line = None
    is_empty = True
    for line_number, line in enumerate(_lines(path, name, encoding), start=1):
        if not line.strip():
            blank_line = blank_line or line_number
            continue
        is_empty = False
        if blank_line is not None:  # there may be blank lines at the end
            message = f"{name}, line {blank_line}: the line is blank: wanted {wanted}"
            on_fault(ValueError(message))
            blank_line = None
        where = f"{name}, line {line_number}"
        try:
            row = _row(line_number, line, where, with_exit_layers, num_columns)
        except ValueError as fault:
            on_fault(fault)
            continue
        num_columns = 2 if row.second_text is None else 3
        labels.add(row.label)
        if len(labels) > _MAX_LABELS:
            raise ValueError(
                f"{where}: found more than {_MAX_LABELS:,} different labels: wanted "
                f"{wanted}, of which the first column is {row.label[:60]!r} here"
            )
        if line_number == len(labels) == _NUM_LINES_WITH_EQUAL_LABELS:
            logger.warning(
                "%s: the first %d lines have %d different labels, the last one %r. Is the "
                "text in the first column? Wanted %s.",
                *(name, line_number, line_number, row.label[:60], wanted),
            )
        yield row
    if is_empty:
        raise ValueError(f"{name}: the file is empty: wanted {wanted} in each line")


def _row(
    line_number: int, line: str, where: str, with_exit_layers: bool, num_columns: Optional[int]
) -> Row:
    """The row of a line that is not blank, of as many columns as those before it, if any were."""
    columns = line.split("\t")
    exit_layer = None
    if with_exit_layers:
        exit_layer = _exit_layer_in(columns, where)
        del columns[1]
    _check_columns(columns, where)
    if line_number == 1 and _is_header(columns):
        raise ValueError(f"{where}: found a header, {line[:200]!r}: wanted none")
    if num_columns is not None and len(columns) != num_columns:
        raise ValueError(
            f"{where}: found {len(columns)} tab-separated columns, but {num_columns} in "
            "the lines before: wanted the same number in every line"
        )
    second_text = columns[2] if len(columns) == 3 else None
    return Row(line_number, columns[0].strip(), exit_layer, columns[1], second_text)


def unreadable(name: str, with_exit_layers: bool, error: Exception) -> ValueError:
    """What to raise when a file cannot be opened."""
    return ValueError(
        f"cannot read {name!r}: wanted a file of {_wanted(with_exit_layers)} lines. {error}"
    )


def unseen_label(where: str, label: Union[str, int], known: Sequence[str]) -> str:
    """The message for a label, read at `where`, that is none of the model's labels."""
    some = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return (
        f"{where}: label '{str(label)[:200]}' was not among the labels the model was trained with: "
        f"wanted one of {some}"
    )


def _wanted(with_exit_layers: bool) -> str:
    return "label<TAB>layer<TAB>text" if with_exit_layers else "label<TAB>text"


def _lines(path: str, name: str, encoding: str) -> Iterator[str]:
    # Only "\n" ends a line: other characters that Python could take for one are text.
    # Files from Windows programs begin with a byte order mark, which is not part of a label.
    without_mark = "utf-8-sig" if encoding == "utf-8" else encoding
    with open(path, encoding=without_mark, newline="\n") as file:
        try:
            for line in file:
                yield line.rstrip("\n").rstrip("\r")
        except UnicodeError as error:
            raise ValueError(
                f"{name}, line {_line_with_bad_bytes(path, encoding)}: the bytes are not "
                f"{encoding} text: wanted another 'encoding'? {error}"
            ) from error


def _line_with_bad_bytes(path: str, encoding: str) -> int:
    # A chunk at a time: a file may be larger than memory.
    decoder = codecs.getincrementaldecoder(encoding)()
    line_number = 1
    with open(path, "rb") as file:
        while True:
            chunk = file.read(_CHUNK_SIZE)
            before = decoder.getstate()
            try:
                line_number += decoder.decode(chunk, not chunk).count("\n")
            except UnicodeError:
                decoder.setstate(before)
                return line_number + _num_lines_before_error(decoder, chunk)
            if not chunk:
                return line_number


def _num_lines_before_error(decoder: codecs.IncrementalDecoder, chunk: bytes) -> int:
    number = 0
    for position in range(len(chunk)):
        try:
            number += decoder.decode(chunk[position : position + 1]).count("\n")
        except UnicodeError:
            break
    return number


def _is_header(columns: List[str]) -> bool:
    names = [column.strip().lower() for column in columns]
    return names[0] in ("label", "gold_label") and names[1] in ("text", "sentence", "premise")


def _exit_layer_in(columns: List[str], where: str) -> int:
    try:
        exit_layer = int(columns[1])
        if not -1 <= exit_layer <= _MAX_EXIT_LAYER:
            raise ValueError
        return exit_layer
    except (IndexError, ValueError):
        found = f"{columns[1][:60]!r}" if len(columns) > 1 else "nothing"
        raise ValueError(
            f"{where}: found {found} in the second column: wanted the layer of an exit, -1 or "
            f"a number up to {_MAX_EXIT_LAYER:,}, as in label<TAB>layer<TAB>text, because of "
            "with_exit_layers"
        ) from None


def _check_columns(columns: List[str], where: str) -> None:
    if not 2 <= len(columns) <= 3:
        raise ValueError(
            f"{where}: found {len(columns)} tab-separated column{'s' * (len(columns) != 1)}: "
            "wanted label<TAB>text or label<TAB>text<TAB>second text. "
            f"The line starts {columns[0][:60]!r}"
            + "; CSV and JSON lines are read by the reader labeled_table"
            * (len(columns) == 1)
        )
    for name, column in zip(("label", "text", "second text"), columns):
        if not column.strip():
            raise ValueError(f"{where}: the {name} is empty: wanted some text")
    if "\r" in columns[0] or "\r" in "".join(columns[1:-1]):
        raise ValueError(
            f"{where}: found a carriage return before the last column: wanted lines that end in "
            f"\\n or \\r\\n. The line starts {columns[0][:60]!r}"
        )
    label = columns[0].strip()
    if label.startswith("\ufeff"):
        raise ValueError(
            f"{where}: the label starts with a byte order mark, {label[:60]!r}: wanted one at the "
            "start of the file, or none"
        )
    if len(label) > _MAX_LABEL_LENGTH:
        raise ValueError(
            f"{where}: the label has {len(label)} characters: wanted at most {_MAX_LABEL_LENGTH}. "
            f"It starts {label[:60]!r}"
        )
    if any("\ud800" <= character <= "\udfff" for character in label):
        raise ValueError(f"{where}: the label {label!r} has half a character: wanted whole ones")

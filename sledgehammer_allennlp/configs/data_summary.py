"""What is in a file of labelled texts. Memory grows by 20 bytes a text, whatever its length."""

import hashlib
from array import array
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from tqdm import tqdm

from sledgehammer_allennlp.bulk.needs_arrow import require_arrow
from sledgehammer_allennlp.labeled_lines import Row, checked_rows, raised

_FAULTS_SHOWN = 5


class TableColumns(NamedTuple):
    """The names of a table's columns."""

    text: str
    second_text: Optional[str]
    label: str


class LabeledFile(NamedTuple):
    """A file of labelled texts: of lines, or, if columns are named, a table."""

    path: str
    columns: Optional[TableColumns] = None

    @property
    def unit(self) -> str:
        """What its numbers count."""
        return "line" if self.columns is None else "row"

    def rows(self, on_fault: Callable[[ValueError], None] = raised) -> Iterator[Row]:
        """
        Its rows, checked.

        # Parameters

        on_fault : `Callable[[ValueError], None]`, optional (default = `raised`)
            Is given what is wrong with a row. If it returns, the row is left out.

        # Raises

        ValueError
            As `checked_rows` and `labeled_rows` do; if a table is not one file, or what reads it is
            not installed.
        """
        if self.columns is None:
            return checked_rows(self.path, self.path, on_fault=on_fault)
        require_arrow()
        from sledgehammer_allennlp.bulk.inputs import find_inputs
        from sledgehammer_allennlp.bulk.labeled_rows import labeled_rows

        num_files = len(find_inputs([self.path]))
        if num_files > 1:
            raise ValueError(f"'{self.path}' is {num_files} files: wanted one, to look at")
        return labeled_rows(self.path, *self.columns, on_fault=on_fault)


class Conflict(NamedTuple):
    """Equal texts with different labels."""

    num_texts: int
    """How many different texts have several labels."""
    lines: Tuple[int, int]
    """Two lines with the same text and different labels, the first of such in the file."""


@dataclass(frozen=True)
class DataSummary:
    """
    Counts of a file, and a number for each text, by which equal texts are found.

    The line or row `numbers[i]` of the file has the text `digests[i]` and the label
    `labels[label_indices[i]]`.
    """

    file: LabeledFile
    is_pairs: bool
    first_lines: Dict[str, int]
    """The number of the first line of each label, in the order of the file."""
    numbers: np.ndarray
    """`(num_texts,)`: of the lines, from 1; of a table's rows, as error messages count them."""
    label_indices: np.ndarray
    """`(num_texts,)`: which label, counted in the order of `first_lines`."""
    digests: np.ndarray
    """`(num_texts,)`: 64-bit digests of the texts, of pairs of both."""

    @property
    def path(self) -> str:
        """Of the file."""
        return self.file.path

    @property
    def num_texts(self) -> int:
        """The number of lines; a pair counts once."""
        return len(self.digests)

    @property
    def counts(self) -> Dict[str, int]:
        """The number of texts of each label, the largest first."""
        counts = np.bincount(self.label_indices, minlength=len(self.first_lines)).tolist()
        return dict(sorted(zip(self.first_lines, counts), key=lambda item: -item[1]))

    def conflict(self) -> Optional[Conflict]:
        """Equal texts with different labels, if there are any."""
        # Stable, so that equal texts stay in the order of the file.
        order = np.argsort(self.digests, kind="stable")
        digests, labels = self.digests[order], self.label_indices[order]
        differs = (digests[1:] == digests[:-1]) & (labels[1:] != labels[:-1])
        where = np.flatnonzero(differs)
        if not len(where):
            return None
        first = where[np.argmin(order[where + 1])]
        return Conflict(
            num_texts=len(np.unique(digests[1:][differs])),
            lines=(int(self.numbers[order[first]]), int(self.numbers[order[first + 1]])),
        )

    def lines_also_in(self, other: "DataSummary") -> np.ndarray:
        """The numbers of the lines whose text stands in the other file, too, ascending."""
        return self.numbers[np.isin(self.digests, other.digests)]


def read_summary(file: LabeledFile) -> DataSummary:
    """
    Reads a file to its end.

    # Raises

    ValueError
        As `LabeledFile.rows` does, with file and line; of several rows at fault, with the first.
    """
    first_lines: Dict[str, int] = {}
    index_of: Dict[str, int] = {}
    label_indices = array("I")
    numbers = array("Q")
    digests = array("Q")
    is_pairs = False
    faults = _Faults(file)
    try:
        for row in _with_progress(file, file.rows(faults.add), f"Reading {file.path}"):
            is_pairs = row.second_text is not None
            first_lines.setdefault(row.label, row.line_number)
            label_indices.append(index_of.setdefault(row.label, len(index_of)))
            numbers.append(row.line_number)
            digests.append(_digest(row))
    except ValueError as error:  # of all that follows
        faults.add(error)
    faults.raise_if_any(len(numbers))
    return DataSummary(
        file,
        is_pairs,
        first_lines,
        np.frombuffer(numbers, dtype=np.ulonglong),
        np.frombuffer(label_indices, dtype=np.uintc),
        np.frombuffer(digests, dtype=np.ulonglong),
    )


def chosen_rows(file: LabeledFile, numbers: "np.ndarray", about: str) -> Iterator[Row]:
    """
    The rows of some lines, in the order of the file, with progress on stderr.

    # Parameters

    file : `LabeledFile`
    numbers : `np.ndarray`
        As `DataSummary` has them.
    about : `str`
        What is done with them.
    """
    wanted = set(numbers.tolist())
    for row in _with_progress(file, file.rows(), about):
        if row.line_number in wanted:
            yield row


class _Faults:
    """What is wrong with the rows of a file."""

    def __init__(self, file: LabeledFile) -> None:
        self._file = file
        self._num_faults = 0
        self._first: List[ValueError] = []

    def add(self, fault: ValueError) -> None:
        """Notes what is wrong with one row."""
        self._num_faults += 1
        if len(self._first) < _FAULTS_SHOWN:
            self._first.append(fault)

    def raise_if_any(self, num_good: int) -> None:
        """Raises a ValueError that names the first rows; if no row is good, the first alone."""
        if not self._first:
            return
        if self._num_faults == 1 or not num_good:
            raise self._first[0]
        raise ValueError(
            f"{self._file.path}: {self._num_faults:,} {self._file.unit}s cannot be used. "
            + "\n  ".join(["The first:", *map(str, self._first)])
        )


def _with_progress(file: LabeledFile, rows: Iterator[Row], about: str) -> Iterator[Row]:
    # Not shown for what is done in two seconds.
    yield from tqdm(rows, desc=about, unit=f" {file.unit}s", delay=2, mininterval=1, leave=False)


def _digest(row: Row) -> int:
    # A tab cannot stand in a text, so that no pair has the digest of another.
    text = row.text if row.second_text is None else f"{row.text}\t{row.second_text}"
    content = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")

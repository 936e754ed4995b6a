"""What is in a file of labelled texts. Memory grows by 12 bytes a text, whatever its length."""

import hashlib
from array import array
from dataclasses import dataclass
from typing import Dict, Iterator, NamedTuple, Optional, Tuple

import numpy as np
from tqdm import tqdm

from sledgehammer_allennlp.labeled_lines import Row, checked_rows


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

    Line `i + 1` of the file has the text `digests[i]` and the label `labels[label_indices[i]]`.
    """

    path: str
    is_pairs: bool
    first_lines: Dict[str, int]
    """The number of the first line of each label, in the order of the file."""
    label_indices: np.ndarray
    """`(num_texts,)`: which label, counted in the order of `first_lines`."""
    digests: np.ndarray
    """`(num_texts,)`: 64-bit digests of the texts, of pairs of both."""

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
            lines=(int(order[first]) + 1, int(order[first + 1]) + 1),
        )

    def lines_also_in(self, other: "DataSummary") -> np.ndarray:
        """The numbers of the lines whose text stands in the other file, too, ascending."""
        return np.flatnonzero(np.isin(self.digests, other.digests)) + 1


def read_summary(path: str) -> DataSummary:
    """
    Reads a file to its end.

    # Raises

    ValueError
        As `checked_rows` does, with file and line.
    """
    first_lines: Dict[str, int] = {}
    index_of: Dict[str, int] = {}
    label_indices = array("I")
    digests = array("Q")
    is_pairs = False
    for row in _with_progress(path, f"Reading {path}"):
        is_pairs = row.second_text is not None
        first_lines.setdefault(row.label, row.line_number)
        label_indices.append(index_of.setdefault(row.label, len(index_of)))
        digests.append(_digest(row))
    return DataSummary(
        path,
        is_pairs,
        first_lines,
        np.frombuffer(label_indices, dtype=np.uintc),
        np.frombuffer(digests, dtype=np.ulonglong),
    )


def chosen_rows(path: str, line_numbers: "np.ndarray", about: str) -> Iterator[Row]:
    """
    The rows of some lines, in the order of the file, with progress on stderr.

    # Parameters

    path : `str`
    line_numbers : `np.ndarray`
        Counted from 1.
    about : `str`
        What is done with them.
    """
    wanted = set(line_numbers.tolist())
    for row in _with_progress(path, about):
        if row.line_number in wanted:
            yield row


def _with_progress(path: str, about: str) -> Iterator[Row]:
    rows = checked_rows(path, path)
    # Not shown for what is done in two seconds.
    yield from tqdm(rows, desc=about, unit=" lines", delay=2, mininterval=1, leave=False)


def _digest(row: Row) -> int:
    # A tab cannot stand in a text, so that no pair has the digest of another.
    text = row.text if row.second_text is None else f"{row.text}\t{row.second_text}"
    content = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")

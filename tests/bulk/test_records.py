"""Ends of records, found in chunks, against Python's own readers of lines and of CSV."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sledgehammer_allennlp.bulk import records
from sledgehammer_allennlp.bulk.records import RecordEnds, iter_records


def ends_in_chunks(content: bytes, delimiter, size: int):
    ends, found = RecordEnds(delimiter), []
    for start in range(0, len(content), size):
        found += [start + end for end in ends.of(content[start : start + size]).tolist()]
    return found


@given(st.text(alphabet='a,"\n', max_size=30), st.integers(1, 5))
def test_csv_records_are_those_of_pythons_csv(text, size):
    content = text.encode()
    # Each row that csv makes takes the lines that it reads for it.
    reader = csv.reader(io.StringIO(text, newline=""))
    lines = text.splitlines(keepends=True)
    wanted = [sum(map(len, lines[: reader.line_num])) for _ in reader]
    if not text.endswith("\n") or _is_open_at_the_end(text):
        wanted = wanted[:-1]
    assert ends_in_chunks(content, ",", size) == wanted


def _is_open_at_the_end(text: str) -> bool:
    """Whether another line would go on with the last row."""
    return len(list(csv.reader(io.StringIO(text + "\nx", newline="")))) == len(
        list(csv.reader(io.StringIO(text, newline="")))
    )


@given(st.binary(max_size=30), st.integers(1, 5))
def test_lines_end_at_line_breaks_whatever_the_chunks(content, size):
    wanted = [place + 1 for place, code in enumerate(content) if code == ord("\n")]
    assert ends_in_chunks(content, None, size) == wanted


def test_records_are_those_of_the_bytes_without_line_breaks(monkeypatch):
    monkeypatch.setattr(records, "_CHUNK_BYTES", 3)
    content = b"one\r\n\ntwo, too\nthree"
    assert list(iter_records(io.BytesIO(content), RecordEnds())) == [
        b"one",
        b"",
        b"two, too",
        b"three",
    ]
    assert list(iter_records(io.BytesIO(content), RecordEnds(), 6)) == [b"one", b""]


def test_a_record_that_is_too_long_is_not_held(monkeypatch):
    monkeypatch.setattr(records, "_CHUNK_BYTES", 4)
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 10)
    content = b"short\n" + b"x" * 50 + b"\nnext\n" + b"y" * 50
    assert list(iter_records(io.BytesIO(content), RecordEnds())) == [b"short", None, b"next", None]


def test_a_file_that_has_become_shorter_is_noticed():
    with pytest.raises(ValueError, match="2 bytes less"):
        list(iter_records(io.BytesIO(b"one\n"), RecordEnds(), 6))

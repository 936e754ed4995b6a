"""Any file is read, or refused in words of ours that name the file and the line."""

import gzip
import os

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.data.test_labeled_tsv import ids_of, make_reader, read, write


@pytest.fixture(scope="module")
def reader(tiny_bert):
    return make_reader(tiny_bert)


LOOK_ALIKES = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(st.sampled_from("a b\t\n\r\0\ufeff\U0001f600\U0010ffff" + LOOK_ALIKES)).map(
            str.encode
        ),
    ),
    st.booleans(),
)
@example(b"a\tb\n\x80", False)
@example(b"a\t-1\tb\n", True)
def test_any_bytes_are_read_or_refused(tiny_bert, tmp_path, content, with_exit_layers):
    path = write(tmp_path, content)
    try:
        rows = list(make_reader(tiny_bert, with_exit_layers=with_exit_layers).rows(path))
    except ValueError as error:
        assert type(error) is ValueError
        assert path in str(error) and "wanted" in str(error)
        return
    # Nothing is dropped and nothing divided: only "\n" ends a line.
    lines = content.decode("utf-8-sig").split("\n")
    assert len(rows) == sum(bool(line.strip()) for line in lines)
    for row in rows:
        texts = lines[row.line_number - 1].rstrip("\r").split("\t")[1 + with_exit_layers :]
        assert texts == [text for text in (row.text, row.second_text) if text is not None]


@pytest.mark.parametrize("character", LOOK_ALIKES)
def test_what_looks_like_a_line_end_is_text(reader, tmp_path, character):
    (instance,) = read(reader, tmp_path, f"pos\tgood{character}bad\n")
    assert ids_of(instance) == ids_of(reader.text_to_instance(f"good{character}bad"))


@pytest.mark.parametrize(
    "content, message",
    [
        ("pos\tgood\rneg\tbad\r", "line 1: found a carriage return before the last column"),
        ("pos\rneg\tgood\n", "line 1: found a carriage return"),
        ("pos\tgood\n\ufeffneg\tbad\n", "line 2: the label starts with a byte order mark"),
        ("x" * 10**6 + "\tgood\n", "line 1: the label has 1000000 characters: wanted at most 1000"),
        ("label\ttext\t" + "x" * 10**6, "line 1: found a header"),
        ("\n" + "x" * 10**6, "line 1: the line is blank"),
        ("x" * 10**6, "line 1: found 1 tab-separated column"),
        (gzip.compress(b"pos\tgood\n" * 9, mtime=0), "line 1: the bytes are not utf-8"),
        (b"PK\x03\x04\x14\0\0\0\x08\0\xff\xff", "line 1: the bytes are not utf-8"),
        ("pos\tgood\n".encode("utf-16"), "line 1: the bytes are not utf-8"),
        (b"\xed\xa0\x80\tgood\n", "line 1: the bytes are not utf-8"),
        (b"pos\tgood\n" * 20_000 + b"neg\tbad\xe2\x80", "line 20001: the bytes are not utf-8"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_hostile_file_is_refused_with_file_and_line(reader, tmp_path, content, message):
    with pytest.raises(ValueError, match=f"data.tsv.*{message}") as raised:
        read(reader, tmp_path, content)
    assert len(str(raised.value)) < 1000


def test_a_carriage_return_in_the_last_column_is_text(reader, tmp_path):
    (instance,) = read(reader, tmp_path, "pos\tgood\rbad\n")
    assert ids_of(instance) == ids_of(reader.text_to_instance("good bad"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "shift_jis", "utf-7"])
@pytest.mark.parametrize("num_lines", [0, 3, 30_000])
def test_the_line_of_bad_bytes_is_found_in_any_encoding(tiny_bert, tmp_path, encoding, num_lines):
    good = ("pos\tgood\n" * num_lines).encode(encoding)
    bad = {"utf-8": b"\xff", "shift_jis": b"\xff\xff", "utf-7": b"\xff"}
    path = write(tmp_path, good + bad.get(encoding, b"\x00\xd8\x41\x00"))
    with pytest.raises(ValueError, match=f"line {num_lines + 1}: the bytes are not "):
        list(make_reader(tiny_bert, encoding=encoding).rows(path))


@pytest.mark.parametrize("encoding", ["base64", "rot13", "undefined", "utf-8\0", "zlib"])
def test_what_is_no_text_encoding_is_refused(tiny_bert, encoding):
    with pytest.raises(ConfigurationError, match="wanted the name of a text encoding"):
        make_reader(tiny_bert, encoding=encoding)


def test_half_a_character_in_a_label_is_refused(tiny_bert, tmp_path):
    # Which no vocabulary file can hold.
    reader = make_reader(tiny_bert, encoding="unicode_escape")
    with pytest.raises(ValueError, match=r"line 1: the label '\\ud800' has half a character"):
        list(reader.rows(write(tmp_path, rb"\ud800" + b"\tgood\n")))


def test_what_is_not_a_file_is_refused_without_waiting(reader, tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    for path, message in (
        (fifo, "is a pipe or a device"),
        (tmp_path, "is a folder"),
        ("/dev/zero", "is a pipe or a device"),
        (tmp_path / "missing.tsv", "not found"),
        ("a\0b", "null byte|not found"),
    ):
        with pytest.raises(ValueError, match=f"cannot read .*wanted a file of label.*({message})"):
            list(reader.rows(path))


def test_a_million_labels_end_early(reader, tmp_path, caplog):
    path = write(tmp_path, "".join(f"text number {i}\tpos\n" for i in range(100_002)))
    with pytest.raises(ValueError, match="line 100001: found more than 100,000 different labels"):
        list(reader.rows(path))
    assert "the first 1000 lines have 1000 different labels" in caplog.text
    assert "'text number 999'" in caplog.text
    caplog.clear()
    path = write(tmp_path, "".join(f"text number {i % 999}\tpos\n" for i in range(2000)))
    assert len(list(reader.rows(path))) == 2000
    assert not caplog.records


@pytest.mark.parametrize("layer", ["9" * 5000, "9" * 30, "-2", "1001", "0x1", "\u0663.0", "nan"])
def test_a_layer_that_cannot_be_is_refused(tiny_bert, tmp_path, layer):
    reader = make_reader(tiny_bert, with_exit_layers=True)
    with pytest.raises(ValueError, match="line 1: found '.*wanted the layer of an exit, -1 or"):
        list(reader.rows(write(tmp_path, f"pos\t{layer}\tgood\n")))


def test_labels_of_any_characters_come_back_from_the_vocabularys_file(reader, tmp_path):
    labels = ["\0", "a\u2028b", "a\x85b", "a\x0bb", "\U0010ffff", "\U000e0001", "a\ufeff", "\u202e"]
    instances = read(reader, tmp_path, "".join(f"{label}\tgood\n" for label in labels))
    vocab = Vocabulary.from_instances(instances)
    vocab.save_to_files(tmp_path / "vocabulary")
    found = Vocabulary.from_files(tmp_path / "vocabulary").get_token_to_index_vocabulary("labels")
    assert set(found) == {label.strip() for label in labels}

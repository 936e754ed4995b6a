"""Which files are read."""

import pytest

fsspec = pytest.importorskip("fsspec")

from sledgehammer_allennlp.bulk.inputs import InputFile, find_inputs


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("b.jsonl", "a.csv.gz", "more/c.parquet", "notes.md", "_done.jsonl", ".d.csv"):
        (tmp_path / name).write_text("text\n")
    return tmp_path


def test_formats_and_compressions_are_known_by_names(folder):
    assert find_inputs([str(folder / "b.jsonl"), str(folder / "a.csv.gz")]) == [
        InputFile(str(folder / "b.jsonl"), "jsonl", None),
        InputFile(str(folder / "a.csv.gz"), "csv", "gzip"),
    ]
    assert find_inputs([str(folder / "notes.md")], "txt")[0].format == "txt"


def test_a_folder_has_its_files_in_the_order_of_paths_without_hidden_ones(folder):
    found = [one.url for one in find_inputs([str(folder)])]
    assert found == [str(folder / name) for name in ("a.csv.gz", "b.jsonl", "more/c.parquet")]


def test_a_pattern_finds_files(folder):
    assert [one.url for one in find_inputs([str(folder / "[ab].*")])] == [
        str(folder / "a.csv.gz"),
        str(folder / "b.jsonl"),
    ]


def test_a_relative_path_is_the_same_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert find_inputs(["b.jsonl"]) == find_inputs([str(folder / "b.jsonl")])
    with pytest.raises(ValueError, match="is named twice"):
        find_inputs(["b.jsonl", str(folder / "*.jsonl")])


def test_files_of_other_stores_are_found_by_their_urls():
    memory = fsspec.filesystem("memory")
    memory.pipe("/bulk-inputs/one.jsonl", b'{"text": "x"}\n')
    memory.pipe("/bulk-inputs/two.txt.gz", b"")
    (one, two) = find_inputs(["memory://bulk-inputs"])
    assert (one.format, two.format, two.compression) == ("jsonl", "txt", "gzip")
    assert one.url.startswith("memory://") and one.open().read() == b'{"text": "x"}\n'
    assert one.state()["size"] == 14
    assert find_inputs(["memory://bulk-inputs/*.jsonl"]) == [one]


@pytest.mark.parametrize(
    "name, message",
    [
        ("none.csv", "there is no input"),
        ("*.json", "has no files"),
        ("notes.md", "the format of .* is not known: wanted names that end in .jsonl"),
        ("no-such://x.csv", "cannot read the input"),
    ],
)
def test_what_cannot_be_read_is_named(folder, name, message):
    with pytest.raises(ValueError, match=message):
        find_inputs([name if "//" in name else str(folder / name)])

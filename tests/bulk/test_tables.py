"""The rows of files of all formats, whole and in parts."""

import bz2
import csv
import gzip
import io
import json
import lzma

import pytest

pa = pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

import pyarrow.parquet as pq

from sledgehammer_allennlp.bulk import line_file
from sledgehammer_allennlp.bulk.inputs import find_inputs
from sledgehammer_allennlp.bulk.tables import OpenTables, columns_of, plan_parts

ROWS = [
    {"id": number, "text": text}
    for number, text in enumerate(
        ["plain", "", 'with "quotes", and a comma', "umlaute: äöü", "two\nlines", 'ends in "', "x"]
        * 3
    )
]


def contents():
    """What a file of each format has for the rows, of which TSV and text have no line breaks."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ["id", "text"])
    writer.writeheader()
    writer.writerows(ROWS)
    one_line = [row["text"].replace("\n", " ") for row in ROWS]
    tsv = "".join(f"{number}\t{text}\r\n" for number, text in enumerate(one_line))
    return {
        "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
        "csv": table.getvalue().encode(),
        "tsv": f"id\ttext\r\n{tsv}".encode(),
        "txt": "".join(text + "\n" for text in one_line).encode(),
    }


def read_parts(inputs, rows_per_part, batch_size=2, keep=(), backwards=False, **columns):
    """For each part its texts, what is kept and its errors."""
    chosen = columns_of(inputs, keep=keep, **columns)
    tables = OpenTables(inputs)
    found = []
    places = [
        (index, part)
        for index, parts in enumerate(plan_parts(inputs, rows_per_part))
        for part in parts
    ]
    for index, part in reversed(places) if backwards else places:
        batches = list(tables.get(index).read(part, chosen, batch_size))
        assert all(batch.num_rows <= batch_size for batch in batches)
        found.append(
            (
                [text for batch in batches for text in batch.texts],
                [
                    value
                    for batch in batches
                    for value in (batch.kept[0].to_pylist() if batch.kept else [])
                ],
                [error for batch in batches for error in batch.errors.values()],
            )
        )
    tables.close()
    return found[::-1] if backwards else found


@pytest.mark.parametrize("rows_per_part", [1, 4, 1000])
@pytest.mark.parametrize("compressed", ["", ".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("format_", ["jsonl", "csv", "tsv", "txt"])
def test_parts_of_lines_have_all_rows_in_order(tmp_path, format_, compressed, rows_per_part):
    compress = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    path = tmp_path / f"in.{format_}{compressed}"
    path.write_bytes(compress[compressed](contents()[format_]))
    keep = [] if format_ == "txt" else ["id"]
    inputs = find_inputs([str(path)])
    found = read_parts(inputs, rows_per_part, keep=keep)
    assert found == read_parts(inputs, rows_per_part, keep=keep, backwards=True)
    assert [len(texts) for texts, _, _ in found] == [
        min(rows_per_part, len(ROWS) - first) for first in range(0, len(ROWS), rows_per_part)
    ]
    texts = [text for part in found for text in part[0]]
    is_whole = format_ in ("jsonl", "csv")
    assert texts == [row["text"] if is_whole else row["text"].replace("\n", " ") for row in ROWS]
    ids = [id_ for part in found for id_ in part[1]]
    if keep:
        assert ids == [row["id"] if format_ == "jsonl" else str(row["id"]) for row in ROWS]


@pytest.mark.parametrize("rows_per_part", [1, 4, 7, 1000])
def test_parts_of_parquet_do_not_depend_on_its_row_groups(tmp_path, rows_per_part):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=5)
    found = read_parts(find_inputs([str(path)]), rows_per_part, keep=["id"])
    assert found == read_parts(find_inputs([str(path)]), rows_per_part, keep=["id"], backwards=True)
    assert [text for part in found for text in part[0]] == [row["text"] for row in ROWS]
    assert [id_ for part in found for id_ in part[1]] == list(range(len(ROWS)))
    assert len(found) == -(-len(ROWS) // rows_per_part)


def test_a_part_of_long_lines_ends_at_so_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(line_file, "_MAX_PART_BYTES", 100)
    monkeypatch.setattr(line_file, "_CHUNK_BYTES", 64)
    path = tmp_path / "in.txt"
    texts = ["x" * 30] * 10 + ["y" * 300] + ["z"] * 10
    path.write_text("\n".join(texts))
    found = read_parts(find_inputs([str(path)]), 1000)
    assert [len(part[0]) for part in found] == [4, 4, 3, 10]
    assert [text for part in found for text in part[0]] == texts


@pytest.mark.parametrize(
    "format_, content, wanted",
    [
        (
            "jsonl",
            b'{"text": "a"}\n\nno\n{"text": null}\n{"txt": "b"}\n[1]\n\xff\n{"text": "c"}',
            [
                "row 3: it is not JSON: 'no'",
                "row 4: 'text' is None",
                "row 5: there is no 'text', found 'txt'",
                "row 6: it is [1]",
                "row 7: it is not UTF-8",
            ],
        ),
        ("csv", b'id,text\n1,a\n2\n\n3,"b\n', ["row 3: it has 1 fields: wanted 2"]),
        ("tsv", b"id\ttext\n1\ta\tb\n", ["row 2: it has 3 fields: wanted 2"]),
        ("txt", b"a\n\xff\n", ["row 2: it is not UTF-8"]),
    ],
)
def test_bad_rows_are_named_by_their_number_in_the_file(tmp_path, format_, content, wanted):
    path = tmp_path / f"in.{format_}"
    path.write_bytes(content)
    for rows_per_part in (1, 2, 100):
        parts = read_parts(find_inputs([str(path)]), rows_per_part, text_column="text")
        errors = [error for part in parts for error in part[2]]
        assert len(errors) == len(wanted)
        for error, start in zip(errors, wanted):
            assert error.startswith(start)


def test_null_texts_of_parquet_are_bad_rows(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": ["a", None, "b"], "n": [1, 2, 3]}), path)
    (found,) = read_parts(find_inputs([str(path)]), 10, 10, keep=["n"])
    assert found == (["a", "b"], [1, 2, 3], ["row 2: 'text' is null: wanted a text"])


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    for format_, content in {
        "csv": b"text\nx\n",
        "jsonl": b'{"text": "x"}\n',
        "txt": b"x\n",
    }.items():
        path = tmp_path / f"in.{format_}"
        path.write_bytes(b"\xef\xbb\xbf" + content)
        assert read_parts(find_inputs([str(path)]), 10) == [(["x"], [], [])]


def test_texts_are_found_by_their_usual_names(tmp_path):
    path = tmp_path / "in.jsonl"
    for keys, wanted in {
        ("sentence", "text"): ("text", None),
        ("hypothesis", "premise", "id"): ("premise", "hypothesis"),
        ("sentence",): ("sentence", None),
    }.items():
        path.write_text(json.dumps(dict.fromkeys(keys, "x")))
        assert columns_of(find_inputs([str(path)]))[:2] == wanted
    path.write_text('{"body": "x", "premise": "y"}')
    with pytest.raises(ValueError, match="found the columns 'body', 'premise': wanted 'text'"):
        columns_of(find_inputs([str(path)]))
    wanted = "there is no column 'id' in the first 1,000 rows: found 'body', 'premise'"
    with pytest.raises(ValueError, match=wanted):
        columns_of(find_inputs([str(path)]), "body", keep=["id"])


@pytest.mark.parametrize("name, mark", [("in.csv", ";"), ("in.csv", "\t"), ("in.tsv", ",")])
def test_what_else_stands_between_columns_is_named(tmp_path, name, mark):
    path = tmp_path / name
    path.write_text(f"text{mark}label\nx{mark}a\n")
    wanted = "one column: in CSV columns are separated by ',', in TSV by tabs"
    for settings in ({}, {"text_column": "text"}):
        with pytest.raises(ValueError, match=wanted):
            columns_of(find_inputs([str(path)]), **settings)


def test_kept_values_have_one_type_for_all_rows(tmp_path):
    path = tmp_path / "in.jsonl"
    rows = [{"text": "x", "a": 1, "b": 1, "c": {"d": [1]}, "label": "pos"}, {"text": "y", "b": 2.5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = columns_of(find_inputs([str(path)]), keep=["all"])
    assert chosen.kept == {
        "a": pa.int64(),
        "b": pa.float64(),
        "c": pa.string(),
        "label": pa.string(),
    }


def test_a_kept_value_of_another_type_than_the_first_rows_is_a_bad_row(tmp_path):
    path, other = tmp_path / "in.jsonl", tmp_path / "other.jsonl"
    path.write_text('{"text": "x", "a": 1}\n' * 1000 + '{"text": "y", "a": "one"}\n')
    other.write_text('{"text": "x", "a": "one"}\n')
    found = read_parts(find_inputs([str(path)]), 1000, 1000, keep=["a"])
    wanted = "row 1001: column 'a', which is kept, is 'one': the first rows had int64 there"
    assert found[1:] == [([], [None], [wanted])]
    with pytest.raises(ValueError, match="column 'a', which is kept, is int64 in .*, and string"):
        columns_of(find_inputs([str(path), str(other)]), keep=["a"])


def test_all_columns_are_those_of_any_file_of_json_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "a": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"b": "one", "text": "y", "a": 0.5}\n')
    inputs = find_inputs([str(tmp_path)])
    chosen = columns_of(inputs, keep=["all"])
    assert chosen.kept == {"a": pa.float64(), "b": pa.string()} and chosen.with_other_keys
    assert not columns_of(inputs, keep=["a"]).with_other_keys
    (rows,) = OpenTables(inputs).get(0).read(plan_parts(inputs, 9)[0][0], chosen, 9)
    assert [column.to_pylist() for column in rows.kept] == [[1.0], [None]]


@pytest.mark.parametrize("names", [("a.csv", "b.csv"), ("b.csv", "a.csv")])
def test_a_column_that_another_table_has_not_is_refused_where_all_are_kept(tmp_path, names):
    (tmp_path / names[0]).write_text("text,id\nx,1\n")
    (tmp_path / names[1]).write_text("text\nx\n")
    with pytest.raises(ValueError, match=f"{names[1]}: there is no column 'id'"):
        columns_of(find_inputs([str(tmp_path)]), keep=["all"])


@pytest.mark.parametrize(
    "late, message",
    [
        ({"b": "\ud800"}, "column 'b', which is kept, has half a character"),
        ({"\ud800": 1}, "column '\\ud800', which is kept, has half a character"),
        (
            {"b": json.loads("[" * 101 + "]" * 101)},
            "column 'b', which is kept, is nested more than",
        ),
        ({"label": 1, "input_label": 2}, "two columns that are kept would be called 'input_label'"),
        ({"other_keys": 1, "input_other_keys": 2}, "would be called 'input_other_keys'"),
    ],
)
def test_a_late_key_that_cannot_be_kept_makes_its_row_bad(tmp_path, late, message, monkeypatch):
    monkeypatch.setattr(line_file, "NUM_SAMPLED", 1)
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "x", "a": 1}\n' + json.dumps({"text": "y", "a": 2, **late}) + "\n")
    (found,) = read_parts(find_inputs([str(path)]), 9, keep=["all"])
    assert found[:2] == (["x"], [1, 2])
    assert len(found[2]) == 1 and found[2][0].startswith("row 2: ") and message in found[2][0]

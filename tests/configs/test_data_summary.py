import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.configs.data_summary import (
    LabeledFile,
    TableColumns,
    chosen_rows,
    read_summary,
)


def write(path, rows) -> LabeledFile:
    path.write_bytes("".join("\t".join(row) + "\n" for row in rows).encode("utf-8"))
    return LabeledFile(str(path))


def test_labels_are_counted_the_largest_first(tmp_path):
    found = read_summary(write(tmp_path / "x.tsv", [("b", "1"), ("a", "2"), ("a", "3")]))
    assert list(found.counts.items()) == [("a", 2), ("b", 1)]
    assert found.first_lines == {"b": 1, "a": 2}
    assert found.num_texts == 3 and not found.is_pairs


def test_files_from_windows_are_read(tmp_path):
    (tmp_path / "x.tsv").write_bytes(b"\xef\xbb\xbfa\tone\r\nb\ttwo\r\n")
    (tmp_path / "y.tsv").write_bytes(b"a\tone\nb\ttwo\n")
    windows, unix = (read_summary(LabeledFile(str(tmp_path / name))) for name in ("x.tsv", "y.tsv"))
    assert windows.counts == {"a": 1, "b": 1}
    assert windows.digests.tolist() == unix.digests.tolist()


def test_pairs_are_equal_if_both_texts_are(tmp_path):
    rows = [("a", "x", "y"), ("b", "x", "z"), ("a", "x", "y"), ("b", "xy", "z")]
    found = read_summary(write(tmp_path / "x.tsv", rows))
    assert found.is_pairs and found.conflict() is None
    assert len(set(found.digests.tolist())) == 3


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("vwxyz")), min_size=1, max_size=12),
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("vwxyz")), min_size=1, max_size=12),
)
def test_conflicts_and_lines_of_another_file_are_found(tmp_path, rows, others):
    found = read_summary(write(tmp_path / "x.tsv", rows))
    other = read_summary(write(tmp_path / "y.tsv", others))
    texts = {text for _, text in others}
    wanted = [i for i, (_, text) in enumerate(rows, start=1) if text in texts]
    assert found.lines_also_in(other).tolist() == wanted
    labels = {text: {label for label, other in rows if other == text} for _, text in rows}
    ambiguous = [text for text, found_labels in labels.items() if len(found_labels) > 1]
    conflict = found.conflict()
    if not ambiguous:
        assert conflict is None
        return
    assert conflict.num_texts == len(ambiguous)
    first, second = (rows[line - 1] for line in conflict.lines)
    assert first[1] == second[1] and first[0] != second[0]


def test_chosen_rows_are_those_of_the_lines(tmp_path):
    path = write(tmp_path / "x.tsv", [("a", str(i)) for i in range(1, 9)])
    assert [row.text for row in chosen_rows(path, np.array([7, 2]), "")] == ["2", "7"]


COLUMNS = TableColumns("review", None, "stars")


def test_a_tables_rows_have_the_numbers_of_its_errors(tmp_path):
    pytest.importorskip("pyarrow")
    text = "id,stars,review\n1,5,good\n\n2,1,bad\n3,1,good\n4,5,good\n"
    (tmp_path / "x.csv").write_text(text)
    file = LabeledFile(str(tmp_path / "x.csv"), COLUMNS)
    found = read_summary(file)
    assert found.counts == {"5": 2, "1": 2}
    assert found.numbers.tolist() == [2, 4, 5, 6]
    assert found.first_lines == {"5": 2, "1": 4}
    assert found.conflict().lines == (2, 5)
    assert found.lines_also_in(found).tolist() == [2, 4, 5, 6]
    assert [row.text for row in chosen_rows(file, np.array([4]), "")] == ["bad"]


def test_a_table_of_pairs_may_be_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"a": ["x", "x"], "b": ["y", "z"], "label": [0, 1]})
    parquet.write_table(table, tmp_path / "x.parquet")
    columns = TableColumns("a", "b", "label")
    found = read_summary(LabeledFile(str(tmp_path / "x.parquet"), columns))
    assert found.is_pairs and found.counts == {"0": 1, "1": 1}
    assert len(set(found.digests.tolist())) == 2


def test_a_folder_of_tables_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("review,stars\ngood,5\n")
    with pytest.raises(ValueError, match="is 2 files: wanted one"):
        read_summary(LabeledFile(str(tmp_path), COLUMNS))


def test_a_bad_line_is_named(tmp_path):
    (tmp_path / "x.tsv").write_text("a\tone\nb\n")
    with pytest.raises(ValueError, match="x.tsv, line 2: found 1 tab-separated column"):
        read_summary(LabeledFile(str(tmp_path / "x.tsv")))


@pytest.mark.parametrize("columns", [None, COLUMNS])
def test_the_first_of_many_bad_rows_are_named(tmp_path, columns):
    if columns is not None:
        pytest.importorskip("pyarrow")
    write(
        tmp_path / "x.tsv",
        [("stars", "review")] * (columns is not None) + [("1", "good"), ("", "bad")] * 1001,
    )
    with pytest.raises(ValueError) as error:
        read_summary(LabeledFile(str(tmp_path / "x.tsv"), columns))
    head, *faults = str(error.value).splitlines()
    unit, first = ("line", 2) if columns is None else ("row", 3)
    assert head == f"{tmp_path}/x.tsv: 1,001 {unit}s cannot be used. The first:"
    assert len(faults) == 5
    for i, fault in enumerate(faults):
        assert fault.startswith(f"  {tmp_path}/x.tsv, {unit} {first + 2 * i}: the label is ")


def test_where_no_row_is_good_the_first_is_named(tmp_path):
    (tmp_path / "x.tsv").write_text("a\nb\nc\n")
    with pytest.raises(ValueError, match="x.tsv, line 1: found 1 tab-separated column"):
        read_summary(LabeledFile(str(tmp_path / "x.tsv")))


def faults_in(path, content, columns=None):
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_summary(LabeledFile(str(path), columns))
    return [line.partition(", ")[2] for line in str(error.value).splitlines()[1:]]


def test_what_ends_a_file_hides_no_line_before(tmp_path):
    lines = [b"a\tone", b"b", b"", b"", b"a", b"c\ttwo", *[b"a\tone"] * 3000, b"\xff\tx"]
    found = faults_in(tmp_path / "x.tsv", b"\n".join(lines))
    assert [fault[:30] for fault in found] == [
        "line 2: found 1 tab-separated ",
        "line 3: the line is blank: wan",
        "line 5: found 1 tab-separated ",
        "line 3007: the bytes are not u",
    ]


def test_bad_rows_are_named_in_their_order(tmp_path):
    pytest.importorskip("pyarrow")
    good = b'{"review": "x", "stars": "1"}'
    lines = [good, good.replace(b"1", b" "), b"no", good.replace(b"x", b" ")]
    found = faults_in(tmp_path / "x.jsonl", b"\n".join(lines), COLUMNS)
    assert [fault[:12] for fault in found] == ["row 2: the l", "row 3: it is", "row 4: the t"]


def test_a_file_of_too_many_labels_is_read_no_further(tmp_path):
    (tmp_path / "x.tsv").write_text("".join(f"{i}\tone\n" for i in range(100_001)) + "b\n")
    with pytest.raises(ValueError, match="x.tsv, line 100001: found more than 100,000 different"):
        read_summary(LabeledFile(str(tmp_path / "x.tsv")))

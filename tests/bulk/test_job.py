"""Jobs from files to files, against the classifier's own answers."""

import json
import os
import shutil

import pytest

pa = pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

import pyarrow.parquet as pq

from sledgehammer_allennlp import load_archived_classifier
from sledgehammer_allennlp.__main__ import main
from sledgehammer_allennlp.bulk import line_file
from tests.tiny import SENTENCES

THRESHOLD = "0.7"


@pytest.fixture(scope="module")
def rows():
    texts = [text + " and" * (number % 5) for number, text in enumerate(SENTENCES * 3)]
    return [{"id": number, "sentence": text} for number, text in enumerate(texts)]


@pytest.fixture(scope="module")
def inputs(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("inputs") / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def predict_files(archive, inputs, output_dir, *options):
    """The exit status."""
    small = ["--rows-per-part", "40", "--batch-size", "16", "--threshold", THRESHOLD]
    arguments = ["predict-files", archive, *inputs, "--output-dir", output_dir, *small, *options]
    return main([str(argument) for argument in arguments])


def answers_in(output_dir):
    found = []
    for path in sorted((output_dir / "parts").iterdir()):
        if path.suffix == ".parquet":
            found += pq.read_table(path).to_pylist()
        else:
            found += [json.loads(line) for line in path.read_text().splitlines()]
    return found


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_answers_are_the_classifiers_in_the_order_of_the_rows(
    trained, inputs, rows, tmp_path, capsys, format_
):
    options = ["--keep", "id", "--format", format_]
    assert predict_files(trained["archive"], [inputs], tmp_path / "out", *options) == 0
    found = answers_in(tmp_path / "out")
    classifier = load_archived_classifier(trained["archive"], float(THRESHOLD))
    wanted = classifier.predict([row["sentence"] for row in rows])
    assert [answer["id"] for answer in found] == list(range(len(rows)))
    for answer, want in zip(found, wanted):
        assert list(answer) == ["id", "label", "confidence", "exit_layer", "probs"]
        assert answer["label"] == want["label"] and answer["exit_layer"] == want["exit_layer"]
        assert answer["probs"] == pytest.approx(want["probs"], abs=1e-5)
        assert answer["confidence"] == pytest.approx(want["confidence"], abs=1e-5)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    layers = [want["exit_layer"] for want in wanted]
    assert summary["rows"] == summary["answered"] == len(rows) and summary["bad_rows"] == 0
    assert summary["exits"] == {str(layer): layers.count(layer) for layer in (-1, 0, 2, 3)}
    share = classifier.encoder.first_token_share
    cost = sum(layer + share for layer in layers if layer >= 0) / len(layers)
    assert summary["layer_equivalents"] == pytest.approx(cost)
    assert summary["layer_equivalents_at_threshold_1"] == pytest.approx(3 + share)
    assert summary["labels"] == classifier.labels
    assert f"{len(rows):,} rows, 0 of them bad" in capsys.readouterr().out


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_rows_that_are_cut_are_counted_over_all_parts(trained, tmp_path, capsys, format_):
    texts = ["good " * (62 + number % 3) for number in range(99)]  # the model has 64 positions
    path = tmp_path / "in.txt"
    path.write_text("".join(text + "\n" for text in texts))
    assert predict_files(trained["archive"], [path], tmp_path / "out", "--format", format_) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["cut_rows"] == 66 and summary["max_tokens"] == 64 and summary["rows"] == 99
    assert "66 rows had more than 64 word pieces and were cut" in capsys.readouterr().out


def test_pairs_of_csv_and_parquet_are_answered(trained, tmp_path):
    pairs = [(text, "it was a day") for text in SENTENCES]
    table = pa.table(
        {"premise": [one for one, _ in pairs], "hypothesis": [two for _, two in pairs]}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    lines = [f"{one.replace(' , ', ' ')},{two}\n" for one, two in pairs]
    (tmp_path / "in.csv").write_text("hypothesis_of,premise_of\n".join(["", ""]) + "".join(lines))
    wanted = load_archived_classifier(trained["archive"], float(THRESHOLD)).predict(pairs)
    assert predict_files(trained["archive"], [tmp_path / "in.parquet"], tmp_path / "a") == 0
    assert [answer["label"] for answer in answers_in(tmp_path / "a")] == [
        want["label"] for want in wanted
    ]
    columns = ["--text-column", "hypothesis_of", "--second-text-column", "premise_of"]
    assert predict_files(trained["archive"], [tmp_path / "in.csv"], tmp_path / "b", *columns) == 0
    assert len(answers_in(tmp_path / "b")) == len(pairs)


def test_the_most_probable_labels_stand_first(trained, inputs, rows, tmp_path):
    for number in (1, 2, 9):
        output_dir = tmp_path / str(number)
        assert predict_files(trained["archive"], [inputs], output_dir, "--top-labels", number) == 0
        for answer in answers_in(output_dir):
            assert list(answer) == ["label", "confidence", "exit_layer", "top_labels", "top_probs"]
            assert len(answer["top_labels"]) == len(answer["top_probs"]) == min(number, 2)
            assert answer["top_labels"][0] == answer["label"]
            assert answer["top_probs"] == sorted(answer["top_probs"], reverse=True)
            if number > 1:
                assert set(answer["top_labels"]) == {"pos", "neg"}
                assert sum(answer["top_probs"]) == pytest.approx(1)


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_bad_rows_stand_in_their_place_and_are_counted(trained, tmp_path, format_, capsys):
    lines = ['{"text": "it was good", "label": "a"}', "no", '{"text": 3, "label": "b"}'] * 30
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(lines))
    options = ["--bad-rows", "skip", "--keep", "label", "--format", format_]
    assert predict_files(trained["archive"], [path], tmp_path / "out", *options) == 0
    found = answers_in(tmp_path / "out")
    assert len(found) == 90
    assert [answer.get("label") is None for answer in found] == [False, True, True] * 30
    assert [answer["input_label"] for answer in found] == ["a", None, "b"] * 30
    assert found[1]["error"].startswith("row 2: it is not JSON: 'no'")
    assert found[89]["error"] == "row 90: 'text' is 3: wanted a text"
    assert found[0].get("error") is None
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["rows"], summary["answered"], summary["bad_rows"]) == (90, 30, 60)
    assert "90 rows, 60 of them bad\n" in capsys.readouterr().out


def test_a_bad_row_stops_with_its_number_and_what_was_answered_stays(trained, tmp_path, capsys):
    path = tmp_path / "in.txt"
    path.write_bytes(b"good\n" * 100 + b"\xff\n")
    assert predict_files(trained["archive"], [path], tmp_path / "out") == 2
    assert f"{path}, row 101: it is not UTF-8" in capsys.readouterr().err
    assert len(answers_in(tmp_path / "out")) == 80


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_keys_that_the_first_rows_have_not_are_kept_and_counted(
    trained, tmp_path, format_, capsys, monkeypatch
):
    monkeypatch.setattr(line_file, "NUM_SAMPLED", 2)
    late = {"source": "web", "tags": ["a", {"b": 1}], "label": None, "score": 0.5}
    rows = [{"text": "good", "id": 0}, {"text": "bad", "id": 1}, {"text": "good", "id": 2, **late}]
    rows += [{"text": "bad", "source": "mail"}] * 50
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--keep", "all", "--format", format_]
    assert predict_files(trained["archive"], [path], tmp_path / "out", *options) == 0
    found = answers_in(tmp_path / "out")
    assert [answer["id"] for answer in found] == [0, 1, 2] + [None] * 50
    if format_ == "parquet":
        assert list(found[0])[:3] == ["id", "other_keys", "label"]
        others = [answer["other_keys"] and json.loads(answer["other_keys"]) for answer in found]
        assert others == [None, None, late] + [{"source": "mail"}] * 50
    else:
        keys = ["id", "label", "confidence", "exit_layer", "probs"]
        assert list(found[0]) == keys
        assert list(found[2]) == ["id", "source", "tags", "input_label", "score", *keys[1:]]
        assert found[2]["source"] == "web" and json.loads(found[2]["tags"]) == late["tags"]
        assert (found[2]["input_label"], found[2]["score"]) == (None, 0.5)
        assert [answer["source"] for answer in found[3:]] == ["mail"] * 50
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["other_keys"] == {"source": 51, "label": 1, "score": 1, "tags": 1}
    message = "column other_keys): 'source' in 51 rows, 'label' in 1 rows, 'score'"
    assert message in capsys.readouterr().out


def test_rows_that_are_all_bad_and_files_without_rows_are_parts_too(trained, tmp_path):
    for name, content in {
        "a.csv": "text\n",
        "b.csv": 'text\n"a",b\n',
        "c.csv": "text\nok\n",
    }.items():
        (tmp_path / name).write_text(content)
    files = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    assert predict_files(trained["archive"], files, tmp_path / "out", "--bad-rows", "skip") == 0
    found = answers_in(tmp_path / "out")
    assert [answer["error"] for answer in found] == [
        "row 2: it has 2 fields: wanted 1, one a column",
        None,
    ]


def test_only_the_first_rows_up_to_a_limit(trained, inputs, tmp_path):
    assert predict_files(trained["archive"], [inputs], tmp_path / "out", "--limit", "50") == 0
    assert len(answers_in(tmp_path / "out")) == 80
    assert predict_files(trained["archive"], [inputs], tmp_path / "few", "--limit", "7") == 0
    assert len(answers_in(tmp_path / "few")) == 7


def test_a_job_that_is_done_is_not_done_again(trained, inputs, tmp_path):
    for _ in range(2):
        assert predict_files(trained["archive"], [inputs], tmp_path / "out") == 0
        times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/parts").iterdir()}
    first = next(iter(times))
    content = first.read_bytes()
    first.write_bytes(content[:-1])
    assert predict_files(trained["archive"], [inputs], tmp_path / "out") == 0
    assert first.read_bytes() == content
    assert [path for path in times if path.stat().st_mtime_ns != times[path]] == [first]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--threshold", "0.8"], "settings.threshold was 0.7 and is 0.8"),
        (["--keep", "id"], "settings.keep.id was None and is 'int64'"),
        (["--format", "jsonl"], "settings.format was 'parquet' and is 'jsonl'"),
        (["--batch-size", "17"], "settings.batch_size was 16 and is 17"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(
    trained, inputs, tmp_path, capsys, options, message
):
    assert predict_files(trained["archive"], [inputs], tmp_path / "out", "--limit", "1") == 0
    limit = ["--limit", "1"]
    assert predict_files(trained["archive"], [inputs], tmp_path / "out", *limit, *options) == 2
    assert f"has another job: {message}: wanted the same" in capsys.readouterr().err


def test_an_input_or_an_archive_that_changed_is_refused(trained, inputs, tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "x"}\n')
    assert predict_files(trained["archive"], [path], tmp_path / "out") == 0
    os.utime(path, (1, 1))
    assert predict_files(trained["archive"], [path], tmp_path / "out") == 2
    assert f"inputs.{path}.modified was" in capsys.readouterr().err
    assert predict_files(trained["run"], [inputs], tmp_path / "out") == 2
    assert "has another job: archive was" in capsys.readouterr().err


def test_a_folder_with_something_else_is_refused(trained, inputs, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("x")
    assert predict_files(trained["archive"], [inputs], tmp_path) == 2
    assert "has no manifest.json, but 'mine.txt'" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", ".lock"}


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_an_answer_below_the_second_threshold_is_no_label(
    trained, inputs, rows, tmp_path, capsys, format_
):
    run = tmp_path / "run"
    shutil.copytree(trained["run"], run, ignore=shutil.ignore_patterns("*.tar.gz"))
    config = json.loads((run / "config.json").read_text())
    config["model"]["abstain_below"] = 0.9
    (run / "config.json").write_text(json.dumps(config))
    assert predict_files(run, [inputs], tmp_path / "out", "--format", format_) == 0
    wanted = load_archived_classifier(run, float(THRESHOLD)).predict(
        [row["sentence"] for row in rows]
    )
    found = answers_in(tmp_path / "out")
    assert [answer["label"] for answer in found] == [answer["label"] for answer in wanted]
    assert [answer["best_label"] for answer in found] == [one["best_label"] for one in wanted]
    assert {answer["label"] is None for answer in found} == {True, False}

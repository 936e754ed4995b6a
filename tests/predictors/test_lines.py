"""`allennlp predict` over files in which some lines cannot be answered."""

import bz2
import gc
import gzip
import io
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from allennlp.commands.predict import _PredictManager
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor

from sledgehammer_allennlp.predictors.multi_exit_classifier import MultiExitClassifierPredictor
from tests.command_server import client_of

GOOD = ['{"sentence": "the film was good"}', '{"premise": "a day", "hypothesis": "bad"}']
BAD = {
    "good film": "the line is not JSON: 'good film",
    "[1]": r"the input is \[1\]: wanted",
    '{"text": "x"}': "the input has the keys 'text': wanted",
    '{"sentence": 3}': "the value of 'sentence' is 3: wanted",
    '{"premise": "x"}': "the input has the keys 'premise': wanted",
}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def archive(trained):
    return load_archive(trained["archive"])


def _predictor(archive, **settings):
    return Predictor.from_archive(archive, extra_args=settings)


def _file(folder: Path) -> Path:
    """Good lines and bad ones in turns, and a blank one, which does not count, in between."""
    lines = [GOOD[0]]
    for bad in BAD:
        lines += [bad, "", GOOD[1], GOOD[0]]
    path = folder / "in.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def predict(command_server):
    """`allennlp predict` as a process, whose end is part of what is tested."""

    def run(archive, given, output, *options, stdin=None):
        command = [*client_of("allennlp"), "predict", archive, given]
        command += ["--output-file", output, "--include-package", "sledgehammer_allennlp", *options]
        done = subprocess.run(
            list(map(str, command)),
            env=command_server.environment(),
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            timeout=600,
        )
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        return done

    return run


@pytest.fixture
def answers_to(trained, tmp_path, allennlp_command):
    """What `allennlp predict` answers to a file, bad lines being skipped."""

    def answers(given, *options):
        output = tmp_path / "out.jsonl"
        skip = ("--predictor-args", '{"bad_lines": "skip"}')
        files = (trained["archive"], given, "--output-file", output)
        allennlp_command("predict", *files, "--silent", *skip, *options)
        return [json.loads(line) for line in output.read_text().splitlines()]

    return answers


@pytest.mark.parametrize("batch_size", [1, 5])
def test_bad_lines_keep_their_place_when_skipped(archive, tmp_path, answers_to, batch_size):
    answers = answers_to(_file(tmp_path), "--batch-size", batch_size)
    assert len(answers) == 16
    for number, answer in enumerate(answers, start=1):
        if number % 3 == 2:
            assert set(answer) == {"line", "error"} and answer["line"] == number
        else:
            assert answer["label"] in ("pos", "neg")
    predictor = _predictor(archive)
    assert answers[0]["probs"] == pytest.approx(
        predictor.predict("the film was good")["probs"], abs=1e-5
    )
    assert answers[2]["probs"] == pytest.approx(
        predictor.predict_pair("a day", "bad")["probs"], abs=1e-5
    )


@pytest.mark.parametrize("line, message", BAD.items())
def test_a_bad_line_stops_with_its_number(archive, line, message):
    predictor = _predictor(archive)
    predictor.predict_json(predictor.load_line(GOOD[0]))
    with pytest.raises(ValueError, match=f"line 2, not counting blank ones: {message}"):
        predictor.predict_json(predictor.load_line(line))


def test_a_text_that_cannot_be_tokenised_is_a_bad_line(archive, monkeypatch):
    predictor = _predictor(archive, bad_lines="skip")
    token_ids = predictor._dataset_reader._token_ids

    def refusing(texts, second_texts, cut):
        if "odd" in texts:
            raise TypeError("odd text")
        return token_ids(texts, second_texts, cut)

    monkeypatch.setattr(predictor._dataset_reader, "_token_ids", refusing)
    lines = [json.dumps({"sentence": text}) for text in ("good", "odd", "bad")]
    answers = predictor.predict_batch_json([predictor.load_line(line) for line in lines])
    assert answers[1] == {"line": 2, "error": "TypeError: odd text"}
    assert answers[0] != answers[2] and answers[2]["label"] in ("pos", "neg")
    stopping = _predictor(archive)
    with pytest.raises(ValueError, match="line 2, .*: TypeError: odd text"):
        stopping.predict_batch_json([stopping.load_line(line) for line in lines])


@pytest.mark.parametrize("max_length", [None, 9, 100])  # which the model has not
def test_the_log_says_at_the_end_how_many_texts_were_cut(trained, caplog, max_length):
    overrides = {"dataset_reader.tokenizer.max_length": max_length}
    archive = load_archive(trained["archive"], overrides=json.dumps(overrides))
    predictor = _predictor(archive, bad_lines="skip")
    limit = min(max_length or 64, 64)
    for num_words in (limit - 2, limit - 1, 200):
        line = json.dumps({"sentence": " ".join(["good"] * num_words)})
        predictor.predict_json(predictor.load_line(line))
    predictor.predict_json(predictor.load_line("no JSON"))
    assert "were cut" not in caplog.text
    del predictor
    gc.collect()
    assert f"2 of 3 texts were cut to {limit} word pieces" in caplog.text


def test_an_error_that_is_no_lines_fault_is_raised_when_lines_are_skipped(archive, monkeypatch):
    predictor = _predictor(archive, bad_lines="skip")

    def failing(*args, **kwargs):
        raise ValueError("the model is broken")

    monkeypatch.setattr(predictor._model, "run_early_exit", failing)
    with pytest.raises(ValueError, match="^the model is broken$"):
        predictor.predict_json(predictor.load_line(GOOD[0]))


def test_lines_of_a_subclass_have_its_keys(predictor_of_texts):
    lines = [predictor_of_texts.load_line(line) for line in ('{"text": "good"}', GOOD[0])]
    answers = predictor_of_texts.predict_batch_json(lines)
    assert answers[0]["label"] in ("pos", "neg")
    assert answers[1] == {"line": 2, "error": "KeyError: 'text'"}


@pytest.fixture
def predictor_of_texts(archive):
    class OfTexts(MultiExitClassifierPredictor):
        def _json_to_instance(self, json_dict):
            return super()._json_to_instance({"sentence": json_dict["text"]})

    plain = _predictor(archive)
    return OfTexts(plain._model, plain._dataset_reader, bad_lines="skip")


def test_other_ways_with_bad_lines_are_refused(archive):
    with pytest.raises(ConfigurationError, match="bad_lines is 'drop': wanted 'stop' or 'skip'"):
        _predictor(archive, bad_lines="drop")


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "-"])
def test_lines_that_are_not_utf_8_are_bad_ones(tmp_path, monkeypatch, answers_to, name):
    good = GOOD[0].encode()
    bad = [good.replace(b"film", b"caf\xe9"), "é".encode() + b"\x80"]
    lines = b"\n".join([good, bad[0], good, bad[1], good])
    if name != "-":
        opened = gzip.open if name.endswith(".gz") else open
        with opened(tmp_path / name, "wb") as file:
            file.write(lines)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    given = "-" if name == "-" else tmp_path / name
    answers = answers_to(given)
    assert [answer.get("line") for answer in answers] == [None, 2, None, 4, None]
    errors = [answer["error"].split(": wanted")[0] for answer in (answers[1], answers[3])]
    assert errors[0] == "the line is not UTF-8: byte 0xe9 after 21 characters"
    assert errors[1] == "the line is not UTF-8: byte 0x80 after 1 characters"
    assert answers[0] == answers[2] == answers[4]


def test_a_line_that_is_not_utf_8_stops_with_its_number(predict, trained, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(GOOD[0].encode() + b"\n\xff\n")
    run = predict(trained["archive"], tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--silent")
    assert run.returncode == 1
    assert "line 2, not counting blank ones: the line is not UTF-8: byte 0xff after 0" in run.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.jsonl.bz2", "in.jsonl.xz"])
@pytest.mark.parametrize("is_cut_off", [True, False])
def test_damaged_files_are_named_and_what_is_before_is_read(archive, tmp_path, name, is_cut_off):
    path = tmp_path / name
    plain = "".join(f"{line}\n" for line in GOOD * 20_000).encode()
    with {"gz": gzip, "bz2": bz2, "xz": lzma}[name.rsplit(".", 1)[1]].open(path, "wb") as file:
        file.write(plain)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if is_cut_off else plain)
    predictor = _predictor(archive)
    lines = _PredictManager(predictor, str(path), None, 1, False, False)._get_json_data()
    with pytest.raises(ValueError, match=f"cannot read '.*{name}' to its end: "):
        for number, line in enumerate(lines, start=1):
            assert line.number == number and line == json.loads(GOOD[(number - 1) % 2])


def test_other_predictors_read_lines_as_before(archive, tmp_path):
    class OfItsOwn(MultiExitClassifierPredictor):
        def load_line(self, line):
            return {"sentence": line}

    (tmp_path / "in.txt").write_bytes(b"good\n\xff\n")
    plain = _predictor(archive)
    predictor = OfItsOwn(plain._model, plain._dataset_reader)
    given = (predictor, str(tmp_path / "in.txt"), None, 1, False, False)
    with pytest.raises(UnicodeDecodeError):
        _PredictManager(*given).run()


def test_counts_are_logged_at_the_end(predict, trained, tmp_path):
    lines = "".join(f"{line}\n" for line in [*BAD, *GOOD, *BAD, *BAD]).encode()
    output = tmp_path / "out.jsonl"
    run = predict(
        trained["archive"], "-", output, "--predictor-args", '{"bad_lines": "skip"}', stdin=lines
    )
    assert run.returncode == 0, run.stderr
    assert len(output.read_text().splitlines()) == 17
    assert (
        "WARNING - sledgehammer_allennlp.predictors.lines - Lines read, without blank ones: 17. "
        "Answered: 2. Skipped: 15 (lines 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, …)"
    ) in run.stderr + run.stdout


def test_what_was_answered_before_a_bad_line_stays_and_is_counted(predict, trained, tmp_path):
    output = tmp_path / "out.jsonl"
    run = predict(trained["archive"], _file(tmp_path), output, "--silent")
    assert run.returncode == 1
    assert "line 2, not counting blank ones: the line is not JSON" in run.stderr
    assert "Lines read, without blank ones: 2. Answered: 1. Skipped: 0" in run.stderr + run.stdout
    assert [json.loads(line)["exit_layer"] for line in output.read_text().splitlines()] == [3]


def test_a_subclass_may_have_a_constructor_and_lines_of_its_own(archive):
    class OfLists(MultiExitClassifierPredictor):
        def __init__(self, model, dataset_reader):
            Predictor.__init__(self, model, dataset_reader)

        def _json_to_instance(self, json_list):
            return super()._json_to_instance({"sentence": json_list[0]})

    plain = _predictor(archive)
    predictor = OfLists(plain._model, plain._dataset_reader)
    assert predictor.predict_json(predictor.load_line('["good"]'))["label"] in ("pos", "neg")

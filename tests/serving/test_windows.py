"""Long texts in windows, in a service and in files, against the classifier's own answers."""

import json

import pytest

from sledgehammer_allennlp import load_archived_classifier
from sledgehammer_allennlp.__main__ import main
from sledgehammer_allennlp.engine import Windows
from sledgehammer_allennlp.serving.answerer import Answerer, Question
from sledgehammer_allennlp.serving.latency import LatencyControl
from sledgehammer_allennlp.serving.refusal import Refusal
from tests.serving.archives import write_archive
from tests.serving.test_answerer import Done
from tests.tiny import SENTENCES

WINDOWS = {"size": 10, "stride": 5}
THRESHOLDS = (0.0, 0.5, 0.8, 1.0)
LONG = [" ".join(SENTENCES[k : k + 1 + 3 * (k % 4)]) for k in range(40)]


@pytest.fixture(scope="module")
def folder(tiny_bert, tmp_path_factory):
    folder = write_archive(tmp_path_factory.mktemp("windows") / "run", tiny_bert)
    config = json.loads((folder / "config.json").read_text())
    config["model"]["windows"] = WINDOWS
    config["dataset_reader"]["tokenizer"]["max_length"] = 1000
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def classifier(folder):
    return load_archived_classifier(folder)


@pytest.fixture
def answerer(folder):
    made = Answerer(load_archived_classifier(folder), LatencyControl(0.7), token_budget=64)
    yield made
    made.close()


def wanted_of(classifier, text, threshold):
    classifier.confidence_threshold = threshold
    (answer,) = classifier.predict([text])
    return answer


def test_requests_of_texts_in_windows_are_answered_as_alone(answerer, classifier):
    asked = [(text, THRESHOLDS[i % 4]) for i, text in enumerate(LONG)]
    jobs = [Done(answerer, [Question((text,), threshold)]) for text, threshold in asked]
    jobs.append(Done(answerer, [Question((text,), threshold) for text, threshold in asked]))
    answers = [job.wait().answers for job in jobs]
    found = [*[answer for (answer,) in answers[:-1]], *answers[-1]]
    several = 0
    for answer, (text, threshold) in zip(found, asked * 2):
        wanted = wanted_of(classifier, text, threshold)
        for key in ("label", "exit_layer", "windows", "windows_read"):
            assert answer[key] == wanted[key]
        assert answer["probs"] == pytest.approx(wanted["probs"], abs=1e-5)
        several += 1 < wanted["windows_read"] < wanted["windows"]
    assert several  # else this would show little
    layers = classifier.exits.exit_layers
    assert sum(jobs[3].job.windows_exits.values()) == found[3]["windows_read"]
    assert set(jobs[3].job.windows_exits) == set(layers)


@pytest.mark.parametrize("threshold", [0.9, 1.0])
def test_a_text_of_very_many_windows_is_read_on_and_on(answerer, threshold):
    """However many of them exit at the n-grams, where they are done while they are added."""
    classifier = answerer.classifier
    classifier.max_length, classifier.windows = 10_000, Windows(2, 1)
    text = " ".join(SENTENCES)
    (answer,) = Done(answerer, [Question((text,), threshold)]).wait().answers
    wanted = wanted_of(classifier, text, threshold)
    assert answer["windows_read"] == wanted["windows_read"] <= wanted["windows"] > 150
    assert answer["probs"] == pytest.approx(wanted["probs"], abs=1e-5)


def test_pairs_are_refused(answerer):
    with pytest.raises(Refusal, match="windows are of single texts") as refusal:
        Done(answerer, [Question(("a day", "good"))])
    assert refusal.value.status == 422


def test_files_are_answered_in_windows(folder, classifier, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("fsspec")
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in LONG))
    options = ["--threshold", "0.8", "--rows-per-part", "16", "--output-dir", str(tmp_path / "out")]
    assert main(["predict-files", str(folder), str(tmp_path / "in.txt"), *options]) == 0
    parts = sorted((tmp_path / "out" / "parts").iterdir())
    found = [row for part in parts for row in pq.read_table(part).to_pylist()]
    wanted = [wanted_of(classifier, text, 0.8) for text in LONG]
    for answer, want in zip(found, wanted):
        for key in ("label", "exit_layer", "windows", "windows_read"):
            assert answer[key] == want[key]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    num_read = sum(want["windows_read"] for want in wanted)
    assert summary["windows_read"] == num_read > summary["answered"] == len(LONG)
    full = 3 + classifier.encoder.first_token_share
    assert 0 < summary["layer_equivalents"] < full * num_read / len(LONG)
    assert summary["cut_rows"] == 0

"""Long texts in windows, from training to the commands."""

import json

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor

from sledgehammer_allennlp import load_archived_classifier
from tests.tiny import SENTENCES, tiny_experiment

SIZE, STRIDE = 8, 4
WINDOWS = {"size": SIZE, "stride": STRIDE}
# Words that are one piece each, from one window to many.
LONG = [" ".join(SENTENCES[k : k + 1 + k % 5]) for k in range(0, 40, 3)]
LABELS = ["pos" if "good" in text.split()[:6] else "neg" for text in LONG]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "data.tsv"
    path.write_text("".join(f"{label}\t{text}\n" for label, text in zip(LABELS, LONG)))
    return {"train": str(path), "dev": str(path)}


def train(tiny_bert, data, folder, max_length, windows):
    config = tiny_experiment(str(tiny_bert), data, embedding_exit="ngrams", windows=windows)
    config["dataset_reader"]["tokenizer"]["max_length"] = max_length
    config["trainer"]["num_epochs"] = 1
    return train_model(Params(config), str(folder))


@pytest.fixture(scope="module")
def run(tiny_bert, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows") / "run"
    train(tiny_bert, data, folder, 500, WINDOWS)
    return folder


def test_training_and_calibration_see_first_windows_alone(tiny_bert, data, run, tmp_path):
    train(tiny_bert, data, tmp_path / "run", SIZE + 2, None)
    read, cut = (
        load_archived_classifier(folder / "model.tar.gz").state_dict()
        for folder in (run, tmp_path / "run")
    )
    assert read.keys() == cut.keys()
    for name, tensor in cut.items():
        assert torch.equal(read[name], tensor), name


@pytest.mark.parametrize("threshold", [0.985, 1.0])
def test_commands_answer_as_the_archive_does_without_allennlp(
    run, data, tmp_path, allennlp_command, threshold
):
    classifier = load_archived_classifier(run / "model.tar.gz", threshold)
    wanted = classifier.predict(LONG)
    numbers = [answer["windows"] for answer in wanted]
    assert numbers == [1 + max(0, -(-(len(text.split()) - SIZE) // STRIDE)) for text in LONG]
    read = [answer["windows_read"] for answer in wanted]
    assert read == numbers if threshold == 1 else sum(read) < sum(numbers)
    archive = load_archive(
        run / "model.tar.gz", overrides=json.dumps({"model.confidence_threshold": threshold})
    )
    predictor = Predictor.from_archive(archive)
    lines = [predictor.load_line(json.dumps({"sentence": text})) for text in LONG]
    instances = [predictor._dataset_reader.text_to_instance(text) for text in LONG]
    for found in (predictor.predict_batch_json(lines), predictor.predict_batch_instance(instances)):
        for answer, want in zip(found, wanted):
            for key in ("label", "exit_layer", "windows", "windows_read"):
                assert answer[key] == want[key]
            assert answer["probs"] == pytest.approx(want["probs"], abs=1e-5)
    overrides = json.dumps({"model.confidence_threshold": threshold})
    allennlp_command(
        *("evaluate", run / "model.tar.gz", data["dev"], "--overrides", overrides),
        *("--output-file", tmp_path / "metrics.json"),
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    right = [answer["label"] == label for answer, label in zip(wanted, LABELS)]
    assert metrics["accuracy"] == pytest.approx(sum(right) / len(right))
    assert metrics.get("windows_read", 1.0) == pytest.approx(sum(read) / len(read))
    if threshold == 1:
        per_window = 3 + classifier.encoder.first_token_share
        assert metrics["layer_equivalents"] == pytest.approx(per_window * sum(read) / len(read))
        assert "accuracy_layer_0" in metrics


def test_a_loaded_archive_may_read_in_other_windows(run):
    classifier = load_archived_classifier(
        run / "model.tar.gz", windows={"size": 5, "stride": 5}, max_length=12
    )
    (answer,) = classifier.predict(["good " * 30])
    assert answer["windows"] == answer["windows_read"] == 2  # of 10 words
    with pytest.raises(ValueError, match="max_length is 2: wanted a number from 3 on"):
        load_archived_classifier(run / "model.tar.gz", max_length=2)


def test_pairs_are_refused_by_all(run, tiny_bert):
    pair = {"premise": "a day", "hypothesis": "good"}
    with pytest.raises(ValueError, match="windows are of single texts"):
        load_archived_classifier(run / "model.tar.gz").predict([("a day", "good")])
    predictor = Predictor.from_archive(load_archive(run / "model.tar.gz"))
    with pytest.raises(ConfigurationError, match="windows are of single texts"):
        predictor.predict_json(pair)


def test_the_table_of_thresholds_says_that_it_is_of_first_windows(
    run, data, tmp_path, allennlp_command, caplog
):
    options = ("--output-dir", tmp_path / "tradeoff")
    allennlp_command("tradeoff", run / "model.tar.gz", data["dev"], *options)
    assert "of their first windows alone" in caplog.text

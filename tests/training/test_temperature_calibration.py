import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader
from allennlp.models import load_archive
from allennlp.predictors import Predictor
from allennlp.training import TrainerCallback

from sledgehammer_allennlp.archives import load_archived_classifier
from sledgehammer_allennlp.calibration import fit_temperature
from sledgehammer_allennlp.training import temperature_calibration
from sledgehammer_allennlp.training.full_depth import FullDepth, run_at_full_depth
from tests.calibration.test_temperature import probabilities
from tests.calibration.test_temperature_of_scikit_learn import (
    needs_scikit_learns,
    scikit_learns_probabilities,
)
from tests.tiny import tiny_experiment

EXITS = [-1, 0, 2, 3]
COMBINING = {"type": "temperature_calibration", "combine_exits": True}


@needs_scikit_learns
def test_the_archives_temperatures_are_those_that_scikit_learn_fits(trained):
    archive = load_archive(trained["archive"])
    loader = DataLoader.from_params(
        Params({"batch_size": 64}),
        reader=archive.dataset_reader,
        data_path=trained["config"]["validation_data_path"],
    )
    loader.index_with(archive.model.vocab)
    (batch,) = list(loader)
    with torch.no_grad():
        logits = archive.model.eval().all_exit_logits(batch["tokens"]).double().numpy()
    temperatures = archive.model.temperatures.tolist()
    assert len(temperatures) == 4 and all(t != 1 for t in temperatures)
    for exit_logits, temperature in zip(logits, temperatures):
        wanted = scikit_learns_probabilities(exit_logits, batch["label"].numpy())
        np.testing.assert_allclose(probabilities(exit_logits, temperature), wanted, atol=1e-3)


def test_the_model_the_weights_and_the_archive_have_the_same_temperatures(trained):
    wanted = trained["model"].temperatures
    assert torch.equal(torch.load(trained["run"] / "best.th")["temperatures"], wanted)
    assert torch.equal(load_archive(trained["archive"]).model.temperatures, wanted)


def test_checkpoints_are_not_changed_and_only_temperatures_are(trained):
    best = torch.load(trained["run"] / "best.th")
    checkpoints = sorted(trained["run"].glob("model_state_e*.th"))
    assert len(checkpoints) == 2
    same = []
    for path in checkpoints:
        state = torch.load(path)
        assert state["temperatures"].tolist() == [1.0] * 4
        others = [name for name in state if name != "temperatures"]
        assert list(state) == list(best)
        same.append(all(torch.equal(state[name], best[name]) for name in others))
    assert any(same)


def test_the_report_is_in_the_run_the_archive_and_the_metrics(trained):
    report = json.loads((trained["run"] / "calibration.json").read_text())
    with tarfile.open(trained["archive"]) as archive:
        assert json.load(archive.extractfile("calibration.json")) == report
    assert report["num_instances"] == 49
    metrics = json.loads((trained["run"] / "metrics.json").read_text())
    temperatures = trained["model"].temperatures.tolist()
    for layer, exit_report, temperature in zip(EXITS, report["exits"], temperatures):
        assert exit_report["exit_layer"] == layer
        assert exit_report["temperature"] == temperature
        assert exit_report["nll_after"] <= exit_report["nll_before"]
        assert exit_report["accuracy"] == pytest.approx(
            metrics[f"best_validation_accuracy_layer_{layer}"]
        )
        for name in ("temperature", "nll_before", "nll_after", "ece_before", "ece_after"):
            assert metrics[f"calibration_{name}_layer_{layer}"] == exit_report[name]


@TrainerCallback.register("interrupt")
class Interrupt(TrainerCallback):
    """Stops training as Ctrl-C does, once, after the first epoch."""

    armed = False

    def on_batch(self, trainer, *args, **kwargs):
        if Interrupt.armed and trainer._epochs_completed == 1:
            Interrupt.armed = False
            raise KeyboardInterrupt


def _train(folder: Path, tiny_bert: Path, tsv, callbacks=("temperature_calibration",), **settings):
    config = tiny_experiment(str(tiny_bert), tsv)
    config["trainer"].update(callbacks=list(callbacks), num_epochs=settings.pop("num_epochs", 1))
    return train_model(Params(config), str(folder), **settings)


def _log_of(folder: Path) -> str:
    return (folder / "out.log").read_text()


def _train_with_interruption(folder: Path, tiny_bert: Path, tsv) -> None:
    Interrupt.armed = True
    with pytest.raises(KeyboardInterrupt):
        _train(folder, tiny_bert, tsv, ["interrupt", COMBINING], num_epochs=2)


def test_an_interrupted_run_is_not_calibrated_and_says_what_to_do(tiny_bert, tsv, tmp_path):
    _train_with_interruption(tmp_path, tiny_bert, tsv)
    assert "the model is not calibrated" in _log_of(tmp_path)
    assert "--recover" in _log_of(tmp_path)
    assert torch.load(tmp_path / "best.th")["temperatures"].tolist() == [1.0] * 4
    assert not (tmp_path / "calibration.json").exists()


def test_an_interrupted_run_recovers_to_a_calibrated_archive(tiny_bert, tsv, tmp_path):
    _train_with_interruption(tmp_path, tiny_bert, tsv)
    callbacks = ["interrupt", COMBINING]
    _train(tmp_path, tiny_bert, tsv, callbacks, num_epochs=2, recover=True)
    model = load_archive(tmp_path / "model.tar.gz").model
    assert all(t != 1 for t in model.temperatures.tolist())
    report = json.loads((tmp_path / "calibration.json").read_text())
    assert model.combination.weights == [e["combination"]["weights"] for e in report["exits"]]
    assert len(model.combination.weights) == 4


def test_a_combination_is_in_the_archive_the_report_the_metrics_and_the_log(
    tiny_bert, tsv, tmp_path
):
    in_memory = _train(tmp_path, tiny_bert, tsv, [COMBINING])
    archive = str(tmp_path / "model.tar.gz")
    weights = load_archive(archive).model.combination.weights
    assert weights == in_memory.combination.weights
    assert load_archived_classifier(archive).combination.weights == weights
    report = json.loads((tmp_path / "calibration.json").read_text())
    assert [e["combination"]["weights"] for e in report["exits"]] == weights
    assert weights[0] == [1 / report["exits"][0]["temperature"], 0, 0, 0]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    # In one batch, because AllenNLP's loss is the mean of batches' means.
    evaluated = evaluate_from_archive(archive, tsv["dev"], batch_size=64)
    assert evaluated["accuracy"] == evaluated["accuracy_layer_3"]
    assert evaluated["loss"] == pytest.approx(report["exits"][-1]["combination"]["nll"], abs=1e-4)
    for exit_ in report["exits"]:
        for name in ("accuracy", "nll", "ece"):
            found = metrics[f"calibration_combined_{name}_layer_{exit_['exit_layer']}"]
            assert found == exit_["combination"][name]
        assert exit_["combination"]["nll"] <= exit_["nll_after"] + 0.02  # with the penalty
        found = evaluated[f"accuracy_layer_{exit_['exit_layer']}"]
        assert found == pytest.approx(exit_["combination"]["accuracy"])
        assert f"-> {exit_['combination']['nll']:.4f}" in _log_of(tmp_path)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_combine_exits_that_is_neither_true_nor_false_is_refused(value):
    settings = {"type": "temperature_calibration", "combine_exits": value}
    with pytest.raises(ConfigurationError, match=f"combine_exits is {value!r}: wanted true or"):
        TrainerCallback.from_params(Params(settings), serialization_dir="")


def test_a_write_that_fails_leaves_the_weights_whole(tiny_bert, tsv, tmp_path, monkeypatch):
    original = torch.save

    def fail_halfway(state, path, *args, **kwargs):
        if str(path).endswith(".new"):
            Path(path).write_bytes(b"half")
            raise OSError("no space left")
        return original(state, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", fail_halfway)
    with pytest.raises(OSError, match="no space left"):
        _train(tmp_path, tiny_bert, tsv)
    assert torch.load(tmp_path / "best.th")["temperatures"].tolist() == [1.0] * 4
    assert not list(tmp_path.glob(".*.new"))


@TrainerCallback.register("spoil")
class Spoil(TrainerCallback):
    """Makes one exit's logits NaN, as if training had diverged, before calibration."""

    def on_end(self, trainer, *args, **kwargs):
        weights = torch.load(trainer.get_best_weights_path())
        weights["exits.classifiers.1.linear.bias"].fill_(float("nan"))
        torch.save(weights, trainer.get_best_weights_path())


def test_logits_that_are_nan_are_refused(tiny_bert, tsv, tmp_path):
    with pytest.raises(ValueError, match="exit layer 0: 49 of 49 instances .*not finite"):
        _train(tmp_path, tiny_bert, tsv, ["spoil", "temperature_calibration"])
    assert torch.load(tmp_path / "best.th")["temperatures"].tolist() == [1.0] * 4


def test_no_validation_data_is_refused_before_training(tiny_bert, tsv, tmp_path):
    config = tiny_experiment(str(tiny_bert), tsv)
    del config["validation_data_path"], config["validation_data_loader"]
    with pytest.raises(ConfigurationError, match="wanted validation_data_path"):
        train_model(Params(config), str(tmp_path))
    assert not list(tmp_path.glob("model_state*"))


def test_another_model_is_refused_before_training(tiny_bert, tsv, tmp_path):
    config = tiny_experiment(str(tiny_bert), tsv)
    config["model"] = {
        "type": "basic_classifier",
        "text_field_embedder": {
            "token_embedders": {
                "tokens": {"type": "pretrained_transformer", "model_name": str(tiny_bert)}
            }
        },
        "seq2vec_encoder": {"type": "bag_of_embeddings", "embedding_dim": 32},
    }
    with pytest.raises(ConfigurationError, match="BasicClassifier: wanted a multi_exit_classifier"):
        train_model(Params(config), str(tmp_path))


def test_it_says_when_the_report_will_not_be_archived(tiny_bert, tsv, tmp_path):
    config = tiny_experiment(str(tiny_bert), tsv)
    del config["include_in_archive"]
    config["trainer"]["num_epochs"] = 1
    train_model(Params(config), str(tmp_path))
    assert '"include_in_archive": ["calibration.json", "model_card.md"]' in _log_of(tmp_path)
    assert all(t != 1 for t in load_archive(tmp_path / "model.tar.gz").model.temperatures.tolist())


def test_the_temperatures_fit_the_archived_weights_after_an_interruption(tiny_bert, tsv, tmp_path):
    """The checkpoint of the first, best epoch does not say that it was the best."""

    def train(recover: bool) -> None:
        config = tiny_experiment(str(tiny_bert), tsv)
        callbacks = ["interrupt", "temperature_calibration"]
        config["trainer"].update(callbacks=callbacks, validation_metric="+loss")
        train_model(Params(config), str(tmp_path), recover=recover)

    Interrupt.armed = True
    with pytest.raises(KeyboardInterrupt):
        train(recover=False)
    before = torch.load(tmp_path / "best.th")
    train(recover=True)
    _assert_temperatures_fit_the_weights(tmp_path, tsv)
    after = torch.load(tmp_path / "best.th")
    assert all(torch.equal(after[name], before[name]) for name in before if name != "temperatures")


def test_the_temperatures_fit_the_archived_weights_if_the_last_epoch_is_not_validated(
    tiny_bert, tsv, tmp_path
):
    config = tiny_experiment(str(tiny_bert), tsv)
    validate = {"type": "should_validate_callback", "validation_interval": 2}
    config["trainer"].update(callbacks=[validate, "temperature_calibration"], num_epochs=3)
    train_model(Params(config), str(tmp_path))
    _assert_temperatures_fit_the_weights(tmp_path, tsv)


def _assert_temperatures_fit_the_weights(folder: Path, tsv) -> None:
    archive = load_archive(folder / "model.tar.gz")
    loader = DataLoader.from_params(
        Params({"batch_size": 16}), reader=archive.dataset_reader, data_path=tsv["dev"]
    )
    loader.index_with(archive.model.vocab)
    full_depth = run_at_full_depth(archive.model, loader, torch.device("cpu"))
    wanted = [fit_temperature(logits, full_depth.labels) for logits in full_depth.logits]
    assert archive.model.temperatures.tolist() == pytest.approx(wanted, rel=1e-3)
    report = json.loads((folder / "calibration.json").read_text())
    found = [exit_report["temperature"] for exit_report in report["exits"]]
    assert archive.model.temperatures.tolist() == found


def test_include_in_archive_may_be_null(tiny_bert, tsv, tmp_path):
    config = tiny_experiment(str(tiny_bert), tsv)
    config["include_in_archive"] = None
    config["trainer"]["num_epochs"] = 1
    assert train_model(Params(config), str(tmp_path)) is not None


def made_full_depth(num_right) -> FullDepth:
    """50 instances, of which each exit answers so many rightly: the first."""
    labels = np.arange(50) % 2
    is_right = np.arange(50) < np.array(num_right)[:, None]
    answers = np.where(is_right, labels, 1 - labels)
    return FullDepth(np.eye(2, dtype=np.float32)[answers], [None] * len(num_right), labels)


@pytest.mark.parametrize("num_right", [(45, 40, 33, 30), (30, 33, 40, 35)])
def test_an_exit_that_is_clearly_better_than_the_last_is_warned_of(
    tiny_bert, tsv, tmp_path, monkeypatch, num_right
):
    made = made_full_depth(num_right)
    monkeypatch.setattr(temperature_calibration, "run_at_full_depth", lambda *given: made)
    _train(tmp_path, tiny_bert, tsv)
    log = _log_of(tmp_path)
    warning = (
        "On the validation data: The exit before layer 0 is clearly more accurate than the last "
        "one: 0.9000 against 0.6000 of 50 instances, p = 9.2e-05."
    )
    assert (warning in log) == (num_right[0] == 45)
    assert ("is clearly more accurate" in log) == (num_right[0] == 45)
    if num_right[0] == 45:
        (advice,) = re.findall("Train longer than these (.+?) steps, with .num_epochs.: 20, ", log)
        (total,) = re.findall("Training will have (.+?) steps", log)
        assert advice == total


def calibration_with(max_accuracy_drop):
    return {"type": "temperature_calibration", "max_accuracy_drop": max_accuracy_drop}


@pytest.mark.parametrize("max_drop", [0, 0.1])
def test_the_default_threshold_is_the_fastest_within_the_drop(tiny_bert, tsv, tmp_path, max_drop):
    _train(tmp_path, tiny_bert, tsv, [calibration_with(max_drop)], num_epochs=3)
    archive = str(tmp_path / "model.tar.gz")
    threshold = load_archive(archive).model.confidence_threshold
    accuracy, cost = {}, {}
    for tried in (threshold, 0, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 1):
        metrics = evaluate_from_archive(
            archive, tsv["dev"], cmd_overrides=json.dumps({"model.confidence_threshold": tried})
        )
        accuracy[tried], cost[tried] = metrics["accuracy"], metrics["layer_equivalents"]
    allowed = [tried for tried in accuracy if accuracy[tried] >= accuracy[1] - max_drop - 1e-9]
    assert len(set(cost.values())) > 5
    assert threshold in allowed and cost[threshold] == min(cost[tried] for tried in allowed)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    report = json.loads((tmp_path / "calibration.json").read_text())
    assert metrics["recommended_threshold"] == report["recommended_threshold"] == threshold
    assert report["max_accuracy_drop"] == max_drop
    assert f"The default threshold is {threshold:g}" in _log_of(tmp_path)


def test_predictions_are_made_at_the_kept_threshold_unless_told(tiny_bert, tsv, tmp_path):
    _train(tmp_path, tiny_bert, tsv, [calibration_with(0.5)], num_epochs=2)
    archive = str(tmp_path / "model.tar.gz")
    kept = load_archive(archive).model.confidence_threshold
    assert kept < 1
    lines = Path(tsv["dev"]).read_text().splitlines()
    texts = [line.split("\t")[1] for line in lines]

    def exits(**settings):
        predictor = Predictor.from_path(archive, **settings)
        answers = predictor.predict_batch_json([{"sentence": text} for text in texts])
        return [answer["exit_layer"] for answer in answers]

    assert exits() == exits(overrides={"model.confidence_threshold": kept})
    assert set(exits()) != {3}
    assert set(exits(overrides={"model.confidence_threshold": 1.0})) == {3}
    found = [answer["exit_layer"] for answer in load_archived_classifier(archive).predict(texts)]
    assert found == exits()
    at_one = load_archived_classifier(archive, confidence_threshold=1.0).predict(texts)
    assert {answer["exit_layer"] for answer in at_one} == {3}


def test_without_a_drop_the_default_threshold_is_one(trained):
    weights = torch.load(trained["run"] / "best.th")
    assert weights["exits._extra_state"] == 1
    assert load_archive(trained["archive"]).model.confidence_threshold == 1
    assert "recommended_threshold" not in json.loads((trained["run"] / "metrics.json").read_text())


def test_a_threshold_in_the_config_and_one_to_be_chosen_are_refused(tiny_bert, tsv, tmp_path):
    config = tiny_experiment(str(tiny_bert), tsv, confidence_threshold=0.9)
    config["trainer"]["callbacks"] = [calibration_with(0.1)]
    with pytest.raises(ConfigurationError, match="confidence_threshold 0.9.*wanted one of them"):
        train_model(Params(config), str(tmp_path))


def test_the_threshold_may_be_chosen_by_the_recall_of_every_label(tiny_bert, tsv, tmp_path):
    calibration = {"type": "temperature_calibration", "max_recall_drop": 0.1}
    _train(tmp_path, tiny_bert, tsv, [calibration], num_epochs=3)
    report = json.loads((tmp_path / "calibration.json").read_text())
    archive = load_archive(str(tmp_path / "model.tar.gz"))
    assert report["max_recall_drop"] == 0.1
    assert archive.model.confidence_threshold == report["recommended_threshold"] < 1
    assert "at most 10 points of any label's recall lost" in _log_of(tmp_path)


@pytest.mark.parametrize("drop", [-0.1, 1, "0.1"])
def test_a_bad_drop_is_refused_before_training(tiny_bert, tsv, tmp_path, drop):
    with pytest.raises(ConfigurationError, match="max_accuracy_drop: .* wanted a share from 0"):
        _train(tmp_path, tiny_bert, tsv, [calibration_with(drop)])
    assert not list(tmp_path.glob("model_state*"))

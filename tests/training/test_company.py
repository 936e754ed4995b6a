"""What AllenNLP's trainer and its callbacks do around a model with exits and its calibration."""

import json
import struct
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.data.data_loaders import SimpleDataLoader
from allennlp.models import load_archive
from allennlp.training import TrainerCallback

from sledgehammer_allennlp.archives import load_archived_classifier
from sledgehammer_allennlp.calibration import fit_temperature, negative_log_likelihood
from sledgehammer_allennlp.predictors import MultiExitClassifierPredictor
from sledgehammer_allennlp.training.full_depth import FullDepth, run_at_full_depth
from sledgehammer_allennlp.weights_file import read_weights
from tests.tiny import SENTENCES, tiny_experiment

SGD = {"type": "sgd", "lr": 0.05}


def train(folder: Path, config: Dict[str, Any], **trainer: Any) -> Dict[str, Any]:
    """What a run gave: `model`, `metrics`, `report`, `weights`, and its `archive`."""
    config["trainer"].update(trainer)
    model = train_model(Params(config), str(folder))
    return {
        "model": model,
        "metrics": json.loads((folder / "metrics.json").read_text()),
        "report": json.loads((folder / "calibration.json").read_text()),
        "weights": read_weights(folder / "best.th"),
        "archive": str(folder / "model.tar.gz"),
    }


@pytest.fixture
def config(tiny_bert, tsv) -> Dict[str, Any]:
    config = tiny_experiment(str(tiny_bert), tsv)
    config["trainer"]["num_epochs"] = 1
    return config


@pytest.fixture
def without_dropout(tiny_bert, tsv, tmp_path) -> Dict[str, Any]:
    """A config with which what is computed depends on nothing but data and weights."""
    folder = tmp_path / "without-dropout"
    folder.mkdir()
    for file in tiny_bert.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "config.json").read_text())
    settings.update(hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    (folder / "config.json").write_text(json.dumps(settings))
    config = tiny_experiment(str(folder), tsv, dropout=0)
    config["trainer"].update(num_epochs=1, optimizer=dict(SGD))
    config["data_loader"]["shuffle"] = False
    return config


def full_depth_of(model, reader, path: str) -> FullDepth:
    loader = SimpleDataLoader(list(reader.read(path)), 49, vocab=model.vocab)
    return run_at_full_depth(model, loader, -1)


def fitted_to(full_depth: FullDepth):
    return [fit_temperature(logits, full_depth.labels) for logits in full_depth.logits]


@TrainerCallback.register("weights_after_each_batch")
class WeightsAfterEachBatch(TrainerCallback):
    """Keeps the parameters that the optimizer left, the first before any batch."""

    seen: "list[Dict[str, torch.Tensor]]" = []

    def _keep(self, trainer) -> None:
        self.seen.append({n: p.detach().clone() for n, p in trainer.model.named_parameters()})

    def on_start(self, trainer, is_primary=True, **kwargs) -> None:
        self.seen.clear()
        self._keep(trainer)

    def on_batch(self, trainer, *args, is_training, **kwargs) -> None:
        if is_training:
            self._keep(trainer)


def test_averaged_weights_are_those_calibrated_and_archived(config, tsv, tmp_path):
    callbacks = ["weights_after_each_batch", "temperature_calibration"]
    average = {"type": "exponential", "decay": 0.8}
    found = train(tmp_path / "run", config, moving_average=average, callbacks=callbacks)
    first, *rest = WeightsAfterEachBatch.seen
    assert len(rest) == 7
    averages = first
    for number, weights in enumerate(rest, start=1):
        decay = min(0.8, (1 + number) / (10 + number))
        averages = {n: decay * averages[n] + (1 - decay) * w for n, w in weights.items()}
    archive = load_archive(found["archive"])
    for name, parameter in archive.model.named_parameters():
        torch.testing.assert_close(parameter, averages[name], rtol=0, atol=1e-5)
    assert max(float((rest[-1][name] - averages[name]).abs().max()) for name in averages) > 5e-4

    full_depth = full_depth_of(archive.model, archive.dataset_reader, tsv["dev"])
    np.testing.assert_allclose(archive.model.temperatures, fitted_to(full_depth), rtol=1e-3)
    assert found["model"].temperatures.tolist() == archive.model.temperatures.tolist()
    accuracy = (full_depth.logits[-1].argmax(-1) == full_depth.labels).mean()
    assert found["metrics"]["best_validation_accuracy"] == pytest.approx(accuracy)
    archive.model.load_state_dict({**archive.model.state_dict(), **rest[-1]})
    of_the_last = fitted_to(full_depth_of(archive.model, archive.dataset_reader, tsv["dev"]))
    assert not np.allclose(of_the_last, found["model"].temperatures, rtol=1e-2)


def test_accumulated_gradients_are_those_of_the_bigger_batch(without_dropout, tmp_path):
    weights = {}
    for size, steps in ((16, 1), (8, 2), (8, 1)):
        config = json.loads(json.dumps(without_dropout))
        config["data_loader"]["batch_size"] = size
        folder = tmp_path / f"{size}-{steps}"
        weights[size, steps] = train(folder, config, num_gradient_accumulation_steps=steps)
    whole, accumulated, small = (weights[key]["weights"] for key in ((16, 1), (8, 2), (8, 1)))
    for name, tensor in whole.items():
        torch.testing.assert_close(accumulated[name], tensor, rtol=1e-3, atol=1e-4)
    differences = [
        float((small[name] - tensor).abs().max())
        for name, tensor in whole.items()
        if tensor.numel()  # the combination of exits is none
    ]
    assert max(differences) > 0.01
    losses = [weights[key]["metrics"]["training_loss"] for key in ((16, 1), (8, 2))]
    # AllenNLP adds up the losses of groups of batches and divides by the number of groups.
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_mixed_precision_is_refused_on_cpus_by_allennlp(config, tmp_path):
    with pytest.raises(ValueError, match="Using AMP requires a cuda device"):
        train(tmp_path / "run", config, use_amp=True)


def test_under_autocast_it_learns_and_answers_as_in_float32(trained):
    """What AllenNLP's `use_amp` does around a batch, in the 16 bits that CPUs have."""
    archive = load_archive(trained["archive"])
    instances = list(archive.dataset_reader.read(trained["config"]["validation_data_path"]))
    model = archive.model
    (batch,) = list(SimpleDataLoader(instances, 49, vocab=model.vocab))
    found = {}
    for name, enabled in (("float32", False), ("bfloat16", True)):
        torch.manual_seed(1)
        model.train().zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = model(**batch)["loss"]
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        assert gradient.dtype == torch.float32 and gradient.isfinite().all()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled), torch.no_grad():
            answers = model.eval()(**batch)
        found[name] = loss.item(), gradient, answers
    loss, gradient, answers = found["float32"]
    other_loss, other_gradient, other_answers = found["bfloat16"]
    assert other_loss == pytest.approx(loss, rel=0.05) and other_loss != loss
    assert torch.cosine_similarity(gradient, other_gradient, dim=0) > 0.95
    torch.testing.assert_close(other_answers["probs"].float(), answers["probs"], rtol=0, atol=0.05)
    assert (other_answers["exit_layer"] == answers["exit_layer"]).all()


def test_parameters_named_in_no_grad_do_not_change_and_others_do(config, tmp_path):
    config["model"]["embedding_exit"] = "ngrams"
    callbacks = ["weights_after_each_batch", "temperature_calibration"]
    patterns = ["^encoder\\.", "^exits\\.classifiers\\.1\\."]
    found = train(tmp_path / "run", config, no_grad=patterns, callbacks=callbacks)
    before = WeightsAfterEachBatch.seen[0]
    same = {name for name, w in before.items() if torch.equal(found["weights"][name], w)}
    wanted = {n for n in before if n.startswith(("encoder.", "exits.classifiers.1."))}
    assert same == wanted and 0 < len(wanted) < len(before)
    assert found["model"].exits.ngrams.is_fitted


def events_in(folder: Path) -> Dict[str, Dict[int, float]]:
    """The scalars of a TensorBoard log, by name and step."""
    from tensorboardX.proto.event_pb2 import Event

    scalars: Dict[str, Dict[int, float]] = {}
    (file,) = folder.glob("events.out.*")
    data, start = file.read_bytes(), 0
    while start < len(data):  # length, its checksum, the event, its checksum
        (length,) = struct.unpack_from("<Q", data, start)
        event = Event.FromString(data[start + 12 : start + 12 + length])
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                scalars.setdefault(value.tag, {})[event.step] = value.simple_value
        start += length + 16
    return scalars


def test_tensorboard_gets_the_exits_metrics(config, tmp_path):
    logger = {"type": "tensorboard", "summary_interval": 1, "distribution_interval": 2}
    callbacks = [logger, "temperature_calibration"]
    train(tmp_path / "run", config, num_epochs=2, callbacks=callbacks)
    log = tmp_path / "run" / "log"
    validation, training = events_in(log / "validation"), events_in(log / "train")
    per_epoch = [
        json.loads((tmp_path / "run" / f"metrics_epoch_{epoch}.json").read_text())
        for epoch in range(2)
    ]
    names = ["accuracy", "accuracy_layer_-1", "accuracy_layer_2", "mean_exit_accuracy"]
    for name in [*names, "layer_equivalents", "exit_rate_layer_3", "loss"]:
        logged = validation[f"validation/{name}"]
        wanted = [metrics[f"validation_{name}"] for metrics in per_epoch]
        assert list(logged.values()) == pytest.approx(wanted)
    assert len(training["train/batch_loss"]) == 14
    for name in ("accuracy_layer_0", "mean_exit_accuracy", "loss"):
        wanted = [metrics[f"training_{name}"] for metrics in per_epoch]
        assert list(training[f"train/{name}"].values()) == pytest.approx(wanted)


def test_weights_and_biases_gets_the_exits_metrics_offline(config, tmp_path, monkeypatch):
    for name, value in (("MODE", "offline"), ("SILENT", "true"), ("CONSOLE", "off")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    logger = {"type": "wandb", "summary_interval": 4, "watch_model": False}
    folder = tmp_path / "run"
    train(folder, config, callbacks=[logger, "temperature_calibration"])
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    store = DataStore()
    store.open_for_scan(str(file))
    logged = {}
    while (data := store.scan_data()) is not None:
        record = Record.FromString(data)
        for item in record.history.item:
            key = item.key or "/".join(item.nested_key)
            logged[key] = json.loads(item.value_json)
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("accuracy", "accuracy_layer_-1", "accuracy_layer_2", "layer_equivalents"):
        assert logged[f"validation/{name}"] == pytest.approx(metrics[f"best_validation_{name}"])


def test_of_training_that_patience_ended_the_best_epoch_is_calibrated(config, tsv, tmp_path):
    found = train(
        tmp_path / "run",
        config,
        num_epochs=20,
        patience=2,
        grad_norm=1.0,
        optimizer={"type": "sgd", "lr": 0.3},
    )
    metrics, report = found["metrics"], found["report"]
    assert metrics["epoch"] == metrics["best_epoch"] + 2 < 19
    archive = load_archive(found["archive"])
    full_depth = full_depth_of(archive.model, archive.dataset_reader, tsv["dev"])
    temperatures = archive.model.temperatures.tolist()
    for logits, temperature, exit_ in zip(full_depth.logits, temperatures, report["exits"]):
        best = metrics[f"best_validation_accuracy_layer_{exit_['exit_layer']}"]
        assert exit_["accuracy"] == pytest.approx(best)
        nll = negative_log_likelihood(logits, full_depth.labels, temperature)
        assert exit_["nll_after"] == pytest.approx(nll, rel=1e-3)


def test_evaluation_on_test_is_of_the_calibrated_model(config, tsv, tmp_path):
    config.update(test_data_path=tsv["dev"], evaluate_on_test=True)
    found = train(tmp_path / "run", config)
    metrics, last = found["metrics"], found["report"]["exits"][-1]
    assert metrics["test_accuracy"] == pytest.approx(last["accuracy"])
    archive = load_archive(found["archive"])
    instances = list(archive.dataset_reader.read(tsv["dev"]))
    loader = SimpleDataLoader(instances, 16, vocab=archive.model.vocab)
    with torch.no_grad():
        losses = [archive.model.eval()(**batch)["loss"].item() for batch in loader]
    assert metrics["test_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert metrics["test_loss"] != pytest.approx(metrics["best_validation_loss"], rel=1e-2)


def other_data(folder: Path, labels: Dict[str, str]) -> str:
    """Data in which labels are met in another order than in that of `trained`."""
    lines = [f"{labels['pos' if 'good' in text else 'neg']}\t{text}\n" for text in SENTENCES]
    path = folder / "other.tsv"
    path.write_text("".join(line for line in sorted(lines, reverse=True)))
    return str(path)


def fine_tuning(trained, data: str, model: Dict[str, Any]) -> Dict[str, Any]:
    config = json.loads(json.dumps(trained["config"]))
    config.update(model=model, train_data_path=data, validation_data_path=data)
    config["dataset_reader"]["tokenizer"]["model_name"] = model.get("transformer_model") or str(
        Path(trained["run"]).parent / "moved-away"
    )
    config["trainer"]["num_epochs"] = 1
    return config


def test_an_archive_is_fine_tuned_and_calibrated_anew(trained, tmp_path):
    # More "pos" than "neg", so that a vocabulary made from it has them the other way round.
    data = other_data(tmp_path, {"pos": "neg", "neg": "pos"})
    model = {"type": "from_archive", "archive_file": trained["archive"]}
    found = train(tmp_path / "run", fine_tuning(trained, data, model))
    first = load_archive(trained["archive"]).model
    archive = load_archive(found["archive"])
    assert archive.model.label_names() == first.label_names()
    full_depth = full_depth_of(archive.model, archive.dataset_reader, data)
    np.testing.assert_allclose(archive.model.temperatures, fitted_to(full_depth), rtol=1e-3)
    assert archive.model.temperatures.tolist() != first.temperatures.tolist()
    accuracy = (full_depth.logits[-1].argmax(-1) == full_depth.labels).mean()
    assert found["metrics"]["best_validation_accuracy"] == pytest.approx(accuracy)

    wanted = "'from_archive', of '.*model.tar.gz': .* Wanted .*initializer"
    with pytest.raises(ValueError, match=wanted):
        load_archived_classifier(found["archive"])
    saved = Vocabulary.from_files(tmp_path / "run" / "vocabulary")
    saved_labels = list(saved.get_token_to_index_vocabulary("labels"))
    assert saved_labels == first.label_names()[::-1]  # which is why it is refused
    with pytest.raises(ConfigurationError, match="confidence_threshold"):
        load_archive(found["archive"], overrides={"model.confidence_threshold": 0.5})


def test_fine_tuning_anew_forgets_the_threshold_and_fits_ngrams_again(
    trained_with_heads, trained, tiny_bert, tmp_path
):
    data = other_data(tmp_path, {"pos": "neg", "neg": "pos"})
    first = load_archive(trained_with_heads).model
    model = {"type": "from_archive", "archive_file": trained_with_heads}
    config = fine_tuning(trained, data, model)
    config["trainer"]["callbacks"] = [{"type": "temperature_calibration", "max_accuracy_drop": 0.5}]
    found = train(tmp_path / "run", config)
    again = load_archive(found["archive"]).model
    assert again.confidence_threshold == found["report"]["recommended_threshold"] < 1
    full_depth = full_depth_of(again, load_archive(trained_with_heads).dataset_reader, data)
    before = full_depth_of(first, load_archive(trained_with_heads).dataset_reader, data)
    accuracies = [(d.logits[0].argmax(-1) == d.labels).mean() for d in (before, full_depth)]
    assert accuracies[0] < 0.2 and accuracies[1] > 0.9


def test_weights_of_an_archive_in_a_config_of_its_own_give_one_that_needs_no_other(
    trained, tiny_bert, tmp_path
):
    """The way to train further that the README recommends."""
    data = other_data(tmp_path, {"pos": "pos", "neg": "neg"})
    weights = {"type": "pretrained", "weights_file_path": trained["archive"]}
    model = {
        **trained["config"]["model"],
        "transformer_model": str(tiny_bert),
        "initializer": {"regexes": [[".*", weights]]},
    }
    config = fine_tuning(trained, data, model)
    config["vocabulary"] = {"type": "from_files", "directory": trained["archive"]}
    config["trainer"]["callbacks"] = ["weights_after_each_batch", "temperature_calibration"]
    found = train(tmp_path / "run", config)
    first = dict(load_archive(trained["archive"]).model.named_parameters())
    for name, parameter in WeightsAfterEachBatch.seen[0].items():
        assert torch.equal(parameter, first[name])
    archive = load_archive(found["archive"], overrides={"model.confidence_threshold": 0.6})
    classifier = load_archived_classifier(found["archive"], confidence_threshold=0.6)
    predictor = MultiExitClassifierPredictor(archive.model, archive.dataset_reader)
    wanted = predictor.predict_batch_json([{"sentence": text} for text in SENTENCES])
    for answer, other in zip(classifier.predict(SENTENCES), wanted):
        assert answer["label"] == other["label"]
        assert answer["probs"] == pytest.approx(other["probs"], abs=1e-5)
        assert answer["exit_layer"] == other["exit_layer"]


def test_labels_that_an_archive_does_not_know_are_refused(trained, tmp_path):
    data = other_data(tmp_path, {"pos": "pos", "neg": "so-so"})
    model = {"type": "from_archive", "archive_file": trained["archive"]}
    config = fine_tuning(trained, data, model)
    with pytest.raises(ConfigurationError, match="labels so-so, .*: wanted those of"):
        train_model(Params(config), str(tmp_path / "run"))


def test_a_vocabulary_is_extended(trained, tiny_bert, tsv, tmp_path):
    known = Vocabulary.from_files(trained["run"] / "vocabulary")
    config = tiny_experiment(str(tiny_bert), tsv)
    data = other_data(tmp_path, {"pos": "pos", "neg": "so-so"})
    config.update(train_data_path=data, validation_data_path=data)
    directory = str(trained["run"] / "vocabulary")
    config["vocabulary"] = {"type": "extend", "directory": directory}
    config["trainer"]["num_epochs"] = 1
    found = train(tmp_path / "run", config)
    names = known.get_index_to_token_vocabulary("labels")
    labels = [names[0], names[1], "so-so"]
    archive = load_archive(found["archive"])
    assert archive.model.label_names() == labels
    assert load_archived_classifier(found["archive"]).labels == labels


def test_extending_the_embedder_vocab_of_an_archive_changes_nothing(trained):
    model = load_archive(trained["archive"]).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.vocab.extend_from_vocab(Vocabulary(tokens_to_add={"tokens": ["new"]}))
    model.extend_embedder_vocab()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.vocab.add_token_to_namespace("so-so", "labels")
    with pytest.raises(ConfigurationError, match="labels so-so, .*: wanted those of"):
        model.extend_embedder_vocab()

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.models import load_archive
from allennlp.predictors import Predictor
from allennlp.training import GradientDescentTrainer, TrainerCallback
from transformers import BertModel

from sledgehammer_allennlp.archives import load_archived_classifier
from sledgehammer_allennlp.archives.check import check_archive
from sledgehammer_allennlp.data.labeled_tsv import LabeledTsvReader
from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.tokenizing import tokenize
from sledgehammer_allennlp.ngrams import NgramClassifier
from sledgehammer_allennlp.ngrams.fitting import fit_ngram_classifier
from sledgehammer_allennlp.ngrams.piece_vectors import piece_vectors
from sledgehammer_allennlp.ngrams.training_texts import TrainingTexts
from sledgehammer_allennlp.training import ngram_fitting
from sledgehammer_allennlp.training.ngram_fitting import (
    NgramFitting,
    fit_on_all_workers,
    patient_group,
)
from tests.ngrams.ngram_reference import texts_of_lists
from tests.ngrams.test_fitting import made_texts
from tests.tiny import SENTENCES, tiny_experiment
from tests.training.processes import in_two_workers, train_in_process
from tests.training.test_temperature_calibration import Interrupt

TABLE = "exits.classifiers.0.table"


def config_with(transformer_model, tsv, embedding_exit="ngrams", **trainer):
    config = tiny_experiment(str(transformer_model), tsv, embedding_exit=embedding_exit)
    config["trainer"].update({"num_epochs": 1, **trainer})
    return config


def train(folder, *args, recover=False, **settings):
    return train_model(Params(config_with(*args, **settings)), str(folder), recover=recover)


def lines_of(path):
    return [line.split("\t") for line in Path(path).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def run(tiny_bert, tsv, tmp_path_factory):
    """A training run with an n-gram exit, two epochs long."""
    folder = tmp_path_factory.mktemp("ngrams") / "run"
    train(folder, tiny_bert, tsv, num_epochs=2)
    return folder


def wanted_exit(classifier, path):
    """The exit that the texts of a file give, with an archive's tokenizer and labels."""
    sample = TrainingTexts(num_labels=2, seed=7)
    labels, texts = zip(*lines_of(path))
    targets = np.array([classifier.labels.index(label) for label in labels])
    sample.add(tokenize(classifier.tokenizer, texts), targets)
    wanted = NgramClassifier(2)
    fit_ngram_classifier(wanted, [sample])
    return wanted


def test_the_exit_is_fitted_to_the_training_data_and_archived(run, tsv):
    classifier = load_archived_classifier(run / "model.tar.gz")
    archived = classifier.exits.ngrams
    assert archived.is_fitted
    wanted = wanted_exit(classifier, tsv["train"])
    assert torch.equal(archived.table, wanted.table)
    assert torch.equal(archived.bias, wanted.bias)


def test_training_does_not_change_what_was_fitted(run):
    states = [torch.load(path) for path in sorted(run.glob("model_state_e*.th"))]
    assert len(states) == 2 and states[0][TABLE].abs().sum() > 0
    assert torch.equal(states[0][TABLE], states[1][TABLE])
    assert torch.equal(states[0][TABLE], torch.load(run / "best.th")[TABLE])


def test_the_log_says_what_was_fitted(run):
    log = (run / "out.log").read_text()
    assert "Fitting the n-gram exit to 98 training texts" in log
    assert log.count("Fitted the n-gram exit in") == 1


@DatasetReader.register("drawing")
class DrawingReader(LabeledTsvReader):
    """Draws random numbers while it reads, as readers that augment do."""

    def text_to_instance(self, *args, **kwargs):
        random.random(), np.random.rand(), torch.rand(1)
        return super().text_to_instance(*args, **kwargs)


def test_everything_else_is_trained_as_without_it(tiny_bert, tsv, tmp_path):
    weights = []
    for embedding_exit in ("ngrams", None):
        config = config_with(tiny_bert, tsv, embedding_exit=embedding_exit)
        config["dataset_reader"]["type"] = "drawing"
        # Read anew for every pass, for fitting too.
        config["data_loader"] = {"batch_size": 16, "max_instances_in_memory": 64, "shuffle": True}
        folder = tmp_path / str(embedding_exit)
        train_model(Params(config), str(folder))
        weights.append(torch.load(folder / "best.th"))
    found, wanted = weights
    for name, tensor in wanted.items():
        name = name.replace("classifiers.2.", "classifiers.3.").replace(
            "classifiers.1.", "classifiers.2."
        )
        name = name.replace("classifiers.0.", "classifiers.1.")
        if name != "temperatures":
            assert torch.equal(found[name], tensor), name
    torch.testing.assert_close(found["temperatures"][1:], wanted["temperatures"])


def test_metrics_and_calibration_show_the_exit(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["best_validation_accuracy_layer_-1"] == 1.0
    assert metrics["training_accuracy_layer_-1"] == 1.0
    assert metrics["best_validation_exit_rate_layer_-1"] == 0.0  # at threshold 1
    assert "calibration_temperature_layer_-1" in metrics
    report = json.loads((run / "calibration.json").read_text())
    assert [exit_report["exit_layer"] for exit_report in report["exits"]] == [-1, 0, 2, 3]


def test_texts_that_leave_there_never_reach_the_transformer(run, monkeypatch):
    predictor = Predictor.from_path(
        str(run / "model.tar.gz"), overrides={"model.confidence_threshold": 0.0}
    )
    for computation in ("prepare", "embed", "keys_values", "rows"):
        monkeypatch.setattr(predictor._model.encoder, computation, None)
    answers = predictor.predict_batch_json([{"sentence": text} for text in SENTENCES])
    assert [answer["exit_layer"] for answer in answers] == [-1] * len(SENTENCES)
    wanted = ["pos" if "good" in text else "neg" for text in SENTENCES]
    assert [answer["label"] for answer in answers] == wanted
    without_allennlp = load_archived_classifier(run / "model.tar.gz", confidence_threshold=0.0)
    for answer, other in zip(answers, without_allennlp.predict(SENTENCES)):
        assert answer["probs"] == pytest.approx(other["probs"])
        assert {**answer, "probs": 0, "logits": 0} == {
            **other, "probs": 0, "logits": 0, "confidence": pytest.approx(other["confidence"]),
        }  # fmt: skip


def test_a_recovered_run_does_not_fit_again(tiny_bert, tsv, tmp_path, monkeypatch):
    settings = {"num_epochs": 2, "callbacks": ["interrupt", "temperature_calibration"]}
    Interrupt.armed = True
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, tiny_bert, tsv, **settings)
    fitted = torch.load(tmp_path / "best.th")[TABLE]
    monkeypatch.setattr(NgramClassifier, "set_fitted", None)
    train(tmp_path, tiny_bert, tsv, recover=True, **settings)
    assert fitted.abs().sum() > 0
    assert torch.equal(torch.load(tmp_path / "best.th")[TABLE], fitted)
    assert torch.load(tmp_path / "best.th")["temperatures"][-1] != 1


def test_fine_tuning_an_archive_fits_to_the_new_data(run, tiny_bert, tsv, tmp_path):
    swapped = {"pos": "neg", "neg": "pos"}
    lines = [f"{swapped[label]}\t{text}\n" for label, text in lines_of(tsv["train"])]
    (tmp_path / "swapped.tsv").write_text("".join(lines), encoding="utf-8")
    config = config_with(tiny_bert, tsv)
    config["train_data_path"] = str(tmp_path / "swapped.tsv")
    config["model"] = {"type": "from_archive", "archive_file": str(run / "model.tar.gz")}
    config["vocabulary"] = {"type": "from_files", "directory": str(run / "vocabulary")}
    model = train_model(Params(config), str(tmp_path / "fine-tuned"))
    metrics = json.loads((tmp_path / "fine-tuned" / "metrics.json").read_text())
    assert metrics["training_accuracy_layer_-1"] == 1.0
    assert model.exits.ngrams.is_fitted


def stock_reader(tiny_bert):
    name = {"type": "pretrained_transformer", "model_name": str(tiny_bert)}
    return {
        "type": "text_classification_json",
        "tokenizer": name,
        "token_indexers": {"tokens": dict(name)},
    }


def test_it_is_fitted_to_texts_as_long_as_the_exit_sees_them(tiny_bert, tmp_path):
    """A stock reader does not truncate; the model has 64 positions."""
    lines = [
        json.dumps({"text": "a day " * 40 + ("good" if label else "bad"), "label": str(label)})
        for label in (0, 1) * 20
    ]
    (tmp_path / "long.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = str(tmp_path / "long.jsonl")
    config = config_with(tiny_bert, {"train": data, "dev": data})
    config["dataset_reader"] = stock_reader(tiny_bert)
    model = train_model(Params(config), str(tmp_path / "run"))
    table = model.exits.ngrams.table
    assert (table[:, :-1] != 0).any(1).sum() == 0  # nothing that it sees says anything


@pytest.mark.parametrize("word, is_known", [("film", True), ("映", False)])
def test_whoever_reads_it_is_said_if_many_word_pieces_are_unknown(
    tiny_bert, tmp_path, word, is_known
):
    lines = [
        json.dumps({"text": f"{'a day ' * 9}{word} {number}", "label": str(number)})
        for number in (0, 1) * 20
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = str(tmp_path / "data.jsonl")
    config = config_with(tiny_bert, {"train": data, "dev": data})
    config["dataset_reader"] = stock_reader(tiny_bert)
    config["trainer"]["num_epochs"] = 1
    train_model(Params(config), str(tmp_path / "run"))
    log = (tmp_path / "run" / "out.log").read_text()
    # Digits are unknown, too: 1 of 20 pieces is not more than 5 %, 2 of 20 are.
    said = "Of the texts that the n-gram exit is fitted to, 10.0% of the word pieces are [UNK]"
    assert log.count(said) == (not is_known)


def test_labels_that_the_model_has_not_are_named(tiny_bert, tmp_path):
    lines = [json.dumps({"text": text, "label": i % 5}) for i, text in enumerate(SENTENCES)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = str(tmp_path / "data.jsonl")
    config = config_with(tiny_bert, {"train": data, "dev": data})
    config["dataset_reader"] = {**stock_reader(tiny_bert), "skip_label_indexing": True}
    config["model"]["num_labels"] = 3
    with pytest.raises(ConfigurationError, match="labels from 0 to 4: wanted 0 to 2"):
        train_model(Params(config), str(tmp_path / "run"))


def test_workers_share_what_one_fits_on_the_data_of_all(tiny_bert, tsv, tmp_path):
    config = config_with(tiny_bert, tsv)
    config["distributed"] = {"cuda_devices": [-1, -1]}
    train_in_process(config, tmp_path / "run")
    log = tmp_path / "run" / "out_worker0.log"
    assert "Fitting the n-gram exit to 98 training texts" in log.read_text()
    assert "Fitting" not in log.with_name("out_worker1.log").read_text()
    archived = load_archived_classifier(tmp_path / "run" / "model.tar.gz")
    wanted = wanted_exit(archived, tsv["train"])
    assert torch.equal(archived.exits.ngrams.table, wanted.table)


EMBEDDINGS = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))


def _worker(rank, port, folder):
    dist.init_process_group("gloo", f"tcp://localhost:{port}", rank=rank, world_size=2)
    texts, labels = made_texts(100, pairs=True)
    sample = TrainingTexts(3, seed=0)
    sample.add(texts_of_lists(*texts[rank::2]), labels[rank::2])
    ngrams = NgramClassifier(3)
    with patient_group() as group:
        fit_on_all_workers(ngrams, sample, EMBEDDINGS, rank == 0, group, ["a", "b", "c"])
    torch.save(ngrams.state_dict(), f"{folder}/{rank}.th")


def test_every_worker_has_what_the_first_fitted(tmp_path):
    in_two_workers(_worker, tmp_path)
    texts, labels = made_texts(100, pairs=True)
    sample = TrainingTexts(3, seed=0)
    sample.add(texts_of_lists(*texts), labels)
    wanted = NgramClassifier(3)
    fit_ngram_classifier(wanted, [sample], EMBEDDINGS)
    assert wanted.pairs is not None
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.th")
        for name, tensor in wanted.state_dict().items():
            assert torch.equal(found[name], tensor), (rank, name)


@pytest.mark.parametrize(
    "names, wanted",
    [
        ("abc", None),
        ("abcde", "the label 'd' or 'e', which"),
        ("abcdefghi", "the label 'd' or 'e' or 'f' or 'g' or 'h' …, which"),
    ],
)
def test_labels_without_training_texts_are_warned_of(names, wanted, monkeypatch):
    found = []
    monkeypatch.setattr(ngram_fitting.logger, "warning", lambda *parts: found.append(parts))
    texts, labels = made_texts(100)
    sample = TrainingTexts(len(names), seed=0)
    sample.add(texts_of_lists(*texts), labels)
    ngrams = NgramClassifier(len(names))
    fit_on_all_workers(ngrams, sample, None, True, None, names)
    assert ngrams.is_fitted
    assert len(found) == (wanted is not None)
    if wanted is not None:
        text, *parts = found[0]
        assert wanted in text % tuple(parts)


def test_pairs_and_data_that_is_not_kept_in_memory(tiny_roberta, tsv, tmp_path):
    config = config_with(tiny_roberta, tsv)
    config["train_data_path"] = config["validation_data_path"] = tsv["pairs"]
    config["data_loader"] = {"batch_size": 16, "max_instances_in_memory": 32}
    model = train_model(Params(config), str(tmp_path))
    # RoBERTa's beginning and end of a text, and pairs.
    assert model.exits.ngrams.marks.tolist() == [0, 2, 1, 2]
    state = model.exits.ngrams.state_dict()
    assert {"pairs.vectors", "pairs.table", "pairs.weight"} < set(state)
    archive = tmp_path / "model.tar.gz"
    for exits in (load_archive(archive).model.exits, load_archived_classifier(archive).exits):
        assert exits.ngrams.state_dict().keys() == state.keys()
        for name, tensor in exits.ngrams.state_dict().items():
            assert torch.equal(tensor, state[name]), name
    assert check_archive(archive).problems == []


def test_a_recovered_run_of_pairs_has_the_comparison_and_fine_tuning_without_pairs_has_none(
    tiny_bert, tsv, tmp_path
):
    pairs = {"train": tsv["pairs"], "dev": tsv["pairs"]}
    settings = {"num_epochs": 2, "callbacks": ["interrupt", "temperature_calibration"]}
    Interrupt.armed = True
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", tiny_bert, pairs, **settings)
    train(tmp_path / "run", tiny_bert, pairs, recover=True, **settings)
    archived = load_archived_classifier(tmp_path / "run" / "model.tar.gz")
    fresh = LayeredEncoder(BertModel.from_pretrained(tiny_bert))
    vectors = archived.exits.ngrams.pairs.vectors
    assert torch.equal(vectors, piece_vectors(fresh.word_embeddings))
    # From before training, not of the trained embeddings.
    assert not torch.equal(vectors, piece_vectors(archived.encoder.word_embeddings))
    config = config_with(tiny_bert, tsv)
    config["model"] = {
        "type": "from_archive",
        "archive_file": str(tmp_path / "run" / "model.tar.gz"),
    }
    vocabulary = str(tmp_path / "run" / "vocabulary")
    config["vocabulary"] = {"type": "from_files", "directory": vocabulary}
    model = train_model(Params(config), str(tmp_path / "fine-tuned"))
    assert model.exits.ngrams.pairs is None


def test_pairs_are_not_compared_where_the_config_says_so(tiny_bert, tsv, tmp_path):
    pairs = {"train": tsv["pairs"], "dev": tsv["pairs"]}
    settings = {"type": "ngrams", "pairs": False}
    model = train(tmp_path, tiny_bert, pairs, embedding_exit=settings)
    assert model.exits.ngrams.is_fitted and model.exits.ngrams.pairs is None
    assert load_archived_classifier(tmp_path / "model.tar.gz").exits.ngrams.pairs is None


def test_training_that_compares_pairs_can_be_logged_with_the_norms_of_parameters(
    tiny_bert, tsv, tmp_path
):
    pairs = {"train": tsv["pairs"], "dev": tsv["pairs"]}
    log = {"type": "tensorboard", "summary_interval": 2, "distribution_interval": 2}
    callbacks = ["temperature_calibration", log]
    model = train(tmp_path, tiny_bert, pairs, callbacks=callbacks, num_epochs=2)
    assert model.exits.ngrams.pairs is not None


def test_settings_are_taken_and_kept_in_the_archive(tiny_bert, tsv, tmp_path):
    settings = {"type": "ngrams", "max_n": 3, "num_buckets": 1024}
    train(tmp_path, tiny_bert, tsv, embedding_exit=settings)
    for exits in (
        load_archive(tmp_path / "model.tar.gz").model.exits,
        load_archived_classifier(tmp_path / "model.tar.gz").exits,
    ):
        assert exits.ngrams.max_n == 3
        assert exits.ngrams.table.shape == (1024, 3)


def test_it_is_a_default_callback_and_may_be_listed(tiny_bert, tsv, tmp_path):
    callbacks = ["ngram_fitting", "temperature_calibration"]
    model = train(tmp_path, tiny_bert, tsv, callbacks=callbacks, enable_default_callbacks=False)
    assert model.exits.ngrams.is_fitted
    assert (tmp_path / "out.log").read_text().count("Fitted the n-gram exit in") == 1


def test_default_callbacks_that_are_off_are_noticed(tiny_bert, tsv, tmp_path):
    with pytest.raises(ConfigurationError, match="wanted a callback of type 'ngram_fitting'"):
        train(tmp_path, tiny_bert, tsv, enable_default_callbacks=False)


def test_other_models_train_as_before(tmp_path, tsv):
    config = {
        "dataset_reader": {"type": "text_classification_json", "tokenizer": "whitespace"},
        "train_data_path": str(tmp_path / "data.jsonl"),
        "model": {
            "type": "basic_classifier",
            "text_field_embedder": {
                "token_embedders": {"tokens": {"type": "embedding", "embedding_dim": 4}}
            },
            "seq2vec_encoder": {"type": "boe", "embedding_dim": 4},
        },
        "data_loader": {"batch_size": 2},
        "trainer": {"num_epochs": 1, "optimizer": "adam"},
    }
    lines = [json.dumps({"text": text, "label": str(len(text) % 2)}) for text in SENTENCES]
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    train_model(Params(config), str(tmp_path / "run"))
    assert (tmp_path / "run" / "model.tar.gz").exists()


def test_a_trainer_made_in_python_fits_too(tiny_bert, tsv, tmp_path):
    seen = []

    class Spy(TrainerCallback):
        def on_batch(self, trainer, *args, **kwargs):
            seen.append(trainer.model.exits.ngrams.is_fitted)

    TrainerCallback.register("spy", exist_ok=True)(Spy)
    train(tmp_path, tiny_bert, tsv, callbacks=["spy"])
    assert seen and all(seen)
    module = sys.modules[GradientDescentTrainer.__module__]
    assert module.DEFAULT_CALLBACKS.count(NgramFitting) == 1

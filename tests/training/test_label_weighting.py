from pathlib import Path

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.archives import load_archived_classifier
from tests.tiny import tiny_experiment


@pytest.fixture(scope="module")
def unbalanced(tsv, tmp_path_factory):
    """Data of which one text in four or fewer is "pos"."""
    lines = Path(tsv["train"]).read_text().splitlines(keepends=True)
    positive = [line for line in lines if line.startswith("pos")]
    negative = [line for line in lines if line.startswith("neg")]
    path = tmp_path_factory.mktemp("unbalanced") / "train.tsv"
    path.write_text("".join([*negative, *positive[: len(negative) // 3]]))
    return {**tsv, "train": str(path)}


def config_of(tiny_bert, tsv, **settings):
    config = tiny_experiment(str(tiny_bert), tsv, embedding_exit="ngrams", **settings)
    config["trainer"]["num_epochs"] = 1
    return config


@pytest.fixture(scope="module")
def balanced(tiny_bert, unbalanced, tmp_path_factory):
    """A training run with balanced labels, and its model."""
    folder = tmp_path_factory.mktemp("balanced") / "run"
    config = config_of(tiny_bert, unbalanced, label_weights="balanced")
    return folder, train_model(Params(config), str(folder))


def test_labels_are_counted_in_the_training_data(balanced, unbalanced):
    folder, model = balanced
    labels = [line.split("\t")[0] for line in Path(unbalanced["train"]).read_text().splitlines()]
    wanted = [len(labels) / 2 / labels.count(name) for name in model.label_names()]
    assert max(wanted) > 1.9
    torch.testing.assert_close(model.objective.label_weights, torch.tensor(wanted))
    log = (folder / "out.log").read_text()
    assert log.count("Weights of labels: neg ") == 1


def test_weights_that_are_given_do_the_same_and_so_does_the_archive(
    balanced, tiny_bert, unbalanced, tmp_path
):
    """The loss and the exit on n-grams heed both."""
    _, model = balanced
    weights = dict(zip(model.label_names(), model.objective.label_weights.tolist()))
    config = config_of(tiny_bert, unbalanced, label_weights=weights)
    other = train_model(Params(config), str(tmp_path / "given"))
    plain = train_model(Params(config_of(tiny_bert, unbalanced)), str(tmp_path / "plain"))
    for name, wanted in model.state_dict().items():
        if isinstance(wanted, torch.Tensor) and wanted.is_floating_point():
            torch.testing.assert_close(other.state_dict()[name], wanted, rtol=1e-4, atol=1e-5)
    table = "exits.classifiers.0.table"
    assert not torch.allclose(plain.state_dict()[table], model.state_dict()[table], atol=1e-3)
    weights = [one.encoder.transformer.embeddings.word_embeddings.weight for one in (plain, model)]
    assert not torch.equal(*weights)  # the loss was another
    classifier = load_archived_classifier(tmp_path / "given" / "model.tar.gz")
    assert len(classifier.predict(["a good day"])) == 1


def test_without_the_callback_balanced_labels_are_refused(tiny_bert, unbalanced, tmp_path):
    config = config_of(tiny_bert, unbalanced, label_weights="balanced")
    config["model"]["embedding_exit"] = "mean"
    config["trainer"]["enable_default_callbacks"] = False
    with pytest.raises(ConfigurationError, match="wanted a callback of type 'label_weighting'"):
        train_model(Params(config), str(tmp_path))


def test_weights_of_other_labels_are_refused(tiny_bert, unbalanced, tmp_path):
    config = config_of(tiny_bert, unbalanced, label_weights={"pos": 1, "negative": 2})
    with pytest.raises(ConfigurationError, match="labels that the data has not: negative"):
        train_model(Params(config), str(tmp_path))

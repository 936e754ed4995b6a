import json
import math
from pathlib import Path

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params

from sledgehammer_allennlp.configs.choices import MIN_STEPS
from sledgehammer_allennlp.sweeps.config_check import check_config
from sledgehammer_allennlp.sweeps.search_space import read_search_space
from tests.tiny import tiny_transformer

FOLDER = Path(__file__).parents[2] / "training_config"
CONFIGS = sorted(
    path.stem for path in FOLDER.glob("*.jsonnet") if not path.stem.startswith("sweep")
)
PAPER = ["ag_news", "imdb", "mnli", "snli", "sst2"]
DEMO = ["bbc_news", "movie_reviews"]
"""Of the small model, with exits on all layers."""


@pytest.fixture(scope="session")
def twelve_layers(tiny_bert, tmp_path_factory) -> str:
    """A tiny model with as many layers as the configs' exits need."""
    folder = tmp_path_factory.mktemp("pretrained") / "twelve"
    folder.mkdir()
    for file in tiny_bert.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    vocab_size = len((folder / "vocab.txt").read_text().splitlines())
    settings = {"num_hidden_layers": 12, "vocab_size": vocab_size, "max_position_embeddings": 512}
    tiny_transformer("bert", **settings).save_pretrained(folder)
    return str(folder)


def load(name: str, **overrides) -> Params:
    return Params.from_file(str(FOLDER / f"{name}.jsonnet"), params_overrides=overrides)


def train(name: str, folder: Path, transformer_model: str, tsv, **overrides):
    params = load(
        name,
        **{
            "model.transformer_model": transformer_model,
            "dataset_reader.tokenizer.model_name": transformer_model,
            "dataset_reader.max_instances": 16,
            "train_data_path": tsv["pairs" if name in ("snli", "mnli") else "train"],
            "validation_data_path": tsv["pairs" if name in ("snli", "mnli") else "dev"],
            "trainer.num_epochs": 1,
            **overrides,
        },
    )
    return train_model(params, str(folder))


def test_the_papers_datasets_and_the_demo_have_a_config():
    assert set(CONFIGS) == {*PAPER, *DEMO}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_trains_and_calibrates(name, twelve_layers, tsv, tmp_path):
    model = train(name, tmp_path, twelve_layers, tsv)
    layers = list(range(12)) if name in DEMO else [0, 3, 5, 11]
    assert model.exit_layers == [-1, *layers]
    report = json.loads((tmp_path / "calibration.json").read_text())
    assert model.exits.ngrams.is_fitted
    assert bool(model.exits.ngrams.marks[2]) == (name in ("snli", "mnli"))  # pairs
    found = [exit_report["temperature"] for exit_report in report["exits"]]
    assert found == model.temperatures.tolist()
    found = [exit_report["combination"]["weights"] for exit_report in report["exits"]]
    assert found == model.combination.weights


def test_a_training_step_moves_exits_embeddings_and_layers(twelve_layers, tsv, tmp_path):
    model = train("sst2", tmp_path, twelve_layers, tsv)
    before = tiny_transformer(
        "bert",
        num_hidden_layers=12,
        max_position_embeddings=512,
        vocab_size=model.encoder.transformer.config.vocab_size,
    ).state_dict()
    after = model.encoder.transformer.state_dict()
    for name in ("embeddings.word_embeddings.weight", "encoder.layer.11.output.dense.weight"):
        assert not torch.equal(before[name], after[name])
    # The last exit sees its first token alone.
    assert all(c.mix.weights.std() > 0 for c in model.exits.classifiers[2:-1])


@pytest.mark.parametrize("name, num_texts", [("bbc_news", 1467), ("movie_reviews", 6650)])
def test_small_data_are_trained_long_enough(name, num_texts):
    config = load(name).as_dict()
    steps = math.ceil(num_texts / config["data_loader"]["batch_sampler"]["batch_size"])
    assert config["trainer"]["num_epochs"] * steps >= MIN_STEPS


@pytest.mark.parametrize("name", PAPER)
def test_settings_are_the_papers(name):
    config = load(name).as_dict()
    assert config["model"]["transformer_model"] == "bert-base-uncased"
    assert config["model"]["exit_layers"] == [0, 3, 5, 11]
    assert config["model"]["dropout"] == 0.1
    assert config["trainer"]["num_epochs"] == 2
    assert config["trainer"]["optimizer"]["lr"] in (2e-5, 3e-5, 5e-5)
    assert config["data_loader"]["batch_sampler"]["batch_size"] == 72
    assert config["train_data_path"] == f"data/{name}/train.tsv"


@pytest.mark.parametrize("name", CONFIGS)
def test_exits_of_pairs_have_an_alignment_and_others_token_features(name):
    model = load(name).as_dict()["model"]
    wanted = (128, None) if name in ("snli", "mnli") else (None, 128)
    assert (model["alignment"], model["token_features"]) == wanted


@pytest.mark.parametrize(
    "trainable, num_groups",
    [("true", 2), ("{ from_layer: 0 }", 2), ("false", 1), ("{ from_layer: 3 }", 1)],
)
def test_frozen_embeddings_get_no_learning_rate_that_nothing_would_have(
    trainable, num_groups, tmp_path
):
    path = tmp_path / "mine.jsonnet"
    path.write_text(f"(import '{FOLDER / 'sst2.jsonnet'}') + {{ trainable:: {trainable} }}")
    groups = Params.from_file(str(path)).as_dict()["trainer"]["optimizer"]["parameter_groups"]
    assert len(groups) == num_groups
    assert groups[0][0] == ["^exits\\."]


def test_the_papers_model_is_one_override(twelve_layers, tsv, tmp_path):
    overrides = {"model.pooling": "first", "model.embedding_exit": None}
    model = train("sst2", tmp_path, twelve_layers, tsv, **overrides)
    assert model.exits.pooling == "first"
    assert model.exit_layers == [0, 3, 5, 11]


def test_the_papers_sweep_is_of_the_papers_model_and_trains(
    twelve_layers, tsv, tmp_path, monkeypatch
):
    space = read_search_space(FOLDER / "sweep_space.jsonnet")
    check_config(FOLDER / "sweep.jsonnet", space, "")  # every variable is read, and none missing
    rates = []
    for configuration in space.configurations():
        variables = space.variables(configuration, seed=2)
        config = Params.from_file(str(FOLDER / "sweep.jsonnet"), ext_vars=variables).as_dict()
        assert config["model"] == {
            "type": "multi_exit_classifier",
            "transformer_model": "bert-base-uncased",
            "exit_layers": [0, 3, 5, 11],
            "embedding_exit": None,
            "pooling": "first",
            "last_exit": None,
            "use_previous_logits": False,
            "alignment": None,
            "token_features": None,
            "windows": None,
            "confidence": "max_probability",
            "dropout": 0.1,
            "loss": "joint",
            "trainable": True,
        }
        assert config["trainer"]["callbacks"][0]["combine_exits"] is False
        assert config["random_seed"] == config["numpy_seed"] == config["pytorch_seed"] == 2
        assert config["data_loader"]["batch_sampler"]["batch_size"] == 72
        assert config["trainer"]["num_epochs"] == 2
        optimizer = config["trainer"]["optimizer"]
        rates.append(optimizer["lr"])
        assert {group[1]["lr"] for group in optimizer["parameter_groups"]} == {optimizer["lr"]}
    assert rates == [2e-5, 3e-5, 5e-5]
    variables["LOSS"] = '{"type": "self_distillation", "weight": 0.5}'
    config = Params.from_file(str(FOLDER / "sweep.jsonnet"), ext_vars=variables).as_dict()
    assert config["model"]["loss"] == {"type": "self_distillation", "weight": 0.5}
    variables["LOSS"] = "joint"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert train("sweep", tmp_path, twelve_layers, tsv).exit_layers == [0, 3, 5, 11]


def test_a_sweep_can_set_each_setting_and_a_file_of_ones_own_can_fix_it(tmp_path):
    variables = read_search_space(FOLDER / "sweep_space.jsonnet").variables({}, 1) | {
        "LEARNING_RATE": "1e-05",
        "EXIT_LEARNING_RATE": "0.002",
        "EXIT_LAYERS": "all",
        "EMBEDDING_EXIT": '{"type": "ngrams", "max_n": 3}',
        "LOSS": "weighted",
    }
    path = tmp_path / "mine.jsonnet"
    path.write_text(f"(import '{FOLDER / 'sweep.jsonnet'}') + {{ dataset:: 'mine' }}")
    del variables["DATASET"]
    config = Params.from_file(str(path), ext_vars=variables).as_dict()
    assert config["train_data_path"] == "data/mine/train.tsv"
    assert config["model"]["exit_layers"] == "all"
    assert config["model"]["embedding_exit"] == {"type": "ngrams", "max_n": 3}
    assert config["model"]["loss"] == "weighted"
    (_, exits), (_, embeddings) = config["trainer"]["optimizer"]["parameter_groups"]
    assert (exits["lr"], embeddings["lr"]) == (0.002, 1e-5)


def test_every_setting_can_be_changed_by_an_import(tmp_path):
    path = tmp_path / "mine.jsonnet"
    path.write_text(
        f"(import '{FOLDER / 'sst2.jsonnet'}') + {{ transformer_model:: 'bert-large-uncased', "
        "exit_layers:: [0, 7, 15, 23], learning_rate:: 2e-5, seed:: 5, max_accuracy_drop:: 0.01, "
        "max_recall_drop:: 0.02, combine_exits:: false }"
    )
    config = Params.from_file(str(path)).as_dict()
    assert config["model"]["transformer_model"] == "bert-large-uncased"
    assert config["dataset_reader"]["tokenizer"]["model_name"] == "bert-large-uncased"
    assert config["model"]["exit_layers"] == [0, 7, 15, 23]
    assert config["trainer"]["optimizer"]["lr"] == 2e-5
    (calibration,) = config["trainer"]["callbacks"]
    assert calibration["max_accuracy_drop"] == 0.01
    assert calibration["max_recall_drop"] == 0.02
    assert calibration["combine_exits"] is False
    assert config["random_seed"] == config["numpy_seed"] == config["pytorch_seed"] == 5


def test_a_setting_that_does_not_exist_is_refused(tmp_path):
    path = tmp_path / "mine.jsonnet"
    path.write_text(f"(import '{FOLDER / 'sst2.jsonnet'}') + {{ num_epoch:: 1 }}")
    with pytest.raises(RuntimeError, match="no such setting: num_epoch: wanted one of alignment"):
        Params.from_file(str(path))


@pytest.mark.parametrize(
    "loss, metric",
    [
        ("'two_stage'", "+mean_exit_accuracy"),
        ("{ type: 'two_stage', encoder_epochs: 3 }", "+mean_exit_accuracy"),
        ("'weighted'", ["+accuracy", "+mean_exit_accuracy"]),
        ("{ type: 'self_distillation', weight: 2 }", ["+accuracy", "+mean_exit_accuracy"]),
    ],
)
def test_a_loss_brings_along_by_which_metric_the_best_epoch_is_chosen(tmp_path, loss, metric):
    path = tmp_path / "mine.jsonnet"
    path.write_text(f"(import '{FOLDER.resolve()}/sst2.jsonnet') + {{ loss:: {loss} }}")
    config = Params.from_file(str(path)).as_dict()
    assert config["trainer"]["validation_metric"] == metric
    found = config["model"]["loss"]
    assert (found if isinstance(found, str) else found["type"]) in loss

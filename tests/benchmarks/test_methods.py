import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.methods import METHODS, mean_accuracy, run_of
from benchmarks.trained_models import (
    Result,
    accuracy_at,
    check_same_settings,
    config_of,
    prepare_data,
)
from sledgehammer_allennlp.exits import ExitScores


@pytest.fixture
def result():
    """Two exits, four texts; the first exit is right of the two it is sure of, and of no other."""
    confident = torch.tensor([4.0, 3.0, 1.0, 0.5])
    first = torch.stack([confident, torch.zeros(4)], dim=1)
    return Result(
        scores=[
            ExitScores(first),
            ExitScores(torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 0.0]])),
        ],
        labels=np.array([0, 0, 1, 1]),
        temperatures=torch.ones(2),
        combination=None,
        costs=[0.0, 4.0],
        exit_layers=[-1, 3],
        validation_accuracy=0.5,
        seconds=1.0,
    )


def test_the_area_and_the_accuracy_between_thresholds_are_those_by_hand(result):
    # Which exit early: all; all but the fourth; the first two; the first; none.
    curve = result.curve("max_probability")
    assert curve.layer_equivalents.tolist() == [0, 1, 2, 3, 4]
    assert curve.accuracy.tolist() == [0.5, 0.5, 0.75, 0.75, 0.75]
    assert accuracy_at(curve, 1.5) == pytest.approx(0.625)
    assert accuracy_at(curve, 3.5) == pytest.approx(0.75)
    assert mean_accuracy(curve) == pytest.approx((0.5 + 0.625 + 0.75 + 0.75) / 4)


def test_an_ensemble_and_patience_are_measured_with_the_scores_of_earlier_exits(result):
    assert result.curve("patience").layer_equivalents.tolist()[0] == 0.0
    averaged = result.curve("max_probability", "reached")
    # At the last exit, of the third text: (0.73 + 0) / 2 against (0.27 + 1) / 2.
    assert averaged.accuracy[-1] == 0.75


def test_without_the_first_exit_the_others_stay_as_they_are(result):
    rest = result.without_first()
    assert rest.exit_layers == [3] and rest.costs == [4.0]
    assert rest.scores[0] is result.scores[1]


def test_held_out_texts_are_split_and_training_texts_drawn_the_same_each_time(tmp_path):
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("".join(f"pos\t{name} {i}\n" for i in range(40)))
    parts = []
    for output in ("a", "b"):
        arguments = argparse.Namespace(
            data=tmp_path / "data", output_dir=tmp_path / output, max_texts=None
        )
        prepare_data(arguments, "mine")
        written = tmp_path / output / "data" / "mine"
        parts.append({f.name: f.read_text().splitlines() for f in written.iterdir()})
    assert parts[0] == parts[1]
    assert [len(parts[0][f"{name}.tsv"]) for name in ("train", "dev", "test")] == [40, 10, 30]
    assert not set(parts[0]["dev.tsv"]) & set(parts[0]["test.tsv"])
    assert sorted(parts[0]["train.tsv"]) == sorted((folder / "train.tsv").read_text().splitlines())


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_a_config_of_the_shipped_settings(method):
    arguments = argparse.Namespace(output_dir=Path("runs/methods"), transformer_model="data/minilm")
    config = config_of(arguments, run_of("sst2", method, 3))
    settings = METHODS[method]
    assert config["model"]["loss"] == settings.get("loss", "joint")
    assert config["model"]["pooling"] == settings.get("pooling", "mean")
    assert config["model"]["use_previous_logits"] == settings.get("use_previous_logits", False)
    assert config["trainer"]["num_epochs"] == settings.get("num_epochs", 1)
    assert config["random_seed"] == 3
    assert config["train_data_path"] == "runs/methods/data/sst2/train.tsv"


def test_results_of_other_settings_are_not_mixed(tmp_path):
    settings = {"data": "data", "transformer_model": "data/minilm", "max_texts": None}
    arguments = argparse.Namespace(output_dir=tmp_path, **settings)
    runs = [run_of("sst2", "joint", 1)]
    check_same_settings(arguments, runs, {"sst2": 100})
    check_same_settings(arguments, [run_of("snli", "sampled", 2)], {"sst2": 100})
    check_same_settings(arguments, runs, {"sst2": 100})
    others = [replace(runs[0], settings={"num_epochs": 9})]
    for changed in ((arguments, others, {"sst2": 100}), (arguments, runs, {"sst2": 200})):
        with pytest.raises(SystemExit, match="of other settings than these"):
            check_same_settings(*changed)
    arguments.max_texts = 32
    with pytest.raises(SystemExit, match="of other settings than these"):
        check_same_settings(arguments, runs, {"sst2": 100})

import argparse
from dataclasses import replace
from typing import Any, Dict, Tuple

import numpy as np
import pytest
import torch

from benchmarks.recipes import (
    LAST_AS_OTHERS,
    LEARNING_RATES,
    NO_FEATURES,
    RECIPES,
    RECOMMENDED,
    WEIGHTED,
    best_learning_rate,
    chosen_on_half,
    first_runs,
    plain_name,
    summary,
    summary_of_run,
    tables,
    truncated_runs,
)
from benchmarks.trained_models import Result, Run, config_of, summary_of
from sledgehammer_allennlp.exits import ExitScores


@pytest.fixture
def arguments(tmp_path):
    return argparse.Namespace(
        seeds=[1, 2],
        data_sets=["sst2", "snli"],
        recipes=list(RECIPES),
        learning_rates=list(LEARNING_RATES),
        first_layers=[1, 2],
        output_dir=tmp_path,
        transformer_model="data/minilm",
    )


def made_result(validation_accuracy=0.5):
    """Two texts: the first exit is right of both, the last of one, both combined of both."""
    first = torch.tensor([[4.0, 0.0], [0.0, 0.0]])
    last = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    return Result(
        scores=[ExitScores(first), ExitScores(last)],
        labels=np.array([0, 0]),
        temperatures=torch.ones(2),
        combination=[[1.0, 0.0], [1.0, 1.0]],
        costs=[0.0, 1.17],
        exit_layers=[-1, 1],
        validation_accuracy=validation_accuracy,
        seconds=1.0,
    )


def test_plain_fine_tuning_has_one_exit_one_rate_and_no_part_of_ours(arguments):
    runs = [run for run in first_runs(arguments, 6) if run.method == plain_name(2e-5)]
    assert [(run.data, run.seed) for run in runs] == [
        ("sst2", 1),
        ("snli", 1),
        ("sst2", 2),
        ("snli", 2),
    ]
    config = config_of(arguments, runs[1])
    model, optimizer = config["model"], config["trainer"]["optimizer"]
    assert (model["exit_layers"], model["embedding_exit"], model["pooling"]) == ([5], None, "first")
    assert model["alignment"] is None
    assert [group["lr"] for _, group in optimizer["parameter_groups"]] == [2e-5, 2e-5]
    assert optimizer["lr"] == 2e-5


def test_the_recommended_config_aligns_pairs_and_has_features_of_other_texts(arguments):
    arguments.recipes = [LAST_AS_OTHERS, NO_FEATURES, WEIGHTED]
    models: Dict[str, Dict[str, Tuple[Any, ...]]] = {"sst2": {}, "snli": {}}
    for run in first_runs(arguments, 6):
        if run.method.startswith(RECOMMENDED):
            model = config_of(arguments, run)["model"]
            keys = ("alignment", "token_features", "last_exit", "loss")
            models[run.data][run.method] = tuple(model[key] for key in keys)
    first = "first_token"
    assert models == {
        "sst2": {
            "as recommended": (None, 128, first, "joint"),
            NO_FEATURES: (None, None, first, "joint"),
            LAST_AS_OTHERS: (None, None, None, "joint"),
            WEIGHTED: (None, None, first, "weighted"),
        },
        "snli": {
            "as recommended": (128, None, first, "joint"),
            "as recommended, but last exit as the others": (128, None, None, "joint"),
            "as recommended, but loss weighted": (128, None, first, "weighted"),
        },
    }


def test_the_papers_exits_are_those_of_its_configuration(arguments):
    arguments.recipes = ["the paper's exits"]
    runs = first_runs(arguments, 6)
    assert len({run.method for run in runs}) == 1 + len(LEARNING_RATES) + 1
    (run,) = (run for run in runs if "paper" in run.method and (run.data, run.seed) == ("snli", 1))
    config = config_of(arguments, run)
    model = config["model"]
    assert (model["pooling"], model["embedding_exit"], model["exit_layers"]) == (
        "first",
        None,
        "all",
    )
    assert (model["loss"], model["alignment"]) == ("joint", None)
    (calibration,) = (
        one for one in config["trainer"]["callbacks"] if one["type"] == "temperature_calibration"
    )
    assert calibration["combine_exits"] is False


def test_the_best_learning_rate_is_that_of_the_validation_data_over_seeds(arguments):
    accuracies = {1: (0.9, 0.8, 0.7), 2: (0.5, 0.8, 0.7)}
    results = [
        summary(made_result(accuracies[run.seed][LEARNING_RATES.index(rate)]), run, 6)
        for run in first_runs(arguments, 6)
        for rate in LEARNING_RATES
        if run.method == plain_name(rate)
    ]
    assert best_learning_rate(arguments, results, "sst2") == LEARNING_RATES[1]


def test_the_numbers_of_a_run_are_kept_without_its_result(arguments, monkeypatch):
    run = first_runs(arguments, 6)[0]
    (arguments.output_dir / "results").mkdir()
    monkeypatch.setattr(Result, "read", lambda path: made_result())
    numbers = summary_of_run(arguments, 6, run)
    monkeypatch.undo()
    assert summary_of_run(arguments, 6, run) == numbers
    assert numbers["validation_accuracy"] == 0.5 and len(numbers["at_layers"]) == 5
    assert run.data in summary_of(arguments, run).name


def test_a_threshold_chosen_on_one_half_is_tried_on_the_other():
    # Texts of two kinds: of one the first exit is right and sure, of the other the last exit.
    sure_and_right = torch.tensor([[4.0, 0.0]] * 60 + [[0.0, 1.0]] * 40)
    result = made_result()
    result = replace(
        result,
        scores=[ExitScores(sure_and_right), ExitScores(torch.tensor([[3.0, 0.0]] * 100))],
        labels=np.zeros(100),
        combination=None,
    )
    lossless, *_, a_point = chosen_on_half(result)
    # 40 of 100 texts need the last exit, on both sides of every split about as many.
    assert (lossless["drop there"], lossless["drop on others"]) == (0, 0)
    assert lossless["layers there"] == pytest.approx(0.4 * 1.17, abs=0.02)
    assert lossless["layers there"] + lossless["layers on others"] == pytest.approx(0.8 * 1.17)
    # One point of 50 texts is none.
    assert (a_point["allowed"], a_point["drop there"]) == (0.01, 0)


def test_the_first_layers_alone_are_tuned_with_the_rate_that_was_best(arguments):
    runs = truncated_runs(arguments, {"sst2": 2e-5, "snli": 1e-4})
    assert len(runs) == 2 * 2 * 2
    settings = [run.settings for run in runs if run.data == "snli"]
    assert [one["exit_layers"] for one in settings] == [[0], [1], [0], [1]]
    assert {one["learning_rate"] for one in settings} == {1e-4}


def test_the_tables_have_combined_exits_and_temperatures_alone():
    numbers = summary(made_result(), Run("sst2", RECOMMENDED, 1, {}), 2)
    assert numbers["full_depth"] == 1.0
    assert numbers["full_depth_by_temperatures"] == 0.5
    assert numbers["accuracy_of_exits"] == [1.0, 0.5]
    lines = tables([numbers, {**numbers, "seed": 2}], {"sst2": 2e-5}, 2).splitlines()
    assert "| as recommended | 100.0 ± 0.0 | 100.0 ± 0.0 |" in lines
    assert any(line.startswith("| with temperatures alone |") for line in lines)
    assert lines[-1].endswith("| 50.0 ± 0.0 |")

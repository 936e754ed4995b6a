"""Training with two workers on CPUs, and what happens when one of them fails."""

import json
import signal
from pathlib import Path
from typing import Any, Dict

import pytest
import torch

from sledgehammer_allennlp.weights_file import read_weights
from tests.tiny import tiny_experiment
from tests.training.processes import WorkerFault, printed, train_in_process


def config_of(tiny_bert, tsv, loss: str = "joint") -> Dict[str, Any]:
    ngrams = {"type": "ngrams", "num_buckets": 1024}
    weighted = dict(loss=loss, label_weights="balanced")
    config = tiny_experiment(str(tiny_bert), tsv, embedding_exit=ngrams, **weighted)
    config["trainer"]["checkpointer"] = "crash_safe"
    return config


def with_two_workers(config: Dict[str, Any]) -> Dict[str, Any]:
    accelerator = {"type": "torch", "find_unused_parameters": True}
    config["distributed"] = {"cuda_devices": [-1, -1], "ddp_accelerator": accelerator}
    return config


def read(folder: Path, name: str) -> Dict[str, Any]:
    return json.loads((folder / name).read_text())


def without_learning(config: Dict[str, Any]) -> Dict[str, Any]:
    """Both trainings have the same weights, and batches do not matter."""
    config["trainer"]["optimizer"]["lr"] = 0.0
    config["trainer"]["num_epochs"] = 1
    config["data_loader"]["batch_size"] = config["validation_data_loader"]["batch_size"] = 7
    return config


def test_two_workers_measure_and_calibrate_as_one_process(tiny_bert, tsv, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train_in_process(without_learning(config_of(tiny_bert, tsv)), one)
    config = with_two_workers(without_learning(config_of(tiny_bert, tsv)))
    train_in_process(config, two, fault=WorkerFault("notes_what_it_writes", str(tmp_path)))

    wanted, found = read(one, "metrics.json"), read(two, "metrics.json")
    compared = [name for name in wanted if name.split("_")[0] in ("validation", "calibration")]
    compared.remove("validation_loss")  # the mean of the means of batches, which are others
    # The exit on n-grams has no dropout; of the others, all 98 texts are counted.
    compared += ["training_accuracy_layer_-1"]
    assert len(compared) > 30
    for layer in (0, 2, 3):
        count = found[f"training_accuracy_layer_{layer}"] * 98
        assert count == pytest.approx(round(count), abs=1e-9)
    for name in compared:
        assert found[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-6), name
    assert read(two, "calibration.json")["num_instances"] == 49

    wanted, found = read_weights(one / "best.th"), read_weights(two / "best.th")
    assert list(found) == list(wanted)
    for name in wanted:
        if torch.is_tensor(wanted[name]):
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-6)
    assert any(temperature != 1 for temperature in found["temperatures"].tolist())

    written = (tmp_path / "written.txt").read_text().splitlines()
    in_run = [line.split("\t") for line in written if Path(line.split("\t")[1]).parent == two]
    assert {Path(path).name for _, path in in_run} >= {"best.th", "calibration.json"}
    assert {rank for rank, _ in in_run} == {"0"}
    assert {path.name for path in two.iterdir()} - {path.name for path in one.iterdir()} == {
        "out_worker0.log",
        "out_worker1.log",
    }


@pytest.mark.parametrize("loss", ["sampled", "two_stage", "alternating"])
def test_losses_that_do_not_run_all_exits_train_with_two_workers(loss, tiny_bert, tsv, tmp_path):
    config = with_two_workers(config_of(tiny_bert, tsv, loss))
    config["trainer"]["validation_metric"] = "+mean_exit_accuracy"
    train_in_process(config, tmp_path / "run")
    assert read(tmp_path / "run", "calibration.json")["num_instances"] == 49
    first, second = (
        read_weights(tmp_path / "run" / f"model_state_e{epoch}_b0.th") for epoch in (1, 2)
    )
    learned = [name for name in first if name.startswith("exits.classifiers")]
    assert any(not torch.equal(first[name], second[name]) for name in learned)


@pytest.mark.parametrize(
    "point, rank",
    [
        ("fitting_ngrams", 0),
        ("training", 1),
        ("calibrating", 1),
    ],
)
def test_a_worker_that_raises_ends_the_command_with_its_error(
    point, rank, tiny_bert, tsv, tmp_path
):
    config, folder = with_two_workers(config_of(tiny_bert, tsv)), tmp_path / "run"
    fault = WorkerFault(point, rank)
    assert train_in_process(config, folder, fault=fault, must_end_well=False) == 1
    assert f"worker {rank} failed on purpose" in printed(folder)


@pytest.mark.parametrize("point", ["reading_ngrams", "calibrating"])
def test_a_worker_that_is_killed_ends_the_command(point, tiny_bert, tsv, tmp_path):
    config, folder = with_two_workers(config_of(tiny_bert, tsv)), tmp_path / "run"
    fault = WorkerFault(point, 1, is_killed=True)
    assert train_in_process(config, folder, fault=fault, must_end_well=False) == 1
    assert "process 1 terminated with signal SIGKILL" in printed(folder)


@pytest.mark.parametrize(
    "point, is_killed, wanted_status",
    [
        ("training", True, 1),
        ("training_and_the_command_is_ended", True, -signal.SIGKILL),
        ("training_and_the_command_is_ended", False, 1),
    ],
)
def test_two_workers_recover_to_what_they_would_have_been(
    point, is_killed, wanted_status, tiny_bert, tsv, tmp_path
):
    config = with_two_workers(config_of(tiny_bert, tsv, "sampled"))
    train_in_process(config, tmp_path / "undisturbed")
    fault = WorkerFault(point, 1, is_killed)
    status = train_in_process(config, tmp_path / "run", fault=fault, must_end_well=False)
    assert status == wanted_status
    assert (tmp_path / "run" / "model_state_e1_b0.th").exists()
    train_in_process(config, tmp_path / "run", "--recover")
    wanted = read_weights(tmp_path / "undisturbed" / "best.th")
    found = read_weights(tmp_path / "run" / "best.th")
    for name in wanted:
        # Workers' scores come together in another order; sums of them differ in the last digits.
        if name == "temperatures":
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=0)
        elif torch.is_tensor(wanted[name]):
            assert torch.equal(found[name], wanted[name]), name
    assert read(tmp_path / "run", "calibration.json") == _near(
        read(tmp_path / "undisturbed", "calibration.json")
    )


def _near(value: Any) -> Any:
    """What equals a report up to the last digits of its numbers."""
    if isinstance(value, dict):
        return {key: _near(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_near(one) for one in value]
    return pytest.approx(value, rel=1e-3, abs=1e-6) if isinstance(value, float) else value

"""Trainings that are killed, in processes of their own, and what `--recover` makes of them."""

import json
import tarfile
from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from allennlp.models import load_archive

from sledgehammer_allennlp.weights_file import read_weights
from tests.tiny import tiny_experiment
from tests.training.processes import Kill, printed, train_in_process


def config_of(tiny_bert, tsv) -> Dict[str, Any]:
    """All that draws random numbers: both data loaders, dropout, the objective."""
    ngrams = {"type": "ngrams", "num_buckets": 1024}
    config = tiny_experiment(str(tiny_bert), tsv, embedding_exit=ngrams, loss="sampled")
    bucket = {"batch_sampler": {"type": "bucket", "batch_size": 16, "sorting_keys": ["tokens"]}}
    config["data_loader"] = config["validation_data_loader"] = bucket
    config["trainer"]["checkpointer"] = {"type": "crash_safe", "save_every_num_batches": 3}
    return config


@pytest.fixture(scope="module")
def undisturbed(tiny_bert, tsv, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train_in_process(config_of(tiny_bert, tsv), folder)
    return folder


def read(folder: Path, name: str) -> Dict[str, Any]:
    return json.loads((folder / name).read_text())


def assert_same_metrics(found: Dict[str, Any], wanted: Dict[str, Any]) -> None:
    """Those of training are of the batches since the checkpoint alone, and of exits drawn there."""
    by_both = [
        {
            name
            for name in metrics
            if not name.startswith(("training_accuracy", "training_macro_f1"))
        }
        for metrics in (found, wanted)
    ]
    assert by_both[0] == by_both[1] and "training_loss" in by_both[0]
    compared = [name for name in wanted if "validation" in name or "calibration" in name]
    assert len(compared) > 30
    for name in compared:
        assert found[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-6), name


def assert_nothing_is_half_done(folder: Path, final: Dict[str, Any]) -> None:
    """Weights are whole, and calibrated wholly or not at all; an archive can be loaded."""
    if (folder / "model_card.md").exists():
        assert (folder / "model_card.md").read_text().endswith("ACL 2020.\n")
    for path in [*folder.glob("*_e*.th"), *folder.glob("best.th")]:
        torch.load(path)
    if (folder / "best.th").exists():
        found = read_weights(folder / "best.th")["temperatures"].tolist()
        assert found in ([1.0] * len(found), final["temperatures"].tolist())
    if (folder / "model.tar.gz").exists():
        load_archive(folder / "model.tar.gz")


def assert_same(found: Dict[str, Any], wanted: Dict[str, Any]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        if name == "temperatures":
            # Fitted to logits whose last bit may differ with where in memory things are.
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=0)
        elif torch.is_tensor(value):
            assert torch.equal(found[name], value), name
        else:
            assert found[name] == value, name


def assert_ended_as(folder: Path, undisturbed: Path) -> None:
    assert_same(read_weights(folder / "best.th"), read_weights(undisturbed / "best.th"))
    assert_same_metrics(read(folder, "metrics.json"), read(undisturbed, "metrics.json"))
    assert (
        read(folder, "calibration.json")["num_instances"]
        == read(undisturbed, "calibration.json")["num_instances"]
    )
    assert [
        exit_["temperature"] for exit_ in read(folder, "calibration.json")["exits"]
    ] == read_weights(folder / "best.th")["temperatures"].tolist()
    with tarfile.open(folder / "model.tar.gz") as archive:
        names = archive.getnames()
        archived = read_weights(archive.extractfile("weights.th"), "weights.th")
    assert_same(archived, read_weights(undisturbed / "best.th"))
    with tarfile.open(undisturbed / "model.tar.gz") as archive:
        assert sorted(names) == sorted(archive.getnames())
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in undisturbed.iterdir()
    )


@pytest.mark.parametrize(
    "point, signal_name",
    [
        ("writing_the_vocabulary", "SIGKILL"),
        ("moving_the_tokenizer", "SIGKILL"),
        ("fitting_ngrams", "SIGTERM"),
        ("in_the_first_epoch", "SIGINT"),
        ("writing_a_checkpoint", "SIGKILL"),
        ("in_the_second_epoch", "SIGTERM"),
        ("between_checkpoint_and_best_weights", "SIGKILL"),
        ("before_calibration", "SIGKILL"),
        ("writing_calibrated_weights", "SIGINT"),
        ("before_renaming_calibrated_weights", "SIGKILL"),
        ("between_weights_and_report", "SIGKILL"),
        ("between_report_and_card", "SIGKILL"),
        ("archiving", "SIGKILL"),
    ],
)
def test_a_killed_training_recovers_to_what_it_would_have_been(
    point, signal_name, undisturbed, tiny_bert, tsv, tmp_path
):
    config, folder = config_of(tiny_bert, tsv), tmp_path / "run"
    kill = Kill(point, signal_name)
    status = train_in_process(config, folder, fault=kill, must_end_well=False)
    assert status == (-9 if signal_name == "SIGKILL" else 1), printed(folder)
    assert_nothing_is_half_done(folder, read_weights(undisturbed / "best.th"))
    train_in_process(config, folder, "--recover")
    assert_ended_as(folder, undisturbed)


def test_a_moving_average_goes_on_after_a_kill(tiny_bert, tsv, tmp_path):
    config = config_of(tiny_bert, tsv)
    config["trainer"]["moving_average"] = {"type": "exponential", "decay": 0.9}
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "run"
    train_in_process(config, undisturbed)
    kill = Kill("in_the_second_epoch", "SIGKILL")
    train_in_process(config, folder, fault=kill, must_end_well=False)
    train_in_process(config, folder, "--recover")
    assert_ended_as(folder, undisturbed)

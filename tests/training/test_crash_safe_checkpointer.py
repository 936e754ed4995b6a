"""What a recovery does with the checkpoints that it finds."""

import os
import shutil
from pathlib import Path
from typing import Any, Dict

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.weights_file import read_weights
from tests.tiny import tiny_experiment


def train(folder: Path, tiny_bert, tsv, recover: bool = False, **trainer: Any):
    config = tiny_experiment(str(tiny_bert), tsv)
    config["trainer"].update(checkpointer="crash_safe", **trainer)
    return train_model(Params(config), str(folder), recover=recover)


@pytest.fixture(scope="module")
def finished(tiny_bert, tsv, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(folder, tiny_bert, tsv)
    return folder


@pytest.fixture
def interrupted(finished, tmp_path) -> Path:
    """As if killed in the second of two epochs' end, when both checkpoints are there."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for name in ("best.th", "model.tar.gz", "calibration.json", "metrics.json"):
        (folder / name).unlink()
    return folder


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def assert_same(found: Dict[str, Any], wanted: Dict[str, Any]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        # Rounding may differ with where in memory things are, by the second training of a process.
        tolerance = 1e-5 if name == "temperatures" else 0
        assert found[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


@pytest.mark.parametrize("kind", ["model_state", "training_state"])
def test_a_cut_off_checkpoint_is_named_and_the_one_before_it_taken(
    kind, interrupted, finished, tiny_bert, tsv
):
    cut(interrupted / f"{kind}_e2_b0.th")
    train(interrupted, tiny_bert, tsv, recover=True)
    assert_same(read_weights(interrupted / "best.th"), read_weights(finished / "best.th"))
    log = (interrupted / "out.log").read_text()
    assert f"{kind}_e2_b0.th': wanted a whole file" in log
    assert "Trying the checkpoint before it" in log
    # It was written anew.
    for name in ("model_state_e1_b0.th", "model_state_e2_b0.th"):
        assert_same(read_weights(interrupted / name), read_weights(finished / name))


def test_without_a_checkpoint_that_can_be_read_it_says_what_to_do(interrupted, tiny_bert, tsv):
    for path in interrupted.glob("training_state_*"):
        cut(path)
    with pytest.raises(ConfigurationError, match=r"training_state_e1_b0.th'.*give --force instead"):
        train(interrupted, tiny_bert, tsv, recover=True)


def test_a_checkpoint_without_its_training_state_does_not_count(
    interrupted, finished, tiny_bert, tsv
):
    (interrupted / "training_state_e2_b0.th").unlink()
    train(interrupted, tiny_bert, tsv, recover=True)
    assert_same(read_weights(interrupted / "best.th"), read_weights(finished / "best.th"))


def test_best_weights_of_an_earlier_epoch_are_replaced(interrupted, finished, tiny_bert, tsv):
    shutil.copy(interrupted / "model_state_e1_b0.th", interrupted / "best.th")
    train(interrupted, tiny_bert, tsv, recover=True)
    assert_same(read_weights(interrupted / "best.th"), read_weights(finished / "best.th"))


@pytest.mark.parametrize(
    "trainer",
    [
        {"validation_metric": "+loss"},  # the first epoch is the best
        {"moving_average": {"type": "exponential", "decay": 0.9}},
        {
            "callbacks": [
                {"type": "should_validate_callback", "validation_interval": 2},
                "temperature_calibration",
            ],
            "num_epochs": 3,
        },
        {"validation_metric": "+loss", "patience": 1, "num_epochs": 3},
    ],
    ids=["first is best", "moving average", "last is not validated", "stopped early"],
)
def test_a_finished_training_recovered_stays_as_it_is(trainer, tiny_bert, tsv, tmp_path):
    train(tmp_path, tiny_bert, tsv, **trainer)
    wanted, names = read_weights(tmp_path / "best.th"), {path.name for path in tmp_path.iterdir()}
    train(tmp_path, tiny_bert, tsv, recover=True, **trainer)
    assert_same(read_weights(tmp_path / "best.th"), wanted)
    assert {path.name for path in tmp_path.iterdir()} == names

import json

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training import TrainerCallback

from tests.tiny import tiny_experiment


def two_stage_config(tiny_bert, tsv, **trainer):
    config = tiny_experiment(str(tiny_bert), tsv, loss="two_stage")
    config["trainer"].update(num_epochs=4, validation_metric="+mean_exit_accuracy", **trainer)
    return config


def test_two_stage_trains_the_exits_in_later_epochs_and_archives_them(tiny_bert, tsv, tmp_path):
    train_model(Params(two_stage_config(tiny_bert, tsv)), str(tmp_path))
    epochs = [json.loads((tmp_path / f"metrics_epoch_{i}.json").read_text()) for i in range(4)]
    trained = ["training_accuracy_layer_0" in epoch for epoch in epochs]
    assert trained == [False, False, True, True]
    # The last exit and the transformer stay as they are.
    last = [epoch["validation_accuracy_layer_3"] for epoch in epochs]
    assert last[1] == last[2] == last[3]
    means = [epoch["validation_mean_exit_accuracy"] for epoch in epochs]
    assert max(means[2:]) > max(means[:2])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["best_epoch"] >= 2


class _Interruption(Exception):
    pass


@TrainerCallback.register("interrupt_after_epoch_2_for_a_test")
class _Interrupt(TrainerCallback):
    is_on = True

    def on_epoch(self, trainer, metrics, epoch, is_primary=True, **kwargs):
        if epoch == 2 and self.is_on:
            raise _Interruption


def test_after_an_interruption_training_goes_on_in_its_stage(tiny_bert, tsv, tmp_path, monkeypatch):
    callbacks = ["interrupt_after_epoch_2_for_a_test", "temperature_calibration"]
    config = two_stage_config(tiny_bert, tsv, callbacks=callbacks)
    with pytest.raises(_Interruption):
        train_model(Params(json.loads(json.dumps(config))), str(tmp_path))
    monkeypatch.setattr(_Interrupt, "is_on", False)
    train_model(Params(json.loads(json.dumps(config))), str(tmp_path), recover=True)
    last = json.loads((tmp_path / "metrics_epoch_3.json").read_text())
    assert "training_accuracy" not in last and "training_accuracy_layer_0" in last


def test_without_the_callback_two_stage_says_what_is_missing(tiny_bert, tsv, tmp_path):
    config = two_stage_config(tiny_bert, tsv, enable_default_callbacks=False)
    with pytest.raises(ConfigurationError, match="callback of type 'objective_progress'"):
        train_model(Params(config), str(tmp_path))


def test_the_usual_validation_metric_is_refused_with_two_stage(tiny_bert, tsv, tmp_path):
    config = two_stage_config(tiny_bert, tsv)
    config["trainer"]["validation_metric"] = "+accuracy"
    with pytest.raises(ConfigurationError, match='wanted "\\+mean_exit_accuracy"'):
        train_model(Params(config), str(tmp_path))

import json

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training import TrainerCallback
from allennlp.training.optimizers import Optimizer

from sledgehammer_allennlp.objectives import Alternating
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


class _Seen:
    losses = []


@TrainerCallback.register("see_losses_for_a_test")
class _SeeLosses(TrainerCallback):
    def on_batch(self, trainer, batch_inputs, batch_outputs, *args, is_training=True, **kwargs):
        if is_training:
            _Seen.losses.append(len(trainer.model.objective.plan_of_batch.exits))


def test_after_an_interruption_alternating_goes_on_where_it_was(
    tiny_bert, tsv, tmp_path, monkeypatch
):
    config = tiny_experiment(str(tiny_bert), tsv, loss="alternating")
    config["data_loader"]["batch_size"] = 14  # 7 batches
    config["trainer"].update(
        num_epochs=4, callbacks=["interrupt_after_epoch_2_for_a_test", "see_losses_for_a_test"]
    )
    original = Alternating.plan

    def plan(self, num_exits):
        self.plan_of_batch = original(self, num_exits)
        return self.plan_of_batch

    monkeypatch.setattr(Alternating, "plan", plan)
    monkeypatch.setattr(_Seen, "losses", [])
    with pytest.raises(_Interruption):
        train_model(Params(json.loads(json.dumps(config))), str(tmp_path))
    monkeypatch.setattr(_Interrupt, "is_on", False)
    before = list(_Seen.losses)
    monkeypatch.setattr(_Seen, "losses", [])
    train_model(Params(json.loads(json.dumps(config))), str(tmp_path), recover=True)
    assert before == [1, 4] * 10 + [1]
    # From after the last checkpoint on, at the end of the epoch before the interruption's.
    assert _Seen.losses == ([1, 4] * 14)[-len(_Seen.losses) :]
    assert len(_Seen.losses) % 7 == 0


@pytest.mark.parametrize(
    "where, setting",
    [
        ("trainer", {"moving_average": {"type": "exponential", "decay": 0.9}}),
        ("model", {"regularizer": {"regexes": [[".*", {"type": "l2", "alpha": 0.1}]]}}),
    ],
)
def test_what_would_change_frozen_weights_is_refused_with_two_stage(
    tiny_bert, tsv, tmp_path, where, setting
):
    config = two_stage_config(tiny_bert, tsv)
    config[where].update(setting)
    with pytest.raises(ConfigurationError, match="keeps the last exit as it is"):
        train_model(Params(config), str(tmp_path))


def test_without_the_callback_two_stage_says_what_is_missing(tiny_bert, tsv, tmp_path):
    config = two_stage_config(tiny_bert, tsv, enable_default_callbacks=False)
    with pytest.raises(ConfigurationError, match="callback of type 'objective_progress'"):
        train_model(Params(config), str(tmp_path))


def test_the_usual_validation_metric_is_refused_with_two_stage(tiny_bert, tsv, tmp_path):
    config = two_stage_config(tiny_bert, tsv)
    config["trainer"]["validation_metric"] = "+accuracy"
    with pytest.raises(ConfigurationError, match='wanted "\\+mean_exit_accuracy"'):
        train_model(Params(config), str(tmp_path))


def test_an_optimizer_that_knows_no_other_way_of_clearing_is_left_as_it_is(
    tiny_bert, tsv, tmp_path
):
    @Optimizer.register("plain_sgd", exist_ok=True)
    class PlainSgd(Optimizer, torch.optim.SGD):
        def zero_grad(self):
            torch.optim.SGD.zero_grad(self)

        def __init__(self, model_parameters, lr: float):
            parameters = [parameter for _, parameter in model_parameters]
            torch.optim.SGD.__init__(self, parameters, lr=lr)

    config = tiny_experiment(str(tiny_bert), tsv)
    config["trainer"].update(num_epochs=1, optimizer={"type": "plain_sgd", "lr": 0.01})
    assert train_model(Params(config), str(tmp_path)) is not None

"""The trainer callback that passes the progress of training to the objective."""

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training import TrainerCallback, gradient_descent_trainer

from sledgehammer_allennlp.models.multi_exit_classifier import MultiExitClassifier
from sledgehammer_allennlp.objectives import Objective

if TYPE_CHECKING:
    from allennlp.training.gradient_descent_trainer import GradientDescentTrainer


@TrainerCallback.register("objective_progress")
class ObjectiveProgress(TrainerCallback):
    """
    Tells the training objective of a `multi_exit_classifier` when training starts, or goes on, and
    when an epoch is over; see `Objective`. Has weights that a batch does not train stay as they
    are, with every version of torch. Does nothing for another model.

    It is one of AllenNLP's default callbacks, so that no config need list it; but a config with
    `enable_default_callbacks: false` must, if its objective has stages.

    Registered as a `TrainerCallback` with name "objective_progress". It has no parameters.

    # Raises

    ConfigurationError
        When training starts, if the objective cannot be trained like this.
    """

    def __init__(self, serialization_dir: str) -> None:
        super().__init__(serialization_dir)
        self._objective: Optional[Objective] = None
        self._interrupted_state: Optional[Dict[str, Any]] = None

    def on_start(
        self, trainer: "GradientDescentTrainer", is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        if not isinstance(trainer.model, MultiExitClassifier):
            return
        _clear_gradients(trainer.optimizer)
        self._objective = trainer.model.objective
        if self._objective.keeps_last_exit:
            _check_that_nothing_else_changes_weights(trainer)
        metrics = None
        if trainer._validation_data_loader is not None:
            metrics = [name for _, name in trainer._metric_tracker.tracked_metrics]
        epochs_done = trainer._start_after_epochs_completed
        self._objective.start(trainer._num_epochs, epochs_done, metrics)
        if self._interrupted_state is not None:
            self._objective.load_state_dict(self._interrupted_state)

    def on_epoch(
        self,
        trainer: "GradientDescentTrainer",
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if self._objective is not None:
            self._objective.end_epoch()

    def on_end(
        self,
        trainer: "GradientDescentTrainer",
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if self._objective is not None and metrics is not None and is_primary:
            self._objective.end(metrics.get("best_epoch"))

    def state_dict(self) -> Dict[str, Any]:
        return {} if self._objective is None else self._objective.state_dict()

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self._interrupted_state = state_dict


def _clear_gradients(optimizer: torch.optim.Optimizer) -> None:
    """
    Before version 2, torch sets gradients to zero between batches: weights that a batch does not
    train are then still changed by their momentum. With `None` they are not.
    """
    setting = inspect.signature(optimizer.zero_grad).parameters.get("set_to_none")
    if setting is not None and not setting.default:
        zero_grad = partial(optimizer.zero_grad, set_to_none=True)
        optimizer.zero_grad = zero_grad  # type: ignore[method-assign]


def _check_that_nothing_else_changes_weights(trainer: "GradientDescentTrainer") -> None:
    for name, found in (
        ("a regularizer", trainer.model._regularizer),
        ("a moving average", trainer._moving_average),
    ):
        if found is not None:
            raise ConfigurationError(
                f"the loss keeps the last exit as it is while the others learn, and {name} would "
                "change it: wanted none"
            )


# One of AllenNLP's default callbacks, so that no config has to list it.
if ObjectiveProgress not in gradient_descent_trainer.DEFAULT_CALLBACKS:
    gradient_descent_trainer.DEFAULT_CALLBACKS += (  # type: ignore[assignment]
        ObjectiveProgress,
    )

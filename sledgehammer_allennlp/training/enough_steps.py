"""The trainer callback that warns of a training that is too short."""

import logging
import math
from typing import TYPE_CHECKING, Any, Optional

from allennlp.training import TrainerCallback, gradient_descent_trainer

from sledgehammer_allennlp.configs.choices import MIN_STEPS, enough_epochs
from sledgehammer_allennlp.models.multi_exit_classifier import MultiExitClassifier
from sledgehammer_allennlp.training.random_numbers import same_random_numbers_after

if TYPE_CHECKING:
    from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

logger = logging.getLogger(__name__)


@TrainerCallback.register("enough_steps")
class EnoughSteps(TrainerCallback):
    """
    When training of a `multi_exit_classifier` starts, warns if it will have fewer than 400 steps,
    and says how many epochs would have enough; see `MIN_STEPS`. Data that are read anew in each
    epoch are many; there it warns if the schedule of the learning rate needs the steps of an epoch
    and has not got them. Changes nothing. Does nothing for another model.

    It is one of AllenNLP's default callbacks, so that no config need list it.

    Registered as a `TrainerCallback` with name "enough_steps". It has no parameters.
    """

    def on_start(
        self, trainer: "GradientDescentTrainer", is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        if not is_primary or not isinstance(trainer.model, MultiExitClassifier):
            return
        steps = steps_per_epoch(trainer)
        if steps is None:
            _warn_of_unknown_steps(trainer)
        if not steps:
            return
        total, epochs = trainer._num_epochs * steps, enough_epochs(steps)
        if total < MIN_STEPS and trainer._num_epochs < epochs:
            logger.warning(
                "Training will have %d steps, %d an epoch. Fewer than %d can leave exits less "
                'accurate than they could be. With "num_epochs": %d it has %d.',
                *(total, steps, MIN_STEPS, epochs, epochs * steps),
            )


def _warn_of_unknown_steps(trainer: "GradientDescentTrainer") -> None:
    """As `slanted_triangular`, which takes each step of the first epoch for its last."""
    schedule = trainer._learning_rate_scheduler
    if getattr(schedule, "num_steps_per_epoch", 0) is None:
        logger.warning(
            "The schedule of the learning rate, %s, is wrong in the first epoch: how many steps an "
            "epoch has is not known where data are read anew in each (max_instances_in_memory): "
            'wanted "batches_per_epoch" in data_loader, the number of instances by that of a batch',
            type(schedule).__name__,
        )


def train_longer(trainer: "GradientDescentTrainer") -> str:
    """The beginning of a sentence that says for how long to train a model that needs more."""
    total = trainer._total_batches_completed
    steps = steps_per_epoch(trainer)
    if not steps or total >= MIN_STEPS:
        return f"Train longer than these {total:,} steps"
    epochs = max(enough_epochs(steps), trainer._num_epochs + 1)
    return f'Train longer than these {total:,} steps, with "num_epochs": {epochs}'


def steps_per_epoch(trainer: "GradientDescentTrainer") -> Optional[int]:
    """How many steps of the optimizer an epoch has; `None` if that is not known beforehand."""
    with same_random_numbers_after():  # which some samplers draw to count their batches
        try:
            num_batches = len(trainer.data_loader)
        except TypeError:
            return None
    return math.ceil(num_batches / trainer._num_gradient_accumulation_steps)


# One of AllenNLP's default callbacks, so that no config has to list it.
if EnoughSteps not in gradient_descent_trainer.DEFAULT_CALLBACKS:
    gradient_descent_trainer.DEFAULT_CALLBACKS += (EnoughSteps,)  # type: ignore[assignment]

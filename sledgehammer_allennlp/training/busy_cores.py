"""The trainer callback that warns of cores that other programs use."""

import logging
import os
from typing import TYPE_CHECKING, Any

import torch
from allennlp.training import TrainerCallback, gradient_descent_trainer

from sledgehammer_allennlp.models.multi_exit_classifier import MultiExitClassifier

if TYPE_CHECKING:
    from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

logger = logging.getLogger(__name__)

_MANY_FOR_A_CORE = 2
"""Threads that want to compute."""


@TrainerCallback.register("busy_cores")
class BusyCores(TrainerCallback):
    """
    When training of a `multi_exit_classifier` starts on a CPU, warns if other programs keep its
    cores busy: torch's threads wait for each other at every operation, and if one of them has no
    core, for far longer than they compute. Changes nothing. Does nothing for another model.

    It is one of AllenNLP's default callbacks, so that no config need list it.

    Registered as a `TrainerCallback` with name "busy_cores". It has no parameters.
    """

    def on_start(
        self, trainer: "GradientDescentTrainer", is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        if not is_primary or not isinstance(trainer.model, MultiExitClassifier):
            return
        if trainer.cuda_device.type != "cpu" or torch.get_num_threads() == 1:
            return
        load, cores = _load(), os.cpu_count() or 1
        if load >= _MANY_FOR_A_CORE * cores:
            logger.warning(
                "The load of the last minute is %.0f on %d cores. If other programs keep them "
                "busy, training with several threads may take many times as long: start it again "
                "with OMP_NUM_THREADS=1 in the environment, or end the others.",
                *(load, cores),
            )


def _load() -> float:
    """How many threads wanted to compute, the mean of the last minute; 0 where it is not known."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # on Windows, or where the system does not say
        return 0.0


# One of AllenNLP's default callbacks, so that no config has to list it.
if BusyCores not in gradient_descent_trainer.DEFAULT_CALLBACKS:
    gradient_descent_trainer.DEFAULT_CALLBACKS += (BusyCores,)  # type: ignore[assignment]

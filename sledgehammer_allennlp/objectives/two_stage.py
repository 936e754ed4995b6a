"""First the last exit, then the others."""

import logging
from typing import Any, Optional, Sequence

from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.objectives.objective import Objective, Plan

logger = logging.getLogger(__name__)


@Objective.register("two_stage")
class TwoStage(Objective):
    """
    In the first epochs, the transformer and the last exit learn; then both are frozen, and the
    other exits learn (DeeBERT, Xin et al. 2020). So the last exit is as accurate as without early
    exits, and the others use hidden states that were not trained for them.

    The second stage changes neither the last exit's accuracy nor the validation loss, by which its
    epochs could not be told from one another: choose the best epoch by `+mean_exit_accuracy`.
    Nothing else may change the frozen weights: there can be neither a regularizer nor a
    moving average, and exits cannot use previous logits.

    Registered as an `Objective` with name "two_stage".

    # Parameters

    encoder_epochs : `int`, optional (default = half of the epochs, rounded up)
        Of the first stage.

    # Raises

    ConfigurationError
        If `encoder_epochs` is not a positive integer; when training starts, if no epochs are left
        for the second stage, or the best epoch could be one of the first.
    """

    keeps_last_exit = True

    def __init__(self, encoder_epochs: Optional[Any] = None) -> None:
        is_integer = isinstance(encoder_epochs, int) and not isinstance(encoder_epochs, bool)
        if encoder_epochs is not None and (not is_integer or encoder_epochs < 1):
            raise ConfigurationError(
                f"two_stage's encoder_epochs is {encoder_epochs!r}: wanted a positive integer"
            )
        self._configured_epochs = encoder_epochs
        self._encoder_epochs: Optional[int] = None
        self._epochs_done = 0

    def start(
        self, num_epochs: int, epochs_done: int, validation_metrics: Optional[Sequence[str]]
    ) -> None:
        epochs = self._configured_epochs or (num_epochs + 1) // 2
        if epochs >= num_epochs:
            raise ConfigurationError(
                f"two_stage has {epochs} epochs for its first stage, of num_epochs {num_epochs}: "
                "wanted more epochs, or a smaller encoder_epochs"
            )
        if validation_metrics is not None and not any(
            name == "mean_exit_accuracy" or name.startswith("accuracy_layer_")
            for name in validation_metrics
        ):
            raise ConfigurationError(
                f"trainer.validation_metric is {', '.join(validation_metrics)}, by which the best "
                "epoch would be one of two_stage's first stage, in which only the last exit has "
                'learned: wanted "+mean_exit_accuracy" (with the shipped configs, the setting '
                "loss:: 'two_stage' brings it along)"
            )
        self._encoder_epochs, self._epochs_done = epochs, epochs_done

    def end_epoch(self) -> None:
        self._epochs_done += 1

    def end(self, best_epoch: Optional[int]) -> None:
        epochs = self._encoder_epochs or 0
        if self._epochs_done <= epochs or (best_epoch is not None and best_epoch < epochs):
            logger.warning(
                "The weights are of the first stage of two_stage, in which no exit but the last "
                "has learned anything: train longer, or with more patience"
            )

    def plan(self, num_exits: int) -> Plan:
        if self._encoder_epochs is None:
            raise ConfigurationError(
                "two_stage was not told that training starts: wanted a callback of type "
                "'objective_progress' in the config, or enable_default_callbacks not false. "
                "`allennlp find-lr` trains without telling: there, wanted another loss, "
                '--overrides \'{"model.loss": "joint"}\''
            )
        last = num_exits - 1
        if self._epochs_done < self._encoder_epochs or num_exits == 1:
            return Plan([last])
        return Plan(range(last), encoder_learns=False)

"""The trainer callback that tells the objective how far training is."""

from typing import TYPE_CHECKING, Any, Dict, Optional

from allennlp.training import TrainerCallback, gradient_descent_trainer

from sledgehammer_allennlp.models.multi_exit_classifier import MultiExitClassifier

if TYPE_CHECKING:
    from allennlp.training.gradient_descent_trainer import GradientDescentTrainer


@TrainerCallback.register("objective_progress")
class ObjectiveProgress(TrainerCallback):
    """
    Tells the training objective of a `multi_exit_classifier` when training starts, or goes on, and
    when an epoch is over; see `Objective`. Does nothing for another model.

    It is one of AllenNLP's default callbacks, so that no config need list it; but a config with
    `enable_default_callbacks: false` must, if its objective has stages.

    Registered as a `TrainerCallback` with name "objective_progress". It has no parameters.
    """

    def on_start(
        self, trainer: "GradientDescentTrainer", is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        if not isinstance(trainer.model, MultiExitClassifier):
            return
        metrics = None
        if trainer._validation_data_loader is not None:
            metrics = [name for _, name in trainer._metric_tracker.tracked_metrics]
        epochs_done = trainer._start_after_epochs_completed
        trainer.model.objective.start(trainer._num_epochs, epochs_done, metrics)

    def on_epoch(
        self,
        trainer: "GradientDescentTrainer",
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if isinstance(trainer.model, MultiExitClassifier):
            trainer.model.objective.end_epoch()

    def on_end(
        self,
        trainer: "GradientDescentTrainer",
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if isinstance(trainer.model, MultiExitClassifier) and metrics is not None and is_primary:
            trainer.model.objective.end()


# What a config need not ask for.
if ObjectiveProgress not in gradient_descent_trainer.DEFAULT_CALLBACKS:
    gradient_descent_trainer.DEFAULT_CALLBACKS += (  # type: ignore[assignment]
        ObjectiveProgress,
    )

"""The trainer callback with which a training that was interrupted ends as if it had not been."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import torch
import torch.distributed as dist
from allennlp.common.util import is_distributed
from allennlp.training import TrainerCallback, gradient_descent_trainer

from sledgehammer_allennlp.encoders.archived_files import remove_unfinished_folders
from sledgehammer_allennlp.files import remove_unfinished, write_whole
from sledgehammer_allennlp.models.multi_exit_classifier import MultiExitClassifier
from sledgehammer_allennlp.training.random_numbers import (
    random_state,
    set_random_state,
    set_torchs_random_state,
)

if TYPE_CHECKING:
    from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

logger = logging.getLogger(__name__)


@TrainerCallback.register("recovery")
class Recovery(TrainerCallback):
    """
    With it the training of a `multi_exit_classifier` that was interrupted, and goes on from a
    checkpoint, gives the weights that it would have given undisturbed, as far as the device
    computes the same twice. AllenNLP reads the data again up to the checkpoint, but draws other
    random numbers than before: for the order of the data, because it does not validate again, and
    for dropout. Here the numbers are kept in the checkpoints. Several workers draw the same ones
    again only from the end of an epoch on. A training that had stopped early is not trained on.

    A training that had only to be calibrated or archived keeps the metrics of its last epoch.

    It also removes the unfinished files of processes that were killed, and has `best.th` written
    whole.

    It is one of AllenNLP's default callbacks, so that no config need list it; but a config with
    `enable_default_callbacks: false` must. Does nothing for another model.

    Registered as a `TrainerCallback` with name "recovery". It has no parameters.
    """

    def __init__(self, serialization_dir: str) -> None:
        super().__init__(serialization_dir)
        # By epoch, by worker.
        self._at_epoch_starts: List[List[Dict[str, Any]]] = []
        self._at_checkpoint: Dict[str, Any] = {}
        self._last_metrics: Dict[str, Any] = {}
        self._is_kept = False

    def on_start(
        self, trainer: "GradientDescentTrainer", is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        if not isinstance(trainer.model, MultiExitClassifier):
            return
        if self.serialization_dir is not None:
            if is_primary:
                remove_unfinished(Path(self.serialization_dir))
                remove_unfinished_folders(self.serialization_dir)
            _save_best_weights_whole(trainer)
        epochs_done = trainer._start_after_epochs_completed
        batches_done = trainer._start_after_batches_in_epoch_completed
        if epochs_done + batches_done > 0:
            _average_the_models_weights(trainer)
        self._is_kept = len(self._at_epoch_starts) == epochs_done + 1
        if self._is_kept:
            self._draw_the_same_numbers(trainer, epochs_done, batches_done)
        elif epochs_done == batches_done == 0:
            self._is_kept = True
            self._at_epoch_starts = [_of_all_workers(random_state())]
        else:
            logger.warning(
                "The checkpoint has no random numbers: training goes on, but not quite as it would "
                "have without the interruption"
            )
        if batches_done == 0 and trainer._metric_tracker.should_stop_early():
            trainer._num_epochs = epochs_done

    def _draw_the_same_numbers(
        self, trainer: "GradientDescentTrainer", epochs_done: int, batches_done: int
    ) -> None:
        rank = dist.get_rank() if is_distributed() else 0
        at_epoch_starts = [workers[rank] for workers in self._at_epoch_starts]
        train_epoch = trainer._train_epoch

        def train_epoch_as_before(epoch: int) -> Dict[str, float]:
            if epoch < len(at_epoch_starts):
                set_random_state(at_epoch_starts[epoch])
            return train_epoch(epoch)

        trainer._train_epoch = train_epoch_as_before  # type: ignore[method-assign]
        if batches_done > 0 and rank == 0:
            at_checkpoint = self._at_checkpoint

            def continue_from_checkpoint(module: torch.nn.Module, inputs: Any) -> None:
                handle.remove()
                set_torchs_random_state(at_checkpoint)

            # Up to the checkpoint, batches are read but not run.
            handle = trainer.model.register_forward_pre_hook(continue_from_checkpoint)

    def on_epoch(
        self,
        trainer: "GradientDescentTrainer",
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if self._is_kept:
            self._at_epoch_starts.append(_of_all_workers(random_state()))
            self._last_metrics = dict(metrics)

    def on_end(
        self,
        trainer: "GradientDescentTrainer",
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if metrics is not None:
            for name, value in self._last_metrics.items():
                metrics.setdefault(name, value)

    def state_dict(self) -> Dict[str, Any]:
        if not self._is_kept:
            return {}
        return {
            "at_epoch_starts": self._at_epoch_starts,
            "at_checkpoint": random_state(),
            "last_metrics": self._last_metrics,
        }

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self._at_epoch_starts = state_dict.get("at_epoch_starts", [])
        self._at_checkpoint = state_dict.get("at_checkpoint", {})
        self._last_metrics = state_dict.get("last_metrics", {})


def _average_the_models_weights(trainer: "GradientDescentTrainer") -> None:
    """
    What AllenNLP reads of a moving average has copies of weights that nobody trains any more, and
    would average those.
    """
    average = trainer._moving_average
    if average is None:
        return
    weights = dict(trainer._pytorch_model.named_parameters())
    average._parameters = [(name, weights[name]) for name, _ in average._parameters]
    for averages in (average._shadows, average._backups):
        for name, value in averages.items():
            if value is not None:
                averages[name] = value.to(weights[name].device)


def _of_all_workers(state: Dict[str, Any]) -> List[Dict[str, Any]]:
    if not is_distributed():
        return [state]
    states: List[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states


def _save_best_weights_whole(trainer: "GradientDescentTrainer") -> None:
    """The trainer writes them itself, in place, where they are not those of a checkpoint."""
    save = trainer._save_model_state
    trainer._save_model_state = (  # type: ignore[method-assign]
        lambda path: write_whole(Path(path), lambda beside: save(str(beside)))
    )


# One of AllenNLP's default callbacks, so that no config has to list it.
if Recovery not in gradient_descent_trainer.DEFAULT_CALLBACKS:
    gradient_descent_trainer.DEFAULT_CALLBACKS += (Recovery,)  # type: ignore[assignment]

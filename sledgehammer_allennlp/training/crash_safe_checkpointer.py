"""The checkpointer with which a training that is killed at any moment can go on."""

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any, Dict, FrozenSet, Optional, Set, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training import Checkpointer
from allennlp.training.trainer import Trainer, TrainerCheckpoint

from sledgehammer_allennlp.files import write_whole
from sledgehammer_allennlp.weights_file import read_weights

logger = logging.getLogger(__name__)

_IS_BEST = "is_best_weights"


@Checkpointer.register("crash_safe")
class CrashSafeCheckpointer(Checkpointer):
    """
    AllenNLP's checkpointer, but for what it leaves behind when training is killed:

    - A checkpoint is written beside its files and renamed, so that it is there whole or not at all.
    - A recovery goes on from the newest checkpoint that can be read, and logs which cannot.
    - `best.th` is written again at a recovery if the checkpoint is the best: AllenNLP replaces it
      after it has written the checkpoint, and may have been killed before.

    Registered as a `Checkpointer` with name "crash_safe". It has the parameters of AllenNLP's.

    # Raises

    ConfigurationError
        At a recovery, if there are checkpoints and none can be read.
    """

    # Points in training: numbers of epochs done, and of batches of the next one.
    _unreadable: FrozenSet[Tuple[int, int]] = frozenset()

    def _find_all_checkpoints(self) -> Set[Tuple[int, int]]:
        return {
            point
            for point in super()._find_all_checkpoints() - self._unreadable
            if os.path.isfile(self._training_state_path(*point))
        }

    def save_checkpoint(self, trainer: Trainer) -> None:
        checkpoint = trainer.get_checkpoint_state()
        if checkpoint is not None:
            training = checkpoint.trainer_state
            point = training["epochs_completed"], training["batches_in_epoch_completed"]
            training[_IS_BEST] = (
                point[1] == 0
                and trainer._should_validate_this_epoch  # type: ignore[attr-defined]
                and trainer._metric_tracker.is_best_so_far()  # type: ignore[attr-defined]
            )
            # The model's comes last: a checkpoint is found by it.
            for path, state in (
                (self._training_state_path(*point), training),
                (self._model_state_path(*point), checkpoint.model_state),
            ):
                write_whole(Path(path), partial(torch.save, state))
            self._unreadable -= {point}
        # Writes nothing any more, but removes the oldest.
        super().save_checkpoint(trainer)

    def load_checkpoint(self) -> Optional[TrainerCheckpoint]:
        problem = None
        for point in sorted(self._find_all_checkpoints(), reverse=True):
            try:
                checkpoint = self._read(point)
            except (OSError, ValueError) as error:
                logger.warning("%s Trying the checkpoint before it.", error)
                self._unreadable |= {point}
                problem = error
                continue
            self._restore_best_weights(checkpoint)
            # The next checkpoints are where they would have been.
            self._last_save_num_epochs_completed = point[0]
            self._last_save_num_batches_in_epoch_completed = point[1]
            return checkpoint
        if problem is not None:
            raise ConfigurationError(
                f"no checkpoint in '{self._serialization_dir}' can be read: {problem} Wanted "
                "one to go on from; to train from the beginning, give --force instead of --recover"
            ) from problem
        return None

    def _read(self, point: Tuple[int, int]) -> TrainerCheckpoint:
        path = self._training_state_path(*point)
        try:
            training_state = torch.load(path, map_location="cpu")
        except Exception as error:  # Of any class: a broken pickle can make its reader fail anyhow.
            raise ValueError(
                f"cannot read the training state '{path}': wanted a whole file. {error}"
            ) from error
        return TrainerCheckpoint(read_weights(self._model_state_path(*point)), training_state)

    def _restore_best_weights(self, checkpoint: TrainerCheckpoint) -> None:
        training = checkpoint.trainer_state
        if self.state_is_sharded or not training.get(_IS_BEST):
            return
        best_weights = Path(self._serialization_dir) / "best.th"
        if self._is_primary:
            write_whole(best_weights, partial(torch.save, _weights_of(checkpoint)))
        training["best_model_filename"] = str(best_weights)


def _weights_of(checkpoint: TrainerCheckpoint) -> Dict[str, Any]:
    """With the averages of weights in their place, if training keeps them."""
    averages = checkpoint.trainer_state.get("moving_average", {}).get("shadows", {})
    by_name = {name.removeprefix("module."): average for name, average in averages.items()}
    return {**checkpoint.model_state, **by_name}

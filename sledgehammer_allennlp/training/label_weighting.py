"""The trainer callback that counts the labels, if they are to be balanced."""

import logging
from typing import TYPE_CHECKING, Any, List, Optional

import numpy as np
import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import is_distributed
from allennlp.training import TrainerCallback, gradient_descent_trainer

from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.objectives.label_weights import BALANCED, balanced_weights, described
from sledgehammer_allennlp.training.random_numbers import same_random_numbers_after

if TYPE_CHECKING:
    from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

logger = logging.getLogger(__name__)


@TrainerCallback.register("label_weighting")
class LabelWeighting(TrainerCallback):
    """
    When training of a `multi_exit_classifier` with `label_weights: "balanced"` starts, counts the
    labels of the training data, those of all workers, and weights them so that all count the same.
    Does nothing for other models.

    It is one of AllenNLP's default callbacks, so that no config need list it; but a config with
    `enable_default_callbacks: false` must.

    Registered as a `TrainerCallback` with name "label_weighting". It has no parameters.

    # Raises

    ConfigurationError
        When training starts, if there are instances without label.
    """

    def on_start(
        self, trainer: "GradientDescentTrainer", is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        if isinstance(trainer.model, MultiExitClassifier):
            label_weights_of(trainer, is_primary)


# One of AllenNLP's default callbacks, so that no config has to list it.
if LabelWeighting not in gradient_descent_trainer.DEFAULT_CALLBACKS:
    gradient_descent_trainer.DEFAULT_CALLBACKS += (LabelWeighting,)  # type: ignore[assignment]


def label_weights_of(
    trainer: "GradientDescentTrainer", is_primary: bool = True
) -> Optional[np.ndarray]:
    """
    The weight of each label, `(num_labels,)`, or `None`; counted first, if that is not done.

    # Raises

    ConfigurationError
        If labels are to be balanced and there are instances without.
    """
    model = trainer.model
    assert isinstance(model, MultiExitClassifier)
    objective = model.objective
    if model.label_weights == BALANCED and objective.label_weights is None:
        weights = balanced_weights(label_counts(trainer))
        objective.label_weights = torch.tensor(weights, dtype=torch.float32)
        if is_primary:
            logger.info("Weights of labels: %s", described(weights.tolist(), model.label_names()))
    return None if objective.label_weights is None else objective.label_weights.double().numpy()


def label_counts(trainer: "GradientDescentTrainer") -> np.ndarray:
    """
    How many instances of the training data, that of all workers, have each label, `(num_labels,)`.

    # Raises

    ConfigurationError
        If there are instances without.
    """
    model = trainer.model
    assert isinstance(model, MultiExitClassifier)
    counts = np.zeros(model.exits.num_labels, dtype=np.int64)
    with same_random_numbers_after():  # which reading may draw
        for instance in trainer.data_loader.iter_instances():
            label = instance.fields.get("label")
            if label is None:
                raise ConfigurationError(
                    "label_weights is 'balanced', and the training data has instances without "
                    "label: wanted labelled data"
                )
            label.index(model.vocab)
            counts[int(label.as_tensor({}))] += 1
    if is_distributed():
        shares: List[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(shares, counts)
        counts = np.sum(shares, axis=0)
    return counts

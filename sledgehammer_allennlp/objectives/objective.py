"""What a training objective is."""

from dataclasses import dataclass
from typing import Any, ClassVar, Collection, Dict, Optional, Sequence

import torch
import torch.nn.functional as F
from allennlp.common import Registrable


@dataclass(frozen=True)
class Plan:
    """
    What a batch needs.

    # Parameters

    exits : `Collection[int]`
        Which are run, counted from the first that is trained.
    encoder_learns : `bool`, optional (default = `True`)
        Whether the transformer learns from it, or only what those exits have of their own.
    """

    exits: Collection[int]
    encoder_learns: bool = True


class Objective(Registrable):
    """
    Which exits a batch of training runs, and what is minimised. Exits that are fitted, not
    trained, have no part in it.

    An objective of your own is a registered subclass with a `plan`, a `loss`, or both. By default,
    the sum of the cross-entropies of the exits that were run is minimised. Losses take means by
    `cross_entropy` and `weighted_mean`, so that `label_weights` are heeded.
    """

    default_implementation = "joint"

    keeps_last_exit: ClassVar[bool] = False
    """Whether, when other exits learn, the last one is to answer as it did before."""

    label_weights: Optional[torch.Tensor] = None
    """`(num_labels,)`, how much an instance of each label counts; `None` if all count the same."""

    def plan(self, num_exits: int) -> Plan:
        """
        What the next batch needs; called once for each.

        # Parameters

        num_exits : `int`
            How many exits are trained.
        """
        return Plan(range(num_exits))

    def loss(self, logits: Dict[int, torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """
        # Parameters

        logits : `Dict[int, torch.Tensor]`
            What each exit of the plan says, `(batch_size, num_labels)`.
        label : `torch.Tensor`
            `(batch_size,)`

        # Returns

        `torch.Tensor`
            `()`
        """
        losses = [self.cross_entropy(exit_logits, label) for exit_logits in logits.values()]
        return torch.stack(losses).sum()

    def cross_entropy(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """
        The mean cross-entropy in nats, `()`, of instances weighted by their label.

        # Parameters

        logits : `torch.Tensor`
            `(batch_size, num_labels)`
        label : `torch.Tensor`
            `(batch_size,)`
        """
        if self.label_weights is None:
            return F.cross_entropy(logits, label)
        return self.weighted_mean(F.cross_entropy(logits, label, reduction="none"), label)

    def weighted_mean(self, values: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """
        The mean of one value for each instance, `()`, each times the weight of its label. It is not
        divided by the batch's weights, so that all batches together give the weighted mean of all
        instances.

        # Parameters

        values : `torch.Tensor`
            `(batch_size,)`
        label : `torch.Tensor`
            `(batch_size,)`
        """
        if self.label_weights is not None:
            values = values * self.label_weights.to(values)[label]
        return values.mean()

    def start(
        self, num_epochs: int, epochs_done: int, validation_metrics: Optional[Sequence[str]]
    ) -> None:
        """
        Called when training starts, or goes on after an interruption.

        # Parameters

        num_epochs, epochs_done : `int`
        validation_metrics : `Sequence[str]`, optional
            By which the best epoch is chosen; `None` if there is no validation.

        # Raises

        ConfigurationError
            If the objective cannot be trained like this.
        """

    def end_epoch(self) -> None:
        """Called after each epoch."""

    def end(self, best_epoch: Optional[int]) -> None:
        """
        Called when training has ended, by itself.

        # Parameters

        best_epoch : `int`, optional
            Whose weights are kept, if one was chosen.
        """

    def state_dict(self) -> Dict[str, Any]:
        """What has to be known to go on after an interruption, beside the number of epochs."""
        return {}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Goes on from `state`; called after `start`."""

"""Earlier exits learn from the last."""

from typing import Any, Dict

import torch
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.objectives.objective import Objective
from sledgehammer_allennlp.values import is_number


@Objective.register("self_distillation")
class SelfDistillation(Objective):
    """
    The sum of the cross-entropies of all exits, and for each exit but the last the divergence of
    its probabilities p from the last one's q, Σ p log(p / q) (FastBERT, Liu et al. 2020, equation
    5). The last exit learns nothing from the others.

    FastBERT does this in two steps, with the transformer frozen in the second and without labels;
    here it is one, as in Zhang et al. 2019, "Be Your Own Teacher".

    Registered as an `Objective` with name "self_distillation".

    # Parameters

    weight : `float`, optional (default = `1.0`)
        Of the divergences.

    # Raises

    ConfigurationError
        If it is not a number from 0.
    """

    def __init__(self, weight: Any = 1.0) -> None:
        if not is_number(weight) or not 0 <= weight < float("inf"):
            raise ConfigurationError(
                f"self_distillation's weight is {weight!r}: wanted a number from 0"
            )
        self._weight = weight

    def loss(self, logits: Dict[int, torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        *students, teacher = logits.values()
        log_q = teacher.detach().log_softmax(-1)
        loss = super().loss(logits, label)
        for student in students:
            log_p = student.log_softmax(-1)
            divergence = (log_p.exp() * (log_p - log_q)).sum(-1)
            loss = loss + self._weight * self.weighted_mean(divergence, label)
        return loss

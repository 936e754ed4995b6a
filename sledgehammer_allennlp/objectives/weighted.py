"""All exits, the later the more."""

from typing import Dict

import torch

from sledgehammer_allennlp.objectives.objective import Objective


@Objective.register("weighted")
class Weighted(Objective):
    """
    The mean of the cross-entropies of all exits, the k-th with weight k (PABEE, Zhou et al.
    2020).

    Registered as an `Objective` with name "weighted". It has no parameters.
    """

    def loss(self, logits: Dict[int, torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        weights = [exit_index + 1 for exit_index in logits]
        losses = [
            weight * self.cross_entropy(exit_logits, label)
            for weight, exit_logits in zip(weights, logits.values())
        ]
        return torch.stack(losses).sum() / sum(weights)

"""One exit a batch."""

import torch

from sledgehammer_allennlp.objectives.objective import Objective, Plan


@Objective.register("sampled")
class Sampled(Objective):
    """
    For each batch the cross-entropy of one exit, drawn with equal probabilities; later layers are
    not run. Half the computation of all exits together, and the "multitask" option of the code of
    Schwartz et al. 2020.

    Registered as an `Objective` with name "sampled". It has no parameters.
    """

    def plan(self, num_exits: int) -> Plan:
        return Plan([int(torch.randint(num_exits, ()))])

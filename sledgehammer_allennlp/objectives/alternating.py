"""The last exit and all exits in turns."""

from typing import Any, Dict

from sledgehammer_allennlp.objectives.objective import Objective, Plan


@Objective.register("alternating")
class Alternating(Objective):
    """
    The cross-entropy of the last exit for one batch, the sum of all exits' for the next, and so on
    (BERxiT, Xin et al. 2021), so that the last exit has more weight in the loss. Where
    gradients of several batches are accumulated, an update has batches of both kinds.

    Registered as an `Objective` with name "alternating". It has no parameters.
    """

    def __init__(self) -> None:
        self._batches = 0

    def plan(self, num_exits: int) -> Plan:
        self._batches += 1
        return Plan([num_exits - 1] if self._batches % 2 else range(num_exits))

    def state_dict(self) -> Dict[str, Any]:
        return {"batches": self._batches}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self._batches = state.get("batches", 0)

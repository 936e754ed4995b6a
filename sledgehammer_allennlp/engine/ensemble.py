"""Predicting by an average of several exits."""

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence

import torch

from sledgehammer_allennlp.values import is_number

ENSEMBLES = ("reached", "all")


@dataclass(frozen=True)
class Ensemble:
    """
    Predicts by a weighted average of exits' calibrated probabilities.

    # Parameters

    over : `str`
        `"reached"`: of the exits up to the one taken; confidence is that of the average. `"all"`:
        of all exits, so that no instance exits early.
    weights : `List[float]`
        For each exit.
    """

    over: str
    weights: List[float]

    def average(self, probs: Sequence[torch.Tensor]) -> torch.Tensor:
        """
        The weighted average of `probs`, of the first exits, each `(num_instances, num_labels)`.
        NaNs are skipped; where no value with a weight remains, the last exit's probabilities.
        """
        stacked = torch.stack(list(probs))  # (exits, instances, labels)
        weights = stacked.new_tensor(self.weights[: len(probs)])[:, None, None]
        weights = weights * stacked.isnan().logical_not()
        total = weights.sum(0)
        average = (weights * stacked.nan_to_num()).sum(0) / total
        return average.where(total > 0, stacked[-1])


def check_ensemble(setting: Any, num_exits: int) -> Optional[Ensemble]:
    """
    An ensemble of `num_exits` exits from its `setting` in a config: `None`, `"reached"`, `"all"`,
    or a dictionary with keys `over` and `weights`.

    # Raises

    ValueError
        If it is something else, or weights are not a number from 0 for each exit, some above 0.
    """
    if setting is None:
        return None
    wanted = (
        f"wanted null, one of {', '.join(ENSEMBLES)}, or with a weight for each of the {num_exits} "
        'exits {"over": "reached", "weights": [1, …]}'
    )
    settings = {"over": setting} if isinstance(setting, str) else setting
    if not isinstance(settings, dict) or settings.get("over") not in ENSEMBLES:
        raise ValueError(f"ensemble is {setting!r}: {wanted}")
    if set(settings) - {"over", "weights"}:
        raise ValueError(f"ensemble has the keys {', '.join(settings)}: {wanted}")
    weights = settings.get("weights", [1.0] * num_exits)
    is_list = isinstance(weights, list) and len(weights) == num_exits
    if not is_list or not all(_is_weight(weight) for weight in weights) or not sum(weights):
        raise ValueError(f"the ensemble's weights are {weights!r}: {wanted}")
    return Ensemble(settings["over"], [float(weight) for weight in weights])


def _is_weight(value: Any) -> bool:
    return is_number(value) and 0 <= value < float("inf")

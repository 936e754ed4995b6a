"""Combining the logits of exits, and the weights for it that a model keeps."""

from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import nn

from sledgehammer_allennlp.calibration import WEIGHT_BOUNDS
from sledgehammer_allennlp.values import short_repr

Weights = Sequence[Sequence[float]]
"""Of each exit a row of `num_exits` numbers from 0, those of later exits 0."""

COMBINATION_KEY = "combination._extra_state"
"""In the weights of a model. What follows the point is torch's name for extra state."""


def combine(logits: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """
    The calibrated logits of an exit, Σ_j w_j · (l_j - mean l_j), finite whatever the logits: but
    where those of the exit itself are not numbers, it is NaN. Those of an earlier exit that are not
    numbers count as nothing.

    # Parameters

    logits : `Sequence[torch.Tensor]`
        Of exits, each `(num_instances, num_labels)`; the last is the exit itself.
    weights : `Sequence[float]`
        Of the same exits.

    # Returns

    `torch.Tensor`
        `(num_instances, num_labels)`, of mean 0; of a half precision in float32.
    """
    dtype = logits[-1].dtype
    dtype = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    stacked = torch.stack([one.to(dtype) for one in logits])  # (exits, instances, labels)
    # Less the largest, not the mean, so that nothing overflows; the sum is centred in the end.
    below = stacked - stacked.amax(-1, keepdim=True)
    factors = below.new_tensor(list(weights)).view(-1, 1, 1)
    total = (below * factors).sum(0)
    num_exits, _, num_labels = stacked.shape
    lowest = torch.finfo(stacked.dtype).min / (2 * num_exits * num_labels)
    if not (total >= lowest).all():  # very large, or not numbers
        total = _bounded_sum(below, factors, lowest)
    return total - total.mean(-1, keepdim=True)


def _bounded_sum(below: torch.Tensor, factors: torch.Tensor, lowest: float) -> torch.Tensor:
    """Σ_j w_j · below_j with no term below `lowest`, and without earlier exits' NaNs."""
    terms = (below.clamp(min=torch.finfo(below.dtype).min) * factors).clamp(min=lowest)
    earlier = terms[:-1]
    return terms[-1] + earlier.masked_fill(earlier.isnan().any(-1, keepdim=True), 0.0).sum(0)


class ExitCombination(nn.Module):
    """
    The combination of a model's exits, kept with its weights: a `(num_exits, num_exits)` tensor, or
    one of `(0, 0)` where there is none.

    # Parameters

    num_exits : `int`
    """

    def __init__(self, num_exits: int) -> None:
        super().__init__()
        self._num_exits = num_exits
        self.weights: Optional[Weights] = None
        """Of each exit, a row of numbers; `None` if exits are calibrated by temperatures."""

    # Not a buffer, which would be rounded when the model is cast. Numbers need no device.
    def get_extra_state(self) -> torch.Tensor:
        """The weights, in float64."""
        if self.weights is None:
            return torch.zeros(0, 0, dtype=torch.float64)
        return torch.tensor(self.weights, dtype=torch.float64)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """
        Takes weights.

        # Raises

        ValueError
            If they are no combination of this model's exits.
        """
        self.weights = check_combination(state, self._num_exits)


def add_none_to_older_weights(state_dict: Dict[str, Any], prefix: str, *args: Any) -> None:
    """
    A hook of torch's for a model that has `temperatures` and a `combination`, before it takes
    weights: those from before there were combinations get none.
    """
    if prefix + "temperatures" in state_dict:
        state_dict.setdefault(prefix + COMBINATION_KEY, torch.zeros(0, 0))


def check_combination(found: Any, num_exits: int) -> Optional[List[List[float]]]:
    """
    The rows of a combination, or `None` for an empty one.

    # Raises

    ValueError
        If it is not a lower triangular `(num_exits, num_exits)` tensor of numbers that are 0 or
        within `WEIGHT_BOUNDS`, with one above 0 in each row.
    """
    if isinstance(found, torch.Tensor) and found.shape == (0, 0):
        return None
    wanted = f"wanted numbers from 0 of shape {(num_exits, num_exits)}, a row for each exit"
    if not isinstance(found, torch.Tensor) or found.is_complex():
        raise ValueError(f"the combination of exits is {short_repr(found)}: {wanted}")
    if found.shape != (num_exits, num_exits):
        raise ValueError(f"the combination of exits has shape {tuple(found.shape)}: {wanted}")
    rows: List[List[float]] = found.double().tolist()
    for k, row in enumerate(rows):
        for j, weight in enumerate(row):
            # The last bit may be lost in float32.
            is_allowed = weight == 0 or (j <= k and 0 < weight <= 1.001 * WEIGHT_BOUNDS[1])
            if not is_allowed:
                raise ValueError(
                    f"the combination of exits has {weight:g} as the weight of exit {j} at exit "
                    f"{k}, counted from 0: {wanted}, 0 for later exits and at most "
                    f"{WEIGHT_BOUNDS[1]:g}"
                )
        if not any(row):
            raise ValueError(
                f"the combination of exits has no weight above 0 for exit {k}, counted from 0: "
                f"{wanted}"
            )
    return rows

"""What is predicted for instances at an exit."""

import math
from typing import List, NamedTuple

import torch


class Prediction(NamedTuple):
    """
    What is predicted for each instance if it exits here: `logits` before temperature (with a
    combination the calibrated ones, with an ensemble the logarithms of `probs`), calibrated
    `probs`, both `(num_instances, num_labels)`, and `confidence`, `(num_instances,)`.
    """

    logits: torch.Tensor
    probs: torch.Tensor
    confidence: torch.Tensor


def most_probable(logits: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """
    The label of each instance, `(num_instances,)`, from a `Prediction`'s `logits` and `probs`.
    Where a high temperature makes probabilities equal by rounding, the largest logit decides.
    """
    is_below = probs != probs.amax(-1, keepdim=True)
    return logits.masked_fill(is_below, -math.inf).argmax(-1)


def most_probable_of(logits: List[float], probs: List[float]) -> int:
    """`most_probable` of one instance, for which calls of torch take most time."""
    largest = max(probs)
    if probs.count(largest) < 2:
        return probs.index(largest)
    return max(range(len(probs)), key=lambda k: (probs[k] == largest, logits[k]))

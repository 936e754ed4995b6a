"""A prediction: from an exit's logits, by its temperature, to probabilities and a label."""

import math
from typing import NamedTuple

import torch


class Prediction(NamedTuple):
    """
    What is predicted for each instance if it exits here: `logits` before temperature (with an
    ensemble, the logarithms of `probs`), calibrated `probs`, both `(num_instances, num_labels)`,
    and `confidence`, `(num_instances,)`.
    """

    logits: torch.Tensor
    probs: torch.Tensor
    confidence: torch.Tensor


def divide_by_temperature(logits: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """
    Temperature scaling (Guo et al. 2017), up to a number for each instance that makes no difference
    to probabilities: the largest logit becomes 0, so that none overflows upwards, however large
    logits are and however low the temperature.

    # Parameters

    logits : `torch.Tensor`
        `(num_instances, num_labels)`
    temperature : `torch.Tensor`
        `()`, or `(num_instances, 1)` for one of each instance.

    # Returns

    `torch.Tensor`
        `(num_instances, num_labels)`
    """
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def most_probable(logits: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """
    The label of each instance, `(num_instances,)`, from the two of a `Prediction`. Of labels whose
    probabilities are rounded to the same number, by a high temperature, that of the largest logit.
    """
    is_below = probs != probs.amax(-1, keepdim=True)
    return logits.masked_fill(is_below, -math.inf).argmax(-1)

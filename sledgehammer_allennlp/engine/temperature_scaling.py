"""Applying a temperature to logits."""

import torch


def scale_by_temperature(logits: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """
    Temperature scaling (Guo et al. 2017), shifted so that each instance's largest logit is 0. The
    shift does not change probabilities; it prevents overflow at large logits or low temperatures.

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

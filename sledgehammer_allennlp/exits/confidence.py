"""How sure an exit is: measures of confidence, all in [0, 1].

A measure takes the calibrated probabilities of one exit, `(batch_size, num_labels)`, and gives
`(batch_size,)`. To add one, decorate a function:

    @register_confidence("margin")
    def margin(probs):
        top = probs.topk(2, dim=-1).values
        return top[:, 0] - top[:, 1]
"""

from typing import Callable, Dict, List, Tuple

import torch

ConfidenceMeasure = Callable[[torch.Tensor], torch.Tensor]

_MEASURES: Dict[str, ConfidenceMeasure] = {}


def register_confidence(name: str) -> Callable[[ConfidenceMeasure], ConfidenceMeasure]:
    """Makes a measure available to configs under `name`, which must not be taken."""

    def add(measure: ConfidenceMeasure) -> ConfidenceMeasure:
        if name in _MEASURES:
            raise ValueError(f"a confidence measure named '{name}' is registered already")
        _MEASURES[name] = measure
        return measure

    return add


def available_confidences() -> List[str]:
    """The names of all registered measures."""
    return sorted(_MEASURES)


def confidence_by_name(name: str) -> ConfidenceMeasure:
    """
    The measure registered under `name`.

    # Raises

    ValueError
        If there is none.
    """
    if name not in _MEASURES:
        raise ValueError(
            f"confidence is {name!r}: wanted one of {', '.join(available_confidences())}"
        )
    return _MEASURES[name]


def calibrated(
    logits: torch.Tensor, temperature: torch.Tensor, measure: ConfidenceMeasure
) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    The probabilities and the confidence of one exit.

    # Parameters

    logits : `torch.Tensor`
        `(batch_size, num_labels)`, before temperature.
    temperature : `torch.Tensor`
        Of that exit, `()`.
    measure : `ConfidenceMeasure`

    # Returns

    probs : `torch.Tensor`
        `(batch_size, num_labels)`
    confidence : `torch.Tensor`
        `(batch_size,)`, in [0, 1], or NaN.
    """
    probs = (logits / temperature).softmax(-1)
    return probs, measure(probs).clamp(0, 1)


@register_confidence("max_probability")
def max_probability(probs: torch.Tensor) -> torch.Tensor:
    """The largest probability (Schwartz et al. 2020, section 3)."""
    return probs.max(dim=-1).values

"""Measures of the confidence of an exit, all in [0, 1].

To add one, decorate a function from what is known at an exit to one number for each text:

    @register_confidence("ratio")
    def ratio(at_exit):
        first, second = at_exit.probs.topk(2, dim=-1).values.unbind(-1)
        return 1 - second / first

What it gives is clamped to [0, 1]. An instance with NaN does not exit before the last exit.
"""

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence

import torch


@dataclass(frozen=True)
class AtExit:
    """
    What is known of instances at an exit.

    # Parameters

    probs : `torch.Tensor`
        `(num_instances, num_labels)`, calibrated, of the prediction if they exit here.
    exit_index, num_exits : `int`
        Which exit it is, counted from 0, and of how many.
    probs_so_far : `Sequence[torch.Tensor]`
        The probabilities of each exit up to this one, each `(num_instances, num_labels)`,
        calibrated. Of this exit only, for a measure that does not look back.
    correctness : `torch.Tensor`, optional
        `(num_instances,)`, for a learned measure: the probability that this exit is right, by its
        head. `None` where it has none: at an exit over n-grams.
    """

    probs: torch.Tensor
    exit_index: int
    num_exits: int
    probs_so_far: Sequence[torch.Tensor]
    correctness: Optional[torch.Tensor]


@dataclass(frozen=True)
class ConfidenceMeasure:
    """
    A registered measure: its `function`; whether it `looks_back` at earlier exits; and whether
    it `is_learned`, so that exits get heads for it, which are trained.
    """

    function: Callable[[AtExit], torch.Tensor]
    looks_back: bool = False
    is_learned: bool = False

    def __call__(self, at_exit: AtExit) -> torch.Tensor:
        """`(num_instances,)`, in [0, 1], or NaN where the probabilities are."""
        nan_where_probs_are = at_exit.probs[:, 0] * 0
        return (self.function(at_exit) + nan_where_probs_are).clamp(0, 1)


_MEASURES: Dict[str, ConfidenceMeasure] = {}

Function = Callable[[AtExit], torch.Tensor]


def register_confidence(
    name: str, looks_back: bool = False, is_learned: bool = False
) -> Callable[[Function], Function]:
    """
    Makes a measure available to configs under `name`, which must not be taken.

    # Parameters

    name : `str`
    looks_back : `bool`, optional (default = `False`)
        Whether the measure needs `AtExit.probs_so_far` of earlier exits.
    is_learned : `bool`, optional (default = `False`)
        Whether it needs `AtExit.correctness`.
    """

    def add(function: Function) -> Function:
        if name in _MEASURES:
            raise ValueError(f"a confidence measure named '{name}' is registered already")
        _MEASURES[name] = ConfidenceMeasure(function, looks_back, is_learned)
        return function

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
    if not isinstance(name, str) or name not in _MEASURES:
        raise ValueError(
            f"confidence is {name!r}: wanted one of {', '.join(available_confidences())}, or one "
            "that a package registers, which has to be imported (--include-package)"
        )
    return _MEASURES[name]


@register_confidence("max_probability")
def max_probability(at_exit: AtExit) -> torch.Tensor:
    """The largest probability (Schwartz et al. 2020, section 3)."""
    return at_exit.probs.max(dim=-1).values


@register_confidence("entropy")
def entropy(at_exit: AtExit) -> torch.Tensor:
    """
    One minus the entropy of the probabilities over that of equal ones (DeeBERT, Xin et al. 2020;
    FastBERT, Liu et al. 2020, whose "uncertainty" is the ratio).
    """
    num_labels = at_exit.probs.size(-1)
    entropies = torch.special.entr(at_exit.probs).sum(-1)
    return 1 - entropies / torch.tensor(max(num_labels, 2)).log().to(entropies)


@register_confidence("margin")
def margin(at_exit: AtExit) -> torch.Tensor:
    """The largest probability minus the second largest (Scheffer et al. 2001)."""
    if at_exit.probs.size(-1) == 1:
        return at_exit.probs[:, 0]
    top = at_exit.probs.topk(2, dim=-1).values
    return top[:, 0] - top[:, 1]


@register_confidence("patience", looks_back=True)
def patience(at_exit: AtExit) -> torch.Tensor:
    """
    How many exits just before this one gave its label, of those that a model has before its last
    (PABEE, Zhou et al. 2020). With n exits, PABEE's patience of t is every threshold above
    (t - 1) / (n - 1) and up to t / (n - 1); halfway, rounding makes no difference.
    """
    *earlier, here = (
        probs.argmax(-1).masked_fill(probs[:, 0].isnan(), -1) for probs in at_exit.probs_so_far
    )
    agree = torch.ones_like(here, dtype=torch.bool)
    agreements = torch.zeros_like(here)
    for label in reversed(earlier):
        agree = agree & (label == here)
        agreements = agreements + agree
    return agreements.to(at_exit.probs.dtype) / max(at_exit.num_exits - 1, 1)


@register_confidence("learned", is_learned=True)
def learned(at_exit: AtExit) -> torch.Tensor:
    """
    The output of a small head on the exit, trained to tell whether the exit is right (BERxiT's
    "learning to exit", Xin et al. 2021, with one head for all layers, which here see vectors of
    different kinds). At an exit over n-grams, which has no vector that a head could see, the
    largest probability.
    """
    if at_exit.correctness is None:
        return max_probability(at_exit)
    return at_exit.correctness

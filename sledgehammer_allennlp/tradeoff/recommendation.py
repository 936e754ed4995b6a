"""Which threshold to take, for what is wished."""

import math
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from sledgehammer_allennlp.tradeoff.curve import TradeoffCurve, wilson_interval
from sledgehammer_allennlp.tradeoff.guarantee import (
    MAX_LEVEL,
    TESTED_THRESHOLDS,
    guaranteed_threshold,
    min_instances,
)

MAX_ACCURACY_DROP = "max_accuracy_drop"
MAX_F1_DROP = "max_macro_f1_drop"
MAX_RECALL_DROP = "max_recall_drop"
TARGET_SPEEDUP = "target_speedup"
MAX_MILLISECONDS = "max_milliseconds"
MAX_COST = "max_cost"

_LOST = {
    MAX_ACCURACY_DROP: "of accuracy",
    MAX_F1_DROP: "of macro F1",
    MAX_RECALL_DROP: "of any label's recall",
}


@dataclass(frozen=True)
class OperatingPoint:
    """
    What one threshold gives on the data. Accuracies are shares.

    # Parameters

    threshold : `float`
    accuracy : `float`
    accuracy_low, accuracy_high : `float`
        Its 95 % interval, after Wilson.
    accuracy_drop : `float`
        What it loses against the last exit, a difference of shares.
    layer_equivalents : `float`
        The mean of the instances.
    speed_up : `float`
        Over threshold 1, in layer-equivalents.
    """

    threshold: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    accuracy_drop: float
    layer_equivalents: float
    speed_up: float


@dataclass(frozen=True)
class Recommendation:
    """
    # Parameters

    wish : `str`
        `"max_accuracy_drop"`, `"max_macro_f1_drop"`, `"max_recall_drop"`, `"target_speedup"`,
        `"max_milliseconds"` or `"max_cost"`.
    value : `float`
        The allowed drop as a share; how many times as fast as threshold 1; the mean milliseconds
        of a text; or the cost of a million.
    confidence_level : `float`, optional
        The probability with which the drop holds on new data; `None` if it holds on this data.
    point : `OperatingPoint`
        At the recommended threshold, or at the nearest if there is none.
    is_satisfied : `bool`
        Whether it does what was wished.
    note : `str`
        What is to be known beside it; may be empty.
    """

    wish: str
    value: float
    confidence_level: Optional[float]
    point: OperatingPoint
    is_satisfied: bool
    note: str

    def described(self) -> str:
        """The wish in words."""
        if self.wish == TARGET_SPEEDUP:
            return f"at least {self.value:g} times as fast"
        if self.wish == MAX_MILLISECONDS:
            return f"at most {self.value:g} ms a text"
        if self.wish == MAX_COST:
            return f"a cost of at most {self.value:g} for a million texts"
        points = f"{100 * self.value:g} point{'s' * (self.value != 0.01)}"
        drop = f"at most {points} {_LOST[self.wish]} lost"
        if self.confidence_level is None:
            return drop
        return f"{drop}, with a probability of {100 * self.confidence_level:g} %"


def operating_point(curve: TradeoffCurve, threshold: float) -> OperatingPoint:
    """What a `threshold` gives, by the `curve` of some data."""
    row = curve.row_of(threshold)
    low, high = wilson_interval(curve.num_correct[row], curve.num_instances)
    return OperatingPoint(
        threshold=threshold,
        accuracy=float(curve.accuracy[row]),
        accuracy_low=float(low),
        accuracy_high=float(high),
        accuracy_drop=float(curve.accuracy_drop[row]),
        layer_equivalents=float(curve.layer_equivalents[row]),
        speed_up=float(curve.speed_up[row]),
    )


def threshold_for_drop(
    curve: TradeoffCurve, max_accuracy_drop: float, confidence_level: Optional[float] = None
) -> Recommendation:
    """
    The fastest threshold that loses at most so much accuracy against the last exit.

    # Parameters

    curve : `TradeoffCurve`
        Of the data by which it is chosen.
    max_accuracy_drop : `float`
        A share in [0, 1), 0.01 for one point.
    confidence_level : `float`, optional (default = `None`)
        In (0, 1). If given, the drop is guaranteed on new data with this probability, see
        `guarantee`; else it is the drop on this data.

    # Raises

    ValueError
        If a number is not in its range.
    """
    check_accuracy_drop(max_accuracy_drop)
    if confidence_level is not None:
        return _guaranteed(curve, max_accuracy_drop, confidence_level)
    # Counts, not their quotients: a drop of just what is allowed is allowed.
    allowed = math.floor(max_accuracy_drop * curve.num_instances + 1e-9)
    is_allowed = curve.num_lost - curve.num_gained <= allowed
    return Recommendation(
        MAX_ACCURACY_DROP, max_accuracy_drop, None, fastest_of(curve, is_allowed), True, ""
    )


def fastest_of(curve: TradeoffCurve, is_allowed: np.ndarray) -> OperatingPoint:
    """
    The fastest of some rows of a curve.

    # Parameters

    is_allowed : `np.ndarray`
        `(num_rows,)`, of booleans. At threshold 1 nothing is lost, so that there always is one.
    """
    row = int(np.flatnonzero(is_allowed)[curve.layer_equivalents[is_allowed].argmin()])
    return operating_point(curve, curve.short_threshold(row))


def check_accuracy_drop(drop: Any, name: str = "accuracy") -> None:
    """
    # Raises

    ValueError
        If `drop`, of what is called `name`, is not a share from 0 to below 1.
    """
    if isinstance(drop, bool) or not isinstance(drop, (int, float)) or not 0 <= drop < 1:
        raise ValueError(
            f"the {name} drop is {drop!r}: wanted a share from 0 to below 1, for example 0.01 "
            "for one point"
        )


def check_confidence_level(level: float) -> None:
    """
    # Raises

    ValueError
        If `level` is not above 0 and at most `MAX_LEVEL`.
    """
    if not 0 < level <= MAX_LEVEL:
        raise ValueError(
            f"the confidence level is {level!r}: wanted a probability above 0 and at most "
            f"{MAX_LEVEL}, for example 0.95"
        )


def check_target_speedup(target: float) -> None:
    """
    # Raises

    ValueError
        If `target` is below 1 or not finite.
    """
    if not 1 <= target < math.inf:
        raise ValueError(f"the target speed-up is {target:g}: wanted at least 1")


def _guaranteed(
    curve: TradeoffCurve, max_accuracy_drop: float, confidence_level: float
) -> Recommendation:
    check_confidence_level(confidence_level)
    guarantee = guaranteed_threshold(curve, max_accuracy_drop, confidence_level)
    note = "Tested from high thresholds down to the first not proven; lower ones may be good, too"
    if guarantee.threshold is None:
        needed = min_instances(max_accuracy_drop, confidence_level)
        note = f"None of {len(TESTED_THRESHOLDS)} thresholds can be guaranteed by this data"
        if needed is None:
            note += ": for so small a drop no amount of it may do. Allow a larger one"
        elif needed > curve.num_instances:
            note += f": it takes at least {needed} instances, here are {curve.num_instances}"
        else:
            note += ". Take more data, a larger drop, or a lower confidence level"
    return Recommendation(
        MAX_ACCURACY_DROP,
        max_accuracy_drop,
        confidence_level,
        operating_point(curve, 1.0 if guarantee.threshold is None else guarantee.threshold),
        True,  # at threshold 1 nothing is lost, on any data
        note,
    )


def threshold_for_speedup(
    curve: TradeoffCurve, target_speedup: float, quality: Optional[np.ndarray] = None
) -> Recommendation:
    """
    The most accurate threshold that is so many times as fast as threshold 1, in layer-equivalents;
    of equally accurate ones the fastest. Where there is none, the fastest of all.

    # Parameters

    curve : `TradeoffCurve`
    target_speedup : `float`
        At least 1.
    quality : `np.ndarray`, optional (default = accuracy)
        `(num_rows,)`, by what the best is taken instead.

    # Raises

    ValueError
        If the target is below 1.
    """
    check_target_speedup(target_speedup)
    is_fast = curve.speed_up >= target_speedup * (1 - 1e-9)
    note = ""
    if is_fast.any():
        candidates = np.flatnonzero(is_fast)
        quality = curve.num_correct if quality is None else quality
        order = np.lexsort([curve.layer_equivalents[candidates], -quality[candidates]])
        row = int(candidates[order[0]])
    else:
        row = int(curve.layer_equivalents.argmin())
        note = (
            "No threshold is so fast: the first exit, where every instance exits at threshold 0, "
            f"is {curve.speed_up[row]:.3g} times as fast as the last"
        )
    point = operating_point(curve, curve.short_threshold(row))
    return Recommendation(TARGET_SPEEDUP, target_speedup, None, point, bool(is_fast.any()), note)

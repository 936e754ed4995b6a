"""Which threshold to take for a budget of time or money, of those that were measured."""

import math
from typing import Any, Mapping, Optional

import numpy as np

from sledgehammer_allennlp.tradeoff.curve import TradeoffCurve
from sledgehammer_allennlp.tradeoff.recommendation import (
    MAX_COST,
    MAX_MILLISECONDS,
    Recommendation,
    operating_point,
)


def check_budget(value: Any, name: str) -> None:
    """
    # Raises

    ValueError
        If `value` is not a number above 0, naming it.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}: wanted a number above 0")


def cost_of_a_million(seconds_per_text: float, num_cpus: int, price_per_cpu_hour: float) -> float:
    """What a million texts cost, in the unit of the price."""
    return 1e6 * seconds_per_text * num_cpus / 3600 * price_per_cpu_hour


def threshold_for_milliseconds(
    curve: TradeoffCurve,
    seconds_per_text: Mapping[float, float],
    max_milliseconds: float,
    quality: Optional[np.ndarray] = None,
) -> Recommendation:
    """
    The most accurate of the measured thresholds whose texts take at most so long in the mean; of
    equally accurate ones the fastest. Where there is none, the fastest of all.

    # Parameters

    curve : `TradeoffCurve`
    seconds_per_text : `Mapping[float, float]`
        By threshold.
    max_milliseconds : `float`
    quality : `np.ndarray`, optional (default = accuracy)
        `(num_rows,)`, by what the best is taken instead.

    # Raises

    ValueError
        If the wish is not above 0, or nothing was measured.
    """
    check_budget(max_milliseconds, "max_milliseconds")
    milliseconds = {threshold: 1e3 * seconds for threshold, seconds in seconds_per_text.items()}
    return _within(curve, milliseconds, MAX_MILLISECONDS, max_milliseconds, quality)


def threshold_for_cost(
    curve: TradeoffCurve,
    seconds_per_text: Mapping[float, float],
    max_cost: float,
    num_cpus: int,
    price_per_cpu_hour: float,
    quality: Optional[np.ndarray] = None,
) -> Recommendation:
    """
    The most accurate of the measured thresholds at which a million texts cost at most so much, see
    `threshold_for_milliseconds`.

    # Parameters

    curve : `TradeoffCurve`
    seconds_per_text : `Mapping[float, float]`
        By threshold.
    max_cost : `float`
        In the unit of the price.
    num_cpus : `int`
        On how many it was measured.
    price_per_cpu_hour : `float`
    quality : `np.ndarray`, optional (default = accuracy)
        `(num_rows,)`

    # Raises

    ValueError
        If the wish or the price is not above 0, or nothing was measured.
    """
    check_budget(max_cost, "max_cost")
    check_budget(price_per_cpu_hour, "the price of a CPU hour")
    costs = {
        threshold: cost_of_a_million(seconds, num_cpus, price_per_cpu_hour)
        for threshold, seconds in seconds_per_text.items()
    }
    return _within(curve, costs, MAX_COST, max_cost, quality)


def _within(
    curve: TradeoffCurve,
    spent: Mapping[float, float],
    wish: str,
    value: float,
    quality: Optional[np.ndarray],
) -> Recommendation:
    if not spent:
        raise ValueError(f"{wish} takes measured thresholds: wanted --measure")
    quality = curve.num_correct if quality is None else quality
    within = [threshold for threshold, one in spent.items() if one <= value]
    if within:
        best = max(within, key=lambda t: (quality[curve.row_of(t)], -spent[t]))
        note = f"Measured: {spent[best]:.3g}. Of {len(spent)} thresholds that were timed"
    else:
        best = min(spent, key=lambda t: spent[t])
        note = f"The fastest that was timed takes {spent[best]:.3g}"
    return Recommendation(wish, value, None, operating_point(curve, best), bool(within), note)

"""Which thresholds are safe: accuracy drops that hold on new data with a given probability.

This is Learn-then-Test (Angelopoulos et al. 2021) by fixed-sequence testing. For each threshold of
a list that is fixed beforehand, from the safest to the fastest, the hypothesis "the accuracy drop
is larger than allowed" is tested at level 1 - confidence level, until the first that is not
rejected. The probability that any of the thresholds before it drops more than allowed is then at
most that level, whatever the data are like, because to accept a bad one the first bad one has to be
rejected wrongly. Schuster et al. 2021, "Consistent Accelerated Inference via Confident Adaptive
Transformers", give such a guarantee of agreement with the full model; here it is of accuracy.

The p-value is exact. Of each text it is known whether it is right at the last exit, and whether
where it leaves: a drop is a difference of two paired shares. Outcomes are ordered by the score
statistic (Nam 1997, "Establishing equivalence of two treatments and sample size requirements in
matched-pairs design"), and the p-value is the probability of one as extreme as observed, the
largest over what the drop leaves open: in how many texts the answers differ (Hsueh, Liu and Chen
2001, "Unconditional exact tests for equivalence or noninferiority for paired binary endpoints").
That is looked for within a confidence interval for it (Berger and Boos 1994). An exact binomial
test of the lost answers alone would be valid, too, but blind to what early exits gain.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Callable, List, Optional

import numpy as np
from scipy.stats import beta, binom

from sledgehammer_allennlp.tradeoff.classes import ClassCurve
from sledgehammer_allennlp.tradeoff.curve import TradeoffCurve

TESTED_THRESHOLDS = (0.999, 0.995, *(round(0.99 - step / 100, 2) for step in range(100)))
"""From the safest to the fastest."""

_OUTSIDE_INTERVAL = 1e-4
"""How improbable it is that the share of differing answers is above its confidence interval."""

_LEFT_OUT = 1e-12
"""How improbable the numbers are, at most, that are left out of a sum."""

MAX_LEVEL = 0.999
"""The highest confidence level that p-values of at least `_OUTSIDE_INTERVAL` can reach well."""

_NUM_SHARES = 60
"""How many shares of differing answers are tried, and again around the best of them."""


@dataclass(frozen=True)
class Guarantee:
    """
    The outcome of the tests: `threshold`, the lowest of the accepted, or `None`; `p_value`, of that
    one, or of the first tested if there is none.
    """

    threshold: Optional[float]
    p_value: float


def guaranteed_threshold(
    curve: TradeoffCurve, max_accuracy_drop: float, confidence_level: float
) -> Guarantee:
    """
    The lowest threshold whose accuracy drop is guaranteed on new data of the same kind.

    # Parameters

    curve : `TradeoffCurve`
        Of data on which neither the model nor its calibration was fitted.
    max_accuracy_drop : `float`
        In [0, 1).
    confidence_level : `float`
        In (0, 1), the probability that the guarantee holds, over draws of the data.
    """

    def p_value_at(row: int) -> float:
        lost, gained = int(curve.num_lost[row]), int(curve.num_gained[row])
        return drop_p_value(lost, gained, curve.num_instances, max_accuracy_drop)

    return _lowest_accepted(curve, p_value_at, confidence_level)


def guaranteed_threshold_of_classes(
    curve: TradeoffCurve, classes: ClassCurve, max_recall_drop: float, confidence_level: float
) -> Guarantee:
    """
    The lowest threshold at which it is guaranteed that the recall of no class of enough instances,
    see `classes_to_test`, drops more than allowed on new data of the same kind. `None` if there is
    no such class.

    A threshold is bad if one of the classes drops too far, and accepted if the tests of all reject
    that, each at the full level: to accept a bad one, the test of its bad class has to be wrong, so
    that the number of classes needs no correction (the intersection-union test, Berger 1982).

    # Parameters

    curve : `TradeoffCurve`
        Of data on which neither the model nor its calibration was fitted.
    classes : `ClassCurve`
        Of the same data.
    max_recall_drop : `float`
        In [0, 1).
    confidence_level : `float`
        In (0, 1).
    """
    tested = classes_to_test(classes, max_recall_drop, confidence_level)
    if not tested:
        return Guarantee(None, 1.0)

    def p_value_at(row: int) -> float:
        lost, gained = classes.lost_and_gained(row)
        # The worst first: one that is not good enough is enough.
        order = sorted(tested, key=lambda c: (gained[c] - lost[c]) / classes.support[c])
        highest = 0.0
        for c in order:
            counts = int(lost[c]), int(gained[c]), int(classes.support[c])
            highest = max(highest, drop_p_value(*counts, max_recall_drop))
            if highest > 1 - confidence_level:
                break
        return highest

    return _lowest_accepted(curve, p_value_at, confidence_level)


def classes_to_test(
    classes: ClassCurve, max_recall_drop: float, confidence_level: float
) -> List[int]:
    """The labels of which there are enough instances to guarantee anything."""
    needed = min_instances(max_recall_drop, confidence_level)
    if needed is None:
        return []
    return np.flatnonzero(classes.support >= needed).tolist()


def _lowest_accepted(
    curve: TradeoffCurve, p_value_at: Callable[[int], float], confidence_level: float
) -> Guarantee:
    accepted, p_value = None, 1.0
    for threshold in TESTED_THRESHOLDS:
        p = p_value_at(curve.row_of(threshold))
        if p > 1 - confidence_level:
            return Guarantee(accepted, p if accepted is None else p_value)
        accepted, p_value = threshold, p
    return Guarantee(accepted, p_value)


@lru_cache(maxsize=10_000)
def drop_p_value(num_lost: int, num_gained: int, num_instances: int, max_drop: float) -> float:
    """
    The exact p-value of "on new data, accuracy drops by `max_drop` or more": no more than a share
    p of data sets for which that is true have a p-value of at most p.

    # Parameters

    num_lost : `int`
        How many instances are right at the last exit and wrong where they exit.
    num_gained : `int`
        How many are wrong at the last exit and right where they exit.
    num_instances : `int`
    max_drop : `float`
        In [0, 1).
    """
    num_differing = num_lost + num_gained
    most = 1.0
    if num_differing < num_instances:
        most = beta.isf(_OUTSIDE_INTERVAL, num_differing + 1, num_instances - num_differing)
    if most <= max_drop:
        return _OUTSIDE_INTERVAL
    observed = _score(np.array(num_lost), np.array(num_differing), num_instances, max_drop)
    differing = np.arange(num_instances + 1)
    most_lost = _most_lost(differing, observed, num_instances, max_drop)

    def probability(shares: np.ndarray) -> np.ndarray:
        """Of an outcome as extreme, if that share of the answers differs, `(num_shares,)`."""
        shares = shares[:, None]
        # (num_shares, numbers of differing answers): so many differ, and few of those are lost.
        # Farther than `reach` from what is expected is hardly anything, see _LEFT_OUT.
        reach = int(8 * np.sqrt(num_instances * min(most, 0.25)) + 40)
        first = np.clip(num_instances * shares - reach, 0, max(num_instances - 2 * reach, 0))
        among = np.minimum(first.astype(int) + np.arange(2 * reach + 1), num_instances)
        chance = binom.pmf(among, num_instances, shares)
        chance[:, 1:][np.diff(among) == 0] = 0
        return (
            chance * binom.cdf(most_lost[among], among, (shares + max_drop) / (2 * shares))
        ).sum(axis=1)

    least = max(max_drop, 1e-9)
    shares = least + (most - least) * np.linspace(0, 1, _NUM_SHARES) ** 3  # most near the least
    near = int(probability(shares).argmax())
    shares = np.linspace(shares[max(near - 1, 0)], shares[near : near + 2][-1], _NUM_SHARES)
    return min(1.0, float(probability(shares).max()) + _OUTSIDE_INTERVAL + _LEFT_OUT)


def _score(
    num_lost: np.ndarray, num_differing: np.ndarray, num_instances: int, drop: float
) -> np.ndarray:
    """
    How far the observed drop is above `drop`, in standard deviations, which are those under the
    most likely shares of gained and lost answers that do differ by `drop`. Ascends with `num_lost`.
    """
    num_gained = num_differing - num_lost
    excess = num_lost - num_gained - num_instances * drop
    # The most likely share of gained answers solves a x² + b x + c = 0.
    a = 2 * num_instances
    b = 2 * num_instances * drop - num_differing - (num_lost - num_gained) * drop
    c = -num_gained * drop * (1 - drop)
    gained_share = (np.sqrt(b * b - 4 * a * c) - b) / (2 * a)
    variance = num_instances * (2 * gained_share + drop * (1 - drop))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, excess / np.sqrt(variance), 0.0)


def _most_lost(
    num_differing: np.ndarray, observed: np.ndarray, num_instances: int, drop: float
) -> np.ndarray:
    """
    Of each number of differing answers, how many at most are lost where the score is not above the
    observed one; -1 if it always is. By bisection.
    """
    observed = observed + 1e-9  # so that what is equal but for rounding is equal
    low, high = np.full_like(num_differing, -1), num_differing.copy()
    while (low < high).any():
        middle = np.ceil((low + high) / 2)
        is_extreme = _score(middle, num_differing, num_instances, drop) <= observed
        low = np.where(is_extreme, middle, low)
        high = np.where(is_extreme, high, middle - 1)
    return low


def min_instances(max_accuracy_drop: float, confidence_level: float) -> Optional[int]:
    """
    How many instances it takes at least to guarantee anything: so many that none lost would be
    improbable enough. `None` for a drop of 0, where none lost is always probable.
    """
    if max_accuracy_drop <= 0:
        return None
    level = 1 - confidence_level - _OUTSIDE_INTERVAL
    return int(np.ceil(np.log(level) / np.log1p(-max_accuracy_drop)))

"""What every threshold gives, from one full-depth pass over labelled data."""

from dataclasses import dataclass
from typing import Sequence, Tuple

import numpy as np

_JUST_BELOW_ONE = 1 - 2.0**-25
"""
As a threshold in double precision it is below 1, so that early exit is on, and in single precision,
in which the model compares, it is 1: what exits early has a confidence of exactly 1.
"""


@dataclass(frozen=True)
class TradeoffCurve:
    """
    What each threshold gives. Between neighbouring confidences of the data nothing changes, so
    that finitely many rows say everything: row j is what happens at every threshold above
    `thresholds[j - 1]` and up to `thresholds[j]`.

    # Parameters

    thresholds : `np.ndarray`
        `(num_rows,)`, ascending; the last is 1, at which every instance exits at the last exit.
    exit_counts : `np.ndarray`
        `(num_exits, num_rows)`, how many exit at each exit.
    num_lost, num_gained : `np.ndarray`
        `(num_rows,)`, how many are right at the last exit and wrong where they exit, and the
        other way round.
    num_right_at_last : `int`
        How many are right at the last exit.
    costs : `np.ndarray`
        `(num_exits,)`, layer-equivalents of exiting at each exit.
    """

    thresholds: np.ndarray
    exit_counts: np.ndarray
    num_lost: np.ndarray
    num_gained: np.ndarray
    num_right_at_last: int
    costs: np.ndarray

    def __len__(self) -> int:
        return len(self.thresholds)

    @property
    def num_instances(self) -> int:
        """How many instances the curve is of."""
        return int(self.exit_counts[:, 0].sum())

    @property
    def num_correct(self) -> np.ndarray:
        """`(num_rows,)`"""
        return self.num_right_at_last + self.num_gained - self.num_lost

    @property
    def accuracy(self) -> np.ndarray:
        """`(num_rows,)`"""
        return self.num_correct / self.num_instances

    @property
    def accuracy_drop(self) -> np.ndarray:
        """`(num_rows,)`, the accuracy of the last exit minus that of the row."""
        return (self.num_lost - self.num_gained) / self.num_instances

    @property
    def layer_equivalents(self) -> np.ndarray:
        """`(num_rows,)`, mean per instance."""
        return self.costs @ self.exit_counts / self.num_instances

    @property
    def speed_up(self) -> np.ndarray:
        """
        `(num_rows,)`, the layer-equivalents of threshold 1 over those of the row; infinite where
        nothing is computed but an exit before layer 0.
        """
        return speed_up(self.layer_equivalents, self.costs[-1])

    def row_of(self, threshold: float) -> int:
        """The row of a `threshold` in [0, 1]."""
        if threshold >= 1:
            return len(self) - 1
        single = float(np.float32(threshold))  # the precision in which the model compares
        if single >= 1:
            single = _JUST_BELOW_ONE
        return int(np.searchsorted(self.thresholds, single))

    def short_threshold(self, row: int) -> float:
        """
        The threshold of a `row` that has the fewest decimals, and of several the one farthest from
        where something changes.
        """
        if row == len(self) - 1:
            return 1.0
        if row == 0:
            return 0.0
        low, high = self.thresholds[row - 1], self.thresholds[row]
        middle = (low + high) / 2
        for decimals in range(1, 16):
            threshold = round(float(middle), decimals)
            if self.row_of(threshold) == row:
                return threshold
        return float(high)


def speed_up(layer_equivalents: np.ndarray, full: float) -> np.ndarray:
    """`full` over `layer_equivalents`, and infinity over 0."""
    with np.errstate(divide="ignore"):
        return np.divide(full, layer_equivalents)


def tradeoff_curve(
    confidences: np.ndarray, correct: np.ndarray, costs: Sequence[float]
) -> TradeoffCurve:
    """
    The outcome of every threshold: an instance exits at the first exit whose confidence is at
    least the threshold, and at the last exit if there is none.

    # Parameters

    confidences : `np.ndarray`
        `(num_exits, num_instances)`, in [0, 1], of every exit for every instance; NaN where an
        instance never exits there.
    correct : `np.ndarray`
        `(num_exits, num_instances)`, whether each exit is right.
    costs : `Sequence[float]`
        The layer-equivalents of exiting at each exit.

    # Raises

    ValueError
        If there are no instances, or shapes do not fit.
    """
    correct = np.asarray(correct, dtype=bool)
    if confidences.ndim != 2 or confidences.shape[1] == 0:
        raise ValueError(
            f"confidences have shape {confidences.shape}: wanted (num_exits, num_instances), and "
            "at least one instance"
        )
    if correct.shape != confidences.shape or len(costs) != len(confidences):
        raise ValueError(
            f"found confidences of shape {confidences.shape}, answers of shape {correct.shape} and "
            f"{len(costs)} costs: wanted one answer for each confidence, one cost for each exit"
        )
    passes = Passes.of(np.asarray(confidences, dtype=np.float32))
    thresholds = passes.thresholds()
    lost = correct[-1] & ~correct
    gained = ~correct[-1] & correct
    return TradeoffCurve(
        thresholds=thresholds,
        exit_counts=passes.num_leaving(np.ones_like(correct), thresholds),
        num_lost=passes.num_leaving(lost, thresholds).sum(axis=0),
        num_gained=passes.num_leaving(gained, thresholds).sum(axis=0),
        num_right_at_last=int(correct[-1].sum()),
        costs=np.asarray(costs, dtype=np.float64),
    )


@dataclass(frozen=True)
class Passes:
    """
    Between which thresholds an instance exits where: at exit k at those above `before[k]`, the
    highest confidence of the exits before, and up to `highest[k]`, the highest so far. Both are
    `(num_exits, num_instances)`.
    """

    before: np.ndarray
    highest: np.ndarray

    @classmethod
    def of(cls, confidences: np.ndarray) -> "Passes":
        early = np.where(np.isnan(confidences), -np.inf, confidences.astype(np.float64))
        early[early >= 1] = _JUST_BELOW_ONE
        early[-1] = np.inf  # every instance exits at the last exit
        highest = np.maximum.accumulate(early, axis=0)
        before = np.concatenate([np.full_like(highest[:1], -np.inf), highest[:-1]])
        return cls(before, highest)

    def thresholds(self) -> np.ndarray:
        """Where something changes, `(num_rows,)`, and 1."""
        changes = np.unique(self.highest[:-1])
        return np.append(changes[np.isfinite(changes)], 1.0)

    def rows_at(self, exit_index: int, thresholds: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """
        Of each instance, the first row of a curve at which it exits there, and the first after; the
        same if there is none. Both `(num_instances,)`.
        """
        first, end = (
            np.searchsorted(thresholds, limits[exit_index], side="right")
            for limits in (self.before, self.highest)
        )
        return first, end

    def num_leaving(self, which: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """
        How many of some instances exit at each exit, `(num_exits, num_rows)`. `which`,
        `(num_exits, num_instances)`, of booleans: which instances are counted at which exit.
        """
        return np.stack(
            [
                _num_at_least(highest[counted], thresholds)
                - _num_at_least(before[counted], thresholds)
                for before, highest, counted in zip(self.before, self.highest, which)
            ]
        )


def _num_at_least(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return len(values) - np.searchsorted(np.sort(values), thresholds)


def wilson_interval(
    num_correct: np.ndarray, num_instances: int, z: float = 1.959964
) -> Tuple[np.ndarray, np.ndarray]:
    """
    The score interval of shares of right answers (Wilson 1927), by default of 95 %.

    # Parameters

    num_correct : `np.ndarray`
        Of any shape.
    num_instances : `int`
    z : `float`, optional
        How many standard deviations.

    # Returns

    low, high : `np.ndarray`
        Of the shape of `num_correct`, in [0, 1].
    """
    share = np.asarray(num_correct) / num_instances
    weight = z**2 / num_instances
    middle = share + weight / 2
    spread = z * np.sqrt(share * (1 - share) / num_instances + weight / (4 * num_instances))
    low, high = (middle - spread) / (1 + weight), (middle + spread) / (1 + weight)
    return np.clip(low, 0, 1), np.clip(high, 0, 1)

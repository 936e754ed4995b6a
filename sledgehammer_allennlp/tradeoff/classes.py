"""What every threshold gives each class: confusion matrix, recall, precision and macro F1."""

from dataclasses import dataclass
from functools import cached_property
from typing import Tuple

import numpy as np

from sledgehammer_allennlp.tradeoff.curve import Passes, TradeoffCurve


@dataclass(frozen=True)
class ClassCurve:
    """
    The confusion matrix at every row of a `TradeoffCurve`. Few instances change their answer from
    exit to exit, so that the matrix at threshold 1 and those changes say everything: at every row
    below `change_rows[i]` an instance of label `labels[i]` is answered `after[i]`, not `before[i]`.

    # Parameters

    num_rows : `int`
        Of the curve.
    confusion_at_one : `np.ndarray`
        `(num_labels, num_labels)`, how many instances of a label (row) get an answer (column) at
        threshold 1.
    change_rows, labels, before, after : `np.ndarray`
        `(num_changes,)`
    is_right_at_one : `np.ndarray`
        `(num_changes,)`, whether the instance is answered rightly at threshold 1.
    """

    num_rows: int
    confusion_at_one: np.ndarray
    change_rows: np.ndarray
    labels: np.ndarray
    before: np.ndarray
    after: np.ndarray
    is_right_at_one: np.ndarray

    @property
    def num_labels(self) -> int:
        """Of the model, those that the data has not included."""
        return len(self.confusion_at_one)

    @property
    def support(self) -> np.ndarray:
        """`(num_labels,)`, how many instances have each label."""
        return self.confusion_at_one.sum(axis=1)

    def confusion(self, row: int) -> np.ndarray:
        """`(num_labels, num_labels)`, how many instances of a label get an answer, at a row."""
        matrix = self.confusion_at_one.copy()
        is_changed = self.change_rows > row
        np.subtract.at(matrix, (self.labels[is_changed], self.before[is_changed]), 1)
        np.add.at(matrix, (self.labels[is_changed], self.after[is_changed]), 1)
        return matrix

    def lost_and_gained(self, row: int) -> Tuple[np.ndarray, np.ndarray]:
        """
        Of each label, how many instances are right at threshold 1 and wrong at a row, and the other
        way round; both `(num_labels,)`.
        """
        is_changed = self.change_rows > row
        turns = self._turns() * is_changed
        right = self.is_right_at_one
        lost, gained = (
            np.bincount(self.labels[which], sign * turns[which], self.num_labels)
            for which, sign in ((right, -1), (~right, 1))
        )
        return lost.astype(int), gained.astype(int)

    def net_loss(self, label: int) -> np.ndarray:
        """`(num_rows,)`, how many fewer instances of a label are right than at threshold 1."""
        of_label = self.labels == label
        return -self._summed(of_label, self._turns())

    def _turns(self) -> np.ndarray:
        """`(num_changes,)`, 1 where an answer becomes right, -1 where it becomes wrong."""
        return (self.after == self.labels).astype(int) - (self.before == self.labels)

    @cached_property
    def worst_recall_drop(self) -> np.ndarray:
        """`(num_rows,)`, the largest drop of recall against threshold 1 of any class, a share."""
        present = np.flatnonzero(self.support).tolist()
        worst = np.full(self.num_rows, -np.inf)
        for label in present:
            np.maximum(worst, self.net_loss(label) / self.support[label], out=worst)
        return worst

    @cached_property
    def macro_f1(self) -> np.ndarray:
        """
        `(num_rows,)`, the mean F1 over labels that the data or the answers have, as scikit-learn's
        `f1_score(..., average="macro")`.
        """
        total, num_counted = np.zeros(self.num_rows), np.zeros(self.num_rows)
        answered_at_one = self.confusion_at_one.sum(axis=0)
        for label, support in enumerate(self.support):
            right = self.confusion_at_one[label, label] - self.net_loss(label)
            changes = (self.after == label).astype(int) - (self.before == label)
            either = support + answered_at_one[label] + self._summed(changes != 0, changes)
            total += 2 * right / np.maximum(either, 1)
            num_counted += either > 0
        return total / num_counted

    def _summed(self, which: np.ndarray, values: np.ndarray) -> np.ndarray:
        """`(num_rows,)`, at each row the sum of some changes' values that are made there."""
        by_row = np.bincount(self.change_rows[which], values[which], self.num_rows + 1)
        return by_row[::-1].cumsum()[::-1][1:].astype(int)


def recall_and_precision(confusion: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """
    Of each label; NaN where there are no instances of it, or no answers.

    # Parameters

    confusion : `np.ndarray`
        `(num_labels, num_labels)`, how many instances of a label (row) get an answer (column).
    """
    right = np.diagonal(confusion)
    with np.errstate(invalid="ignore"):
        return right / confusion.sum(axis=1), right / confusion.sum(axis=0)


def macro_f1(confusion: np.ndarray) -> float:
    """
    The mean F1 over labels that have instances or answers (scikit-learn's `f1_score`, "macro").

    # Parameters

    confusion : `np.ndarray`
        `(num_labels, num_labels)`, of at least one instance.
    """
    either = confusion.sum(axis=0) + confusion.sum(axis=1)
    counted = either > 0
    return float((2 * np.diagonal(confusion)[counted] / either[counted]).mean())


def class_curve(
    curve: TradeoffCurve,
    confidences: np.ndarray,
    answers: np.ndarray,
    labels: np.ndarray,
    num_labels: int,
) -> ClassCurve:
    """
    What each row of a curve gives each class.

    # Parameters

    curve : `TradeoffCurve`
        Of the same confidences.
    confidences, answers : `np.ndarray`
        `(num_exits, num_instances)`, of every exit for every instance.
    labels : `np.ndarray`
        `(num_instances,)`
    num_labels : `int`

    # Raises

    ValueError
        If shapes do not fit.
    """
    if answers.shape != confidences.shape or labels.shape != confidences.shape[1:]:
        raise ValueError(
            f"found confidences of shape {confidences.shape}, answers of shape {answers.shape} and "
            f"labels of shape {labels.shape}: wanted one answer for each confidence, one label for "
            "each instance"
        )
    passes = Passes.of(np.asarray(confidences, dtype=np.float32))
    answer = answers[-1].copy()
    confusion = np.zeros((num_labels, num_labels), dtype=int)
    np.add.at(confusion, (labels, answer), 1)
    is_right = answer == labels
    changes = []
    for k in range(len(answers) - 2, -1, -1):
        first, end = passes.rows_at(k, curve.thresholds)
        is_changed = (first < end) & (answers[k] != answer)
        changes.append(
            (
                *(end[is_changed], labels[is_changed], answer[is_changed]),
                *(answers[k][is_changed], is_right[is_changed]),
            )
        )
        answer[is_changed] = answers[k][is_changed]
    none = (np.zeros(0, dtype=int),) * 4 + (np.zeros(0, dtype=bool),)
    return ClassCurve(len(curve), confusion, *map(np.concatenate, zip(none, *changes)))

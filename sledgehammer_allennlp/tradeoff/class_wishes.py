"""Which threshold to take where classes count: by the recall of each, or by macro F1."""

from typing import Any, List, Optional, Sequence

import numpy as np

from sledgehammer_allennlp.tradeoff.classes import ClassCurve
from sledgehammer_allennlp.tradeoff.curve import TradeoffCurve
from sledgehammer_allennlp.tradeoff.guarantee import (
    classes_to_test,
    guaranteed_threshold_of_classes,
    min_instances,
)
from sledgehammer_allennlp.tradeoff.recommendation import (
    MAX_F1_DROP,
    MAX_RECALL_DROP,
    Recommendation,
    check_accuracy_drop,
    check_confidence_level,
    fastest_of,
    operating_point,
    threshold_for_drop,
)

METRICS = ("accuracy", "macro_f1")
"""By what the drop of `max_accuracy_drop` may be counted."""

_NUM_NAMED = 5


def check_metric(metric: Any) -> None:
    """
    # Raises

    ValueError
        If `metric` is not one of `METRICS`.
    """
    if metric not in METRICS:
        raise ValueError(f"the metric is {metric!r}: wanted one of {', '.join(METRICS)}")


def threshold_for_metric_drop(
    curve: TradeoffCurve,
    classes: ClassCurve,
    max_drop: float,
    metric: str,
    confidence_level: Optional[float] = None,
) -> Recommendation:
    """
    The fastest threshold that loses at most so much accuracy, or macro F1, against the last exit.

    # Parameters

    curve : `TradeoffCurve`
    classes : `ClassCurve`
        Of the same data.
    max_drop : `float`
        A share in [0, 1), 0.01 for one point.
    metric : `str`
        One of `METRICS`.
    confidence_level : `float`, optional (default = `None`)
        In (0, 1). If given, the drop is guaranteed on new data with this probability; for accuracy
        only.

    # Raises

    ValueError
        If a number is not in its range, or macro F1 is to be guaranteed.
    """
    check_metric(metric)
    if metric == "accuracy":
        return threshold_for_drop(curve, max_drop, confidence_level)
    check_accuracy_drop(max_drop, "macro F1")
    if confidence_level is not None:
        raise ValueError(
            "a drop of macro F1 cannot be guaranteed, because there is no exact test of it: wanted "
            "--metric accuracy, or --max-recall-drop, or no --confidence-level"
        )
    is_allowed = classes.macro_f1[-1] - classes.macro_f1 <= max_drop + 1e-9
    return Recommendation(MAX_F1_DROP, max_drop, None, fastest_of(curve, is_allowed), True, "")


def threshold_for_recall_drop(
    curve: TradeoffCurve,
    classes: ClassCurve,
    label_names: Sequence[str],
    max_recall_drop: float,
    confidence_level: Optional[float] = None,
) -> Recommendation:
    """
    The fastest threshold at which no label loses more recall against the last exit.

    # Parameters

    curve : `TradeoffCurve`
    classes : `ClassCurve`
        Of the same data.
    label_names : `Sequence[str]`
        Of each label.
    max_recall_drop : `float`
        A share in [0, 1), 0.02 for two points. Of a label of few instances that is none of them.
    confidence_level : `float`, optional (default = `None`)
        In (0, 1). If given, the drops are guaranteed on new data with this probability, of the
        labels that have enough instances; the note names the others.

    # Raises

    ValueError
        If a number is not in its range.
    """
    check_accuracy_drop(max_recall_drop, "recall")
    if confidence_level is not None:
        return _guaranteed(curve, classes, label_names, max_recall_drop, confidence_level)
    is_allowed = np.ones(len(curve), dtype=bool)
    for label in np.flatnonzero(classes.support).tolist():
        # Counts, not their quotients: a drop of just what is allowed is allowed.
        allowed = np.floor(max_recall_drop * classes.support[label] + 1e-9)
        is_allowed &= classes.net_loss(label) <= allowed
    point = fastest_of(curve, is_allowed)
    return Recommendation(MAX_RECALL_DROP, max_recall_drop, None, point, True, "")


def _guaranteed(
    curve: TradeoffCurve,
    classes: ClassCurve,
    label_names: Sequence[str],
    max_drop: float,
    confidence_level: float,
) -> Recommendation:
    check_confidence_level(confidence_level)
    guarantee = guaranteed_threshold_of_classes(curve, classes, max_drop, confidence_level)
    tested = classes_to_test(classes, max_drop, confidence_level)
    left_out = [label for label in range(classes.num_labels) if label not in tested]
    needed = min_instances(max_drop, confidence_level)
    if needed is None:
        note = "For so small a drop no amount of data may do. Allow a larger one"
    elif not tested:
        note = f"No label has the {needed} texts that it takes at least"
    elif guarantee.threshold is None:
        note = "No threshold can be guaranteed by this data. Take more of it, or a larger drop"
    else:
        note = "Tested from high thresholds down to the first not proven"
    if tested and left_out:
        names = _named([f"'{label_names[c]}' ({classes.support[c]:,})" for c in left_out])
        note += (
            f". It says nothing of labels with fewer than the {needed} texts that it takes: {names}"
        )
    threshold = 1.0 if guarantee.threshold is None else guarantee.threshold
    point = operating_point(curve, threshold)
    return Recommendation(MAX_RECALL_DROP, max_drop, confidence_level, point, True, note)


def _named(names: List[str]) -> str:
    more = f", and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(names[:_NUM_NAMED]) + more

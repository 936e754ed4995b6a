import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from sledgehammer_allennlp.tradeoff import threshold_for_drop, tradeoff_curve
from sledgehammer_allennlp.tradeoff.class_wishes import (
    threshold_for_metric_drop,
    threshold_for_recall_drop,
)
from sledgehammer_allennlp.tradeoff.classes import class_curve
from sledgehammer_allennlp.tradeoff.guarantee import guaranteed_threshold_of_classes


def curves_of(confidence, labels, first, last, num_labels=None):
    """Of two exits, of cost 1 and 4; `confidence` is the first's."""
    confidences = np.stack([confidence, np.ones(len(labels))])
    answers = np.stack([first, last])
    curve = tradeoff_curve(confidences, answers == labels, [1, 4])
    return curve, class_curve(curve, confidences, answers, labels, num_labels or labels.max() + 1)


@pytest.fixture
def curves():
    """
    90 texts of label 0, always right; 10 of label 1, of which the first exit, at threshold t, loses
    those of confidence 0.05, 0.15, ... that are at least t.
    """
    labels = np.repeat([0, 1], [90, 10])
    confidence = np.concatenate([np.linspace(0.96, 0.99, 90), np.arange(10) / 10 + 0.05])
    return curves_of(confidence, labels, np.zeros(100, dtype=int), labels)


@pytest.mark.parametrize("drop, lost", [(0, 0), (0.1, 1), (0.29, 2), (0.3, 3), (0.99, 9)])
def test_no_label_loses_more_recall_than_is_allowed(curves, drop, lost):
    found = threshold_for_recall_drop(*curves, ["a", "b"], drop)
    assert found.is_satisfied and found.note == ""
    curve, classes = curves
    row = curve.row_of(found.point.threshold)
    assert classes.lost_and_gained(row)[0].tolist() == [0, lost]
    assert classes.worst_recall_drop[row] == pytest.approx(lost / 10)
    # One more would be faster.
    assert found.point.layer_equivalents == pytest.approx(4 - 3 * (90 + lost) / 100)


def test_accuracy_allows_what_recall_does_not(curves):
    assert threshold_for_drop(curves[0], 0.1).point.threshold == 0
    found = threshold_for_recall_drop(*curves, ["a", "b"], 0.5)
    assert found.point.threshold > 0.3
    assert found.described() == "at most 50 points of any label's recall lost"


def test_the_drop_of_macro_f1_is_limited(curves):
    curve, classes = curves
    for drop in (0, 0.03, 0.1, 0.4):
        found = threshold_for_metric_drop(curve, classes, drop, "macro_f1")
        row = curve.row_of(found.point.threshold)
        assert classes.macro_f1[-1] - classes.macro_f1[row] <= drop + 1e-9
        faster = curve.layer_equivalents < found.point.layer_equivalents
        assert (classes.macro_f1[-1] - classes.macro_f1[faster] > drop).all()
    assert found.described() == "at most 40 points of macro F1 lost"
    by_accuracy = threshold_for_metric_drop(curve, classes, 0.1, "accuracy")
    assert by_accuracy == threshold_for_drop(curve, 0.1)


def test_a_wish_that_is_none_is_refused(curves):
    with pytest.raises(ValueError, match="the recall drop is 1.5: wanted a share from 0"):
        threshold_for_recall_drop(*curves, ["a", "b"], 1.5)
    with pytest.raises(ValueError, match="the macro F1 drop is -1: wanted a share from 0"):
        threshold_for_metric_drop(*curves, -1, "macro_f1")
    with pytest.raises(ValueError, match="the metric is 'f1': wanted one of accuracy, macro_f1"):
        threshold_for_metric_drop(*curves, 0.1, "f1")
    with pytest.raises(ValueError, match="no exact test of it: wanted --metric accuracy"):
        threshold_for_metric_drop(*curves, 0.1, "macro_f1", 0.95)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_all_that_is_faster_than_what_is_taken_costs_a_label_too_much(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=40)
    answers = [np.where(rng.uniform(size=40) < 0.6, labels, rng.integers(3, size=40)) for _ in "ab"]
    curve, classes = curves_of(rng.uniform(size=40), labels, *answers, num_labels=3)
    found = threshold_for_recall_drop(curve, classes, list("abc"), 0.1)
    row = curve.row_of(found.point.threshold)
    assert classes.worst_recall_drop[row] <= 0.1 + 1e-9
    faster = curve.layer_equivalents < curve.layer_equivalents[row]
    assert (classes.worst_recall_drop[faster] > 0.1).all()


def made_data(rng, num_instances):
    """
    Label 1, of one text in four, loses one of five right answers at confidence below 0.6; label 0
    loses none.
    """
    labels = (rng.uniform(size=num_instances) < 0.25).astype(int)
    confidence = rng.uniform(size=num_instances)
    last = np.where(rng.uniform(size=num_instances) < 0.9, labels, 1 - labels)
    loses = (labels == 1) & (confidence < 0.6) & (rng.uniform(size=num_instances) < 0.2)
    first = np.where(loses & (last == labels), 1 - labels, last)
    return curves_of(confidence, labels, first, last)


def true_drop(threshold: float) -> float:
    """Of label 1's recall: of confidences from the threshold to 0.6."""
    return 0.9 * 0.2 * max(0.6 - threshold, 0)


def test_the_guarantee_of_recall_holds_at_its_nominal_rate():
    rng = np.random.default_rng(0)
    num_trials, level = 60, 0.9
    max_drop = (true_drop(0.30) + true_drop(0.31)) / 2
    violations, accepted = 0, []
    for _ in range(num_trials):
        found = guaranteed_threshold_of_classes(*made_data(rng, 3000), max_drop, level)
        assert found.threshold is not None and found.p_value <= 0.1
        accepted.append(found.threshold)
        violations += true_drop(found.threshold) > max_drop
    assert violations <= binom.isf(1e-4, num_trials, 1 - level)
    assert np.median(accepted) < 0.5


def test_labels_of_too_few_texts_are_named_and_not_guaranteed():
    labels = np.repeat([0, 1, 2], [500, 200, 20])
    confidence = np.linspace(0.5, 1, 720)
    first = np.where(labels == 2, 0, labels)  # all of label 2 is lost
    curves = curves_of(confidence, labels, first, labels, num_labels=4)
    names = ["a", "b", "c", "d"]
    found = threshold_for_recall_drop(*curves, names, 0.02, 0.95)
    assert found.point.threshold == 0
    assert found.note == (
        "Tested from high thresholds down to the first not proven. It says nothing of labels with "
        "fewer than the 149 texts that it takes: 'c' (20), 'd' (0)"
    )
    assert found.described() == (
        "at most 2 points of any label's recall lost, with a probability of 95 %"
    )
    found = threshold_for_recall_drop(*curves, names, 0.001, 0.95)
    assert found.point.threshold == 1 and "No label has the 2997 texts" in found.note
    found = threshold_for_recall_drop(*curves, names, 0.0, 0.95)
    assert found.point.threshold == 1 and "Allow a larger one" in found.note


def test_where_a_label_loses_at_once_nothing_is_guaranteed():
    labels = np.repeat([0, 1], [500, 300])
    curves = curves_of(np.ones(800), labels, np.zeros(800, dtype=int), labels)
    found = threshold_for_recall_drop(*curves, ["a", "b"], 0.02, 0.95)
    assert found.point.threshold == 1
    assert found.note.startswith("No threshold can be guaranteed by this data")

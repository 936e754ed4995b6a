import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sledgehammer_allennlp.tradeoff.classes import class_curve, macro_f1, recall_and_precision
from sledgehammer_allennlp.tradeoff.curve import tradeoff_curve
from tests.tradeoff.test_curve import CONFIDENCES, exits_taken

metrics = pytest.importorskip("sklearn.metrics")

NUM_LABELS = 4


@st.composite
def data(draw):
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    confidences = draw(arrays(np.float32, shape, elements=CONFIDENCES))
    answers = draw(arrays(int, shape, elements=st.integers(0, NUM_LABELS - 1)))
    labels = draw(arrays(int, shape[1], elements=st.integers(0, NUM_LABELS - 1)))
    return confidences, answers, labels


def curves_of(confidences, answers, labels):
    curve = tradeoff_curve(confidences, answers == labels, np.arange(len(answers)) + 1.0)
    return curve, class_curve(curve, confidences, answers, labels, NUM_LABELS)


@given(data())
def test_every_row_has_the_confusions_that_the_exit_rule_gives(data):
    confidences, answers, labels = data
    curve, classes = curves_of(*data)
    f1 = classes.macro_f1
    everyone = np.arange(len(labels))
    at_one = answers[-1] == labels
    for row in range(len(curve)):
        threshold = 1.0 if row == len(curve) - 1 else curve.short_threshold(row)
        given_ = answers[exits_taken(confidences, threshold), everyone]
        found = classes.confusion(row)
        wanted = metrics.confusion_matrix(labels, given_, labels=range(NUM_LABELS))
        np.testing.assert_array_equal(found, wanted)
        assert f1[row] == pytest.approx(metrics.f1_score(labels, given_, average="macro"))
        assert macro_f1(found) == pytest.approx(f1[row])
        lost, gained = classes.lost_and_gained(row)
        present = classes.support > 0
        drops = (lost - gained)[present] / classes.support[present]
        assert classes.worst_recall_drop[row] == pytest.approx(drops.max())
        for label in range(NUM_LABELS):
            is_label = labels == label
            assert lost[label] == (is_label & at_one & (given_ != labels)).sum()
            assert gained[label] == (is_label & ~at_one & (given_ == labels)).sum()
            assert classes.net_loss(label)[row] == lost[label] - gained[label]
        assert lost.sum() == curve.num_lost[row] and gained.sum() == curve.num_gained[row]


def test_recall_and_precision_are_scikit_learns_and_nan_where_there_is_nothing():
    labels, answers = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 0, 1, 1, 3, 3])
    recall, precision = recall_and_precision(
        metrics.confusion_matrix(labels, answers, labels=range(4))
    )
    present = [0, 1, 3]
    kwargs = dict(labels=present, average=None)
    assert recall[present] == pytest.approx(metrics.recall_score(labels, answers, **kwargs))
    assert precision[present] == pytest.approx(metrics.precision_score(labels, answers, **kwargs))
    assert np.isnan(recall[2]) and np.isnan(precision[2])


def test_labels_of_a_wrong_shape_are_refused():
    confidences, answers = np.ones((2, 3)), np.ones((2, 3), dtype=int)
    curve = tradeoff_curve(confidences, answers == 1, [1, 2])
    with pytest.raises(ValueError, match="one label for each instance"):
        class_curve(curve, confidences, answers, np.ones(4, dtype=int), 2)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest

from sledgehammer_allennlp.tradeoff.curve import TradeoffCurve, tradeoff_curve, wilson_interval

# Few different ones, so that there are ties; exactly 0 and 1; what rounds to 1; none at all.
CONFIDENCES = st.sampled_from(
    [float(np.float32(x)) for x in (0.0, 0.25, 0.3, 0.5, 0.9, 1 - 2.0**-24, 1.0, np.nan)]
)


@st.composite
def data(draw):
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    confidences = draw(arrays(np.float32, shape, elements=CONFIDENCES))
    correct = draw(arrays(bool, shape))
    costs = np.cumsum(draw(arrays(float, shape[0], elements=st.floats(0, 3)))) + 1
    return confidences, correct, costs


def exits_taken(confidences: np.ndarray, threshold: float) -> np.ndarray:
    """The exit rule, one instance at a time, as the model compares: in single precision."""
    taken = []
    for of_exits in confidences.T:
        leaves = [
            threshold < 1 and confidence >= np.float32(threshold) for confidence in of_exits[:-1]
        ]
        taken.append([*leaves, True].index(True))
    return np.array(taken)


@given(data(), st.floats(0, 1) | CONFIDENCES.filter(lambda t: t == t) | st.just(1 - 2.0**-30))
def test_every_threshold_gives_what_the_exit_rule_gives(data, threshold):
    confidences, correct, costs = data
    curve = tradeoff_curve(confidences, correct, costs)
    row = curve.row_of(threshold)
    taken = exits_taken(confidences, threshold)
    everyone = np.arange(len(taken))
    right = correct[taken, everyone]
    assert curve.exit_counts[:, row].tolist() == [(taken == k).sum() for k in range(len(costs))]
    assert curve.num_correct[row] == right.sum()
    assert curve.num_lost[row] == (correct[-1] & ~right).sum()
    assert curve.num_gained[row] == (~correct[-1] & right).sum()
    assert curve.accuracy[row] == pytest.approx(right.mean())
    assert curve.accuracy_drop[row] == pytest.approx(correct[-1].mean() - right.mean())
    assert curve.layer_equivalents[row] == pytest.approx(costs[taken].mean())
    assert curve.speed_up[row] == pytest.approx(costs[-1] / costs[taken].mean())


@given(data())
def test_neighbouring_rows_differ_and_the_last_is_threshold_one(data):
    curve = tradeoff_curve(*data)
    assert curve.thresholds[-1] == 1
    assert (np.diff(curve.thresholds) > 0).all()
    assert (np.diff(curve.exit_counts, axis=1) != 0).any(axis=0).all()
    assert curve.exit_counts[:-1, -1].sum() == 0


@given(data())
def test_a_short_threshold_is_one_of_its_row(data):
    curve = tradeoff_curve(*data)
    for row in range(len(curve)):
        assert curve.row_of(curve.short_threshold(row)) == row


def test_short_thresholds_have_few_decimals():
    confidences = np.array([[0.31, 0.62346, 0.62412, 0.91], [1, 1, 1, 1]], dtype=np.float32)
    curve = tradeoff_curve(confidences, np.ones((2, 4), dtype=bool), [1, 2])
    assert [curve.short_threshold(row) for row in range(len(curve))] == [0.0, 0.5, 0.624, 0.8, 1.0]


def test_a_threshold_where_nothing_is_computed_is_infinitely_fast():
    confidences = np.array([[0.5, 0.6], [1, 1]], dtype=np.float32)
    curve = tradeoff_curve(confidences, np.ones((2, 2), dtype=bool), [0.0, 2.0])
    assert curve.speed_up.tolist() == [np.inf, 2.0, 1.0]


@pytest.mark.parametrize("instances, costs", [(0, [1, 2]), (3, [1])])
def test_data_of_a_wrong_shape_is_refused(instances, costs):
    with pytest.raises(ValueError, match="wanted"):
        tradeoff_curve(np.ones((2, instances)), np.ones((2, instances)), costs)


@given(st.integers(1, 300), st.data())
def test_the_interval_is_that_of_scipy(num_instances, data):
    num_correct = data.draw(st.integers(0, num_instances))
    expected = binomtest(num_correct, num_instances).proportion_ci(0.95, method="wilson")
    found = wilson_interval(np.array([num_correct]), num_instances)
    assert np.ravel(found) == pytest.approx([expected.low, expected.high], abs=1e-6)


def test_a_curve_counts_its_instances():
    curve = tradeoff_curve(np.ones((3, 5)), np.ones((3, 5)), [1, 2, 3])
    assert isinstance(curve, TradeoffCurve)
    assert curve.num_instances == 5

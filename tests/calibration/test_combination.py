import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from sledgehammer_allennlp.calibration import (
    WEIGHT_BOUNDS,
    apply_combination,
    calibrate_exits,
    calibrated_logits,
    calibration_metrics,
    calibration_report,
    fit_combination,
    fit_temperature,
    negative_log_likelihood,
)
from tests.calibration.test_temperature import noisy_logits

NAMES = ["the first", "the second", "the third"]


def several_exits(num_labels: int, seed: int, size: int = 200):
    """Three exits whose mistakes are their own, the last the best, and the labels."""
    exits = [noisy_logits(num_labels, 1.0, seed + 100 * k, size)[0] for k in range(3)]
    _, labels = noisy_logits(num_labels, 1.0, seed, size)
    exits[2] = exits[2] + np.eye(num_labels)[labels]
    return np.stack(exits), labels


def rows_of(logits, labels):
    temperatures = [fit_temperature(exit_logits, labels) for exit_logits in logits]
    return fit_combination(logits, labels, temperatures, NAMES), temperatures


def weights_of(logits, labels):
    return np.array([row.weights for row in rows_of(logits, labels)[0]])


def always_right(logits, labels):
    return (logits.argmax(-1) == labels).all(1)


def loss(weights, logits, labels):
    """
    The penalised loss of one exit, the last, written out instance by instance: what is penalised is
    what differs from temperature scaling.
    """
    centred = logits - logits.mean(-1, keepdims=True)
    total = 0.0
    for i, label in enumerate(labels):
        combined = sum(w * c for w, c in zip(weights, centred[:, i]))
        total -= np.log(np.exp(combined[label]) / np.exp(combined).sum())
    alone = [0] * (len(weights) - 1) + [1 / fit_temperature(logits[-1], labels)]
    squares = sum((w - t) ** 2 * np.mean(c**2) for w, t, c in zip(weights, alone, centred))
    return total / len(labels) + 10 / len(labels) * squares


@pytest.mark.parametrize("num_labels, seed", [(2, 0), (3, 1), (5, 2)])
def test_weights_are_those_of_another_solver(num_labels, seed):
    logits, labels = several_exits(num_labels, seed)
    found = weights_of(logits, labels)
    for k in (1, 2):
        wanted = minimize(
            lambda weights, k=k: loss(weights, logits[: k + 1], labels),
            np.ones(k + 1),
            method="SLSQP",
            bounds=[(0, 10)] * (k + 1),
            options={"ftol": 1e-12},
        ).x
        np.testing.assert_allclose(found[k, : k + 1], wanted, atol=1e-4)
    assert (found[np.triu_indices(3, 1)] == 0).all() and (found > 0).sum() > 3


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.sampled_from([0, 0.7, 0.99, 1.01, 1.5]))
def test_no_other_weights_are_better(seed, factor):
    logits, labels = several_exits(3, seed, size=40)
    found = weights_of(logits, labels)
    for k in (1, 2):
        if np.count_nonzero(found[k]) == 1:
            continue  # temperature scaling, of any exit
        best = loss(found[k, : k + 1], logits[: k + 1], labels)
        for j in range(k + 1):
            other = found[k, : k + 1].copy()
            other[j] = max(other[j] * factor, 0.01 * (factor > 1))
            assert loss(other, logits[: k + 1], labels) >= best - 1e-12


@settings(max_examples=15, deadline=None)
@given(magnitudes=st.lists(st.floats(-30, 30), min_size=3, max_size=3), seed=st.integers(0, 10_000))
def test_logits_k_times_as_large_have_weights_as_much_smaller(magnitudes, seed):
    logits, labels = several_exits(3, seed, size=40)
    assume(not always_right(logits, labels).any())
    scales = 10.0 ** np.array(magnitudes)
    found = weights_of(logits * scales[:, None, None], labels)
    np.testing.assert_allclose(found * scales, weights_of(logits, labels), atol=1e-5, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.sampled_from([0.01, 1, 7]))
def test_a_copy_of_an_earlier_exit_combines_nothing(seed, factor):
    logits, labels = several_exits(3, seed, size=40)
    rows, temperatures = rows_of(np.stack([logits[2], factor * logits[2]]), labels)
    np.testing.assert_allclose(rows[1].weights, [0, 1 / temperatures[1]], rtol=1e-5, atol=1e-5)


def test_the_more_instances_the_farther_from_temperatures():
    logits, labels = several_exits(2, 0, size=40)
    changes = []
    for copies in (1, 10, 1000):
        weights = weights_of(np.tile(logits, (1, copies, 1)), np.tile(labels, copies))
        alone = np.diag([1 / fit_temperature(exit_logits, labels) for exit_logits in logits])
        changes.append(np.abs(weights - alone)[1:].max(axis=1))
    assert (changes[0] < changes[1]).all() and (changes[1] < changes[2]).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), added=st.floats(-1e3, 1e3))
def test_a_number_added_to_all_logits_of_an_instance_changes_nothing(seed, added):
    logits, labels = several_exits(3, seed, size=40)
    shifted = logits + added * np.arange(40)[:, None]
    np.testing.assert_allclose(weights_of(shifted, labels), weights_of(logits, labels), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), num_labels=st.integers(2, 4))
def test_a_row_of_one_number_is_temperature_scaling(seed, num_labels):
    logits, labels = several_exits(num_labels, seed, size=40)
    assume(not always_right(logits, labels).any())
    (row,), (temperature,) = rows_of(logits[:1], labels)
    assert row.weights == [1 / temperature] and row.why_undetermined is None
    # The first exit is constant, and the second knows nothing of the label but the opposite.
    logits[0], logits[1] = 7.0, -logits[2]
    rows, temperatures = rows_of(logits, labels)
    assert rows[2].weights == [0, 0, 1 / temperatures[2]]


def test_combining_exits_that_err_differently_is_likelier_and_more_accurate():
    logits, labels = several_exits(3, 0, size=3000)
    exits = calibrate_exits(logits, labels, [0, 2, 5], combine=True)
    first, second, third = exits
    assert first.combination.nll == pytest.approx(first.nll_after)
    assert second.combination.nll < second.nll_after - 0.05
    assert second.calibrated_accuracy > second.accuracy + 0.03
    assert third.calibrated_nll < second.calibrated_nll
    assert third.calibrated_ece < 0.05
    calibrated = calibrated_logits(logits, [], [e.combination.weights for e in exits])
    for exit_, exit_logits in zip(exits, calibrated):
        combination = exit_.combination
        assert combination.nll == pytest.approx(negative_log_likelihood(exit_logits, labels))
        assert combination.accuracy == (exit_logits.argmax(1) == labels).mean()


EYE = np.eye(2)[np.array([0, 1] * 6)]
LABELS = np.array([0, 1] * 6)
NARROW = np.concatenate([[[0, 1e-4]], EYE[1:] * np.arange(1, 12)[:, None] / 10])  # one is wrong


@pytest.mark.parametrize(
    "exits, last_row, why",
    [
        ([EYE, 3 * EYE], [0, 1.0], "it is always right, so that the best would be 0"),
        ([EYE, NARROW], "both", "it is always right, so that only the penalty"),
        ([1 - EYE, 4 * (1 - EYE)], [0, np.exp(-10) / 4], "it is no better than chance"),
        ([np.ones((12, 2)), np.full((12, 2), 0.1)], [0, 1.0], "its logits are equal"),
        ([np.ones((12, 2)), EYE], [0, 1.0], "it is always right, so that the best would be 0"),
        ([EYE, np.ones((12, 2))], [1.0, 0], "it is always right, so that the best would be 0"),
        ([1e36 * (1 - EYE), 1e36 * (1 - EYE)], [0, 1e-36], "it is no better than chance"),
    ],
)
def test_what_weights_are_where_none_are_best(exits, last_row, why):
    exits = np.stack(exits)
    rows, _ = rows_of(exits, LABELS)
    if last_row == "both":
        first, second = rows[1].weights
        best = loss([first, second], exits, LABELS)
        for other in (0.99, 1.01):
            assert loss([other * first, second], exits, LABELS) > best
            assert loss([first, other * second], exits, LABELS) > best
    else:
        assert rows[1].weights == pytest.approx(last_row)
    assert rows[1].why_undetermined.startswith(why)


@st.composite
def extreme_exits(draw):
    """Logits of three exits of any quality and magnitude."""
    num_labels, size = draw(st.sampled_from([1, 2, 3, 40])), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    labels = rng.integers(draw(st.integers(1, num_labels)), size=size)  # or one label only
    exits = []
    for _ in range(3):
        logits = rng.normal(size=(size, num_labels)) * draw(st.sampled_from([0, 1]))
        logits += draw(st.sampled_from([-1000, -1, 0, 1, 1000])) * np.eye(num_labels)[labels]
        magnitude = draw(st.sampled_from([1e-45, 1e-30, 1, 1e30, 3.4e38]))
        exits.append((logits / (np.abs(logits).max() or 1) * magnitude).astype(np.float32))
    return np.stack(exits), labels


@settings(max_examples=150, deadline=None)
@given(extreme_exits())
def test_weights_are_within_bounds_whatever_the_logits(data):
    logits, labels = data
    rows, _ = rows_of(logits, labels)
    for row in rows:
        positive = [weight for weight in row.weights if weight != 0]
        assert positive and all(WEIGHT_BOUNDS[0] <= w <= WEIGHT_BOUNDS[1] for w in positive)
    for combined in apply_combination(logits, labels, [row.weights for row in rows]):
        assert np.isfinite([combined.nll, combined.ece]).all()


def test_the_report_and_the_metrics_have_the_combinations():
    logits, labels = several_exits(3, 0)
    before = [[1.0, 0, 0], [0.5, 0.5, 0], [0, 0, 2.0]]
    exits = calibrate_exits(logits, labels, [-1, 2, 3], None, True, before)
    report = calibration_report(exits, len(labels))["exits"]
    assert [e["combination_before"]["weights"] for e in report] == before
    metrics = calibration_metrics(exits)
    for exit_, layer in zip(report, [-1, 2, 3]):
        for name in ("accuracy", "nll", "ece"):
            found = metrics[f"calibration_combined_{name}_layer_{layer}"]
            assert found == exit_["combination"][name]
        assert exit_["combination"]["nll"] < exit_["combination_before"]["nll"]
    alone = calibrate_exits(logits, labels, [-1, 2, 3])
    assert [e.combination for e in alone] == [None] * 3
    assert not any("combined" in name for name in calibration_metrics(alone))
    assert [e.calibrated_nll for e in alone] == [e.nll_after for e in alone]


def test_logits_that_are_not_numbers_are_refused_by_name():
    logits, labels = several_exits(3, 0)
    logits[1, 4, 0] = np.nan
    with pytest.raises(ValueError, match="fit a combination to the second: 1 of 200 instances"):
        fit_combination(logits, labels, [1.0] * 3, NAMES)

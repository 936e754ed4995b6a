from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import beta, binom, multinomial

from sledgehammer_allennlp.tradeoff.curve import tradeoff_curve
from sledgehammer_allennlp.tradeoff.guarantee import (
    TESTED_THRESHOLDS,
    _score,
    drop_p_value,
    guaranteed_threshold,
    min_instances,
)


def outcomes(num_instances: int):
    """All that can be seen: how many answers are lost, and how many gained."""
    counts = range(num_instances + 1)
    return [
        (lost, gained) for lost, gained in product(counts, counts) if lost + gained <= max(counts)
    ]


def chances(num_instances: int, drop: float, differing: float) -> np.ndarray:
    """How probable each of `outcomes` is, if accuracy drops and that share of answers differs."""
    lost, gained = (differing + drop) / 2, (differing - drop) / 2
    return multinomial.pmf(
        [[a, b, num_instances - a - b] for a, b in outcomes(num_instances)],
        num_instances,
        [lost, gained, 1 - lost - gained],
    )


@pytest.mark.parametrize(
    "num_instances, max_drop", [(1, 0.2), (5, 0.0), (13, 0.0), (13, 0.05), (30, 0.01), (40, 0.2)]
)
def test_where_the_drop_is_too_large_small_p_values_are_rare(num_instances, max_drop):
    """At any level, and whatever is true where the drop is just too large, or larger."""
    p_values = np.array(
        [drop_p_value(*seen, num_instances, max_drop) for seen in outcomes(num_instances)]
    )
    order = p_values.argsort()
    is_last = np.append(np.diff(p_values[order]) > 0, True)  # of its level
    for drop in (max_drop, max_drop + 0.01, max_drop + 0.1):
        for differing in np.linspace(max(drop, 1e-6), 0.999, 150):
            frequency = chances(num_instances, drop, differing)[order].cumsum()
            assert (frequency <= p_values[order] + 1e-12)[is_last].all()


def test_the_p_value_is_no_larger_than_it_must_be():
    """For some true shares, p-values of at most a level are nearly as frequent as that level."""
    num_instances, max_drop, level = 60, 0.1, 0.1
    p_values = np.array(
        [drop_p_value(*seen, num_instances, max_drop) for seen in outcomes(num_instances)]
    )
    frequencies = [
        chances(num_instances, max_drop, differing)[p_values <= level].sum()
        for differing in np.linspace(max_drop, 0.6, 21)
    ]
    assert max(frequencies) > 0.8 * level


@pytest.mark.parametrize(
    "num_lost, num_gained, num_instances, max_drop",
    [(98, 117, 1000, 0.001), (338, 372, 3000, 0), (3, 5, 872, 0.01), (0, 0, 456, 0.01)],
)
def test_it_is_the_largest_of_all_shares_of_differing_answers(
    num_lost, num_gained, num_instances, max_drop
):
    """With the sums written out, and 1e-4 for shares above the interval."""
    num_differing = num_lost + num_gained
    observed = _score(np.array(num_lost), np.array(num_differing), num_instances, max_drop)
    most_lost = []
    for differing in range(num_instances + 1):
        scores = _score(np.arange(differing + 1), np.array(differing), num_instances, max_drop)
        most_lost.append((scores <= observed + 1e-9).sum() - 1)
    everything = np.arange(num_instances + 1)
    # So high that a higher share would have shown more differences, but for 1 case in 10000.
    highest = beta.isf(1e-4, num_differing + 1, num_instances - num_differing)
    largest = max(
        binom.pmf(everything, num_instances, share)
        @ binom.cdf(most_lost, everything, (share + max_drop) / (2 * share))
        for share in np.geomspace(max(max_drop, 1e-5), highest, 400)
    )
    found = drop_p_value(num_lost, num_gained, num_instances, max_drop)
    assert found == pytest.approx(largest + 1e-4, abs=3e-5)


def test_no_data_makes_a_p_value_vanish():
    assert drop_p_value(0, 0, 10**6, 0.5) == 1e-4
    assert drop_p_value(0, 0, 10**4, 0.01) >= 1e-4


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 20), st.floats(0.005, 0.2))
@settings(max_examples=40, deadline=None)
def test_gains_never_make_it_larger_than_the_binomial_test_of_what_is_lost(
    num_instances, more, num_lost, max_drop
):
    num_instances += num_lost
    p_value = drop_p_value(num_lost, 0, num_instances, max_drop)
    if p_value < 0.2:
        assert p_value <= binom.cdf(num_lost, num_instances, max_drop) + 0.01


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 400), st.floats(0.001, 0.3))
@settings(deadline=None)
def test_the_score_is_that_of_the_most_likely_shares(lost, gained, neither, drop):
    n = lost + gained + neither

    def negative_log_likelihood(share):  # of gained answers
        return -(
            lost * np.log(share + drop)
            + gained * np.log(share)
            + neither * np.log1p(-2 * share - drop)
        )

    share = minimize_scalar(
        negative_log_likelihood,
        bounds=(1e-13, (1 - drop) / 2 - 1e-13),
        method="bounded",
        options={"xatol": 1e-13},
    ).x
    expected = (lost - gained - n * drop) / np.sqrt(n * (2 * share + drop - drop**2))
    found = _score(np.array(lost), np.array(lost + gained), n, drop)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)


@given(st.integers(2, 200), st.floats(0, 0.5))
@settings(deadline=None)
def test_the_score_ascends_with_what_is_lost(num_instances, drop):
    for differing in range(num_instances + 1):
        scores = _score(np.arange(differing + 1), np.array(differing), num_instances, drop)
        assert (np.diff(scores) >= -1e-9).all()


def test_the_p_value_ascends_with_losses_and_descends_with_data():
    by_losses = [drop_p_value(lost, 3, 500, 0.02) for lost in range(12)]
    assert by_losses == sorted(by_losses)
    by_data = [drop_p_value(n // 100, 0, n, 0.02) for n in (100, 300, 1000, 3000)]
    assert by_data == sorted(by_data, reverse=True)


def draw_data(rng, num_instances):
    """
    Two exits. The first's confidence is uniform; above 0.6 the exits are both right or wrong, and
    below the first loses one of ten of the last's right answers, of which there are 9 in 10.
    """
    confidence = rng.uniform(size=num_instances)
    last = rng.uniform(size=num_instances) < 0.9
    loses = (confidence < 0.6) & (rng.uniform(size=num_instances) < 0.1)
    correct = np.stack([last & ~loses, last])
    return np.stack([confidence, np.ones(num_instances)]), correct


def true_drop(threshold: float) -> float:
    return 0.9 * 0.1 * max(0.6 - threshold, 0)


def test_the_guarantee_holds_at_its_nominal_rate():
    rng = np.random.default_rng(0)
    num_trials, level = 400, 0.9
    # Just too large for threshold 0.30 and all below, and just small enough for 0.31.
    max_drop = (true_drop(0.30) + true_drop(0.31)) / 2
    violations, accepted = 0, []
    for _ in range(num_trials):
        curve = tradeoff_curve(*draw_data(rng, 1500), costs=[1, 2])
        threshold = guaranteed_threshold(curve, max_drop, level).threshold
        assert threshold is not None
        accepted.append(threshold)
        violations += true_drop(threshold) > max_drop
    # Not more than it may, by more than chance explains in one of ten thousand such tests.
    assert violations <= binom.isf(1e-4, num_trials, 1 - level)
    # Nor a guarantee that would be cheap because it never dares anything.
    assert violations >= 0.2 * (1 - level) * num_trials
    assert np.median(accepted) < 0.55


def test_thresholds_are_tested_from_the_safest_until_one_is_not_safe():
    assert list(TESTED_THRESHOLDS) == sorted(TESTED_THRESHOLDS, reverse=True)
    assert TESTED_THRESHOLDS[0] == 0.999 and TESTED_THRESHOLDS[-1] == 0.0
    # Everything below 0.5 loses, but at 0.2 and below as much is gained again.
    confidences = np.stack([np.linspace(0.15, 0.95, 1000), np.ones(1000)])
    first, last = np.ones(1000, dtype=bool), np.ones(1000, dtype=bool)
    first[confidences[0] < 0.5] = False
    last[confidences[0] < 0.2] = False
    curve = tradeoff_curve(confidences, np.stack([first, last]), [1, 2])
    found = guaranteed_threshold(curve, 0.02, 0.95)
    assert 0.45 < found.threshold <= 0.5
    assert found.p_value <= 0.05


def test_without_enough_data_nothing_is_guaranteed():
    needed = min_instances(0.01, 0.95)
    assert needed == 299  # the first with (1 - 0.01) ** n <= 0.05

    def found(num_instances):
        confidences = np.ones((2, num_instances))
        correct = np.ones((2, num_instances), dtype=bool)
        return guaranteed_threshold(
            tradeoff_curve(confidences, correct, [1, 2]), 0.01, 0.95
        ).threshold

    assert found(needed - 1) is None
    assert found(needed) == 0.0
    assert min_instances(0.0, 0.95) is None

import numpy as np
import pytest

from sledgehammer_allennlp.tradeoff import tradeoff_curve
from sledgehammer_allennlp.tradeoff.cost_wishes import (
    cost_of_a_million,
    threshold_for_cost,
    threshold_for_milliseconds,
)

SECONDS = {0.0: 0.001, 0.1: 0.002, 0.5: 0.003, 1.0: 0.004}


@pytest.fixture
def curve():
    """At threshold t the first exit loses those of 100 whose confidence is from t to 0.2."""
    confidence = (np.arange(100) + 0.5) / 100
    correct = np.stack([np.arange(100) >= 20, np.ones(100, dtype=bool)])
    return tradeoff_curve(np.stack([confidence, np.ones(100)]), correct, [1, 4])


@pytest.mark.parametrize(
    "limit, threshold, accuracy", [(1, 0, 0.8), (2.5, 0.1, 0.9), (3, 0.5, 1.0), (9, 0.5, 1.0)]
)
def test_the_most_accurate_of_the_timed_thresholds_is_taken(curve, limit, threshold, accuracy):
    """Of equally accurate ones the fastest: 0.5, not 1."""
    found = threshold_for_milliseconds(curve, SECONDS, limit)
    assert found.is_satisfied and "Of 4 thresholds that were timed" in found.note
    assert (found.point.threshold, found.point.accuracy) == (threshold, accuracy)
    assert found.described() == f"at most {limit} ms a text"


def test_another_measure_of_quality_may_choose(curve):
    quality = -curve.accuracy
    assert threshold_for_milliseconds(curve, SECONDS, 9, quality).point.threshold == 0


def test_a_budget_that_is_too_small_gives_the_fastest_and_says_so(curve):
    found = threshold_for_milliseconds(curve, SECONDS, 0.5)
    assert not found.is_satisfied and found.point.threshold == 0
    assert found.note == "The fastest that was timed takes 1"


def test_a_cost_is_of_all_cores_for_a_million_texts(curve):
    # 0.003 s on 4 cores: 12,000 core seconds a million, 3.33 core hours.
    assert cost_of_a_million(0.003, 4, 0.06) == pytest.approx(0.2)
    found = threshold_for_cost(curve, SECONDS, 0.15, num_cpus=4, price_per_cpu_hour=0.06)
    assert found.point.threshold == 0.1 and "Measured: 0.133." in found.note
    assert found.described() == "a cost of at most 0.15 for a million texts"


def test_what_is_no_budget_is_refused(curve):
    with pytest.raises(ValueError, match="max_milliseconds is 0: wanted a number above 0"):
        threshold_for_milliseconds(curve, SECONDS, 0)
    with pytest.raises(ValueError, match="the price of a CPU hour is -1: wanted a number above 0"):
        threshold_for_cost(curve, SECONDS, 1, 1, -1)
    with pytest.raises(ValueError, match="wanted --measure"):
        threshold_for_milliseconds(curve, {}, 1)

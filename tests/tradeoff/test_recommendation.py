import math

import numpy as np
import pytest

from sledgehammer_allennlp.tradeoff import (
    operating_point,
    threshold_for_drop,
    threshold_for_speedup,
    tradeoff_curve,
)


@pytest.fixture
def curve():
    """
    100 instances, exits of cost 1 and 4; the last is always right. At threshold t the first answers
    those of confidence above t, and is wrong for the 20 of least confidence.
    """
    confidence = (np.arange(100) + 0.5) / 100
    correct = np.stack([np.arange(100) >= 20, np.ones(100, dtype=bool)])
    return tradeoff_curve(np.stack([confidence, np.ones(100)]), correct, [1, 4])


@pytest.mark.parametrize(
    "drop, threshold, accuracy", [(0, 0.2, 1.0), (0.05, 0.15, 0.95), (0.2, 0, 0.8)]
)
def test_the_fastest_threshold_within_the_drop_is_taken(curve, drop, threshold, accuracy):
    found = threshold_for_drop(curve, drop)
    assert found.is_satisfied and found.note == ""
    assert found.point.threshold == threshold
    assert found.point.accuracy == accuracy
    assert found.point.accuracy_drop == pytest.approx(1 - accuracy)
    assert found.point.layer_equivalents == pytest.approx(1 + 3 * threshold)


def test_a_drop_of_just_what_is_allowed_is_allowed():
    """Also where the product of share and number is below it by rounding, as 0.29 * 100 is."""
    confidence = np.stack([np.arange(100) / 100, np.ones(100)])
    correct = np.stack([np.arange(100) >= 70, np.ones(100, dtype=bool)])
    curve = tradeoff_curve(confidence, correct, [1, 4])
    for lost in range(70):
        point = threshold_for_drop(curve, lost / 100).point
        assert round(100 * (1 - point.accuracy)) == lost


def test_a_speed_up_of_just_what_is_wished_is_enough(curve):
    for row in range(len(curve)):
        found = threshold_for_speedup(curve, float(f"{curve.speed_up[row]:.10g}"))
        assert found.is_satisfied and found.point.speed_up >= curve.speed_up[row] * (1 - 1e-9)


@pytest.mark.parametrize(
    "target, threshold, accuracy", [(1, 0.2, 1.0), (2.5, 0.2, 1.0), (3.2, 0.08, 0.88)]
)
def test_the_most_accurate_threshold_of_the_speed_is_taken(curve, target, threshold, accuracy):
    found = threshold_for_speedup(curve, target)
    assert found.is_satisfied
    assert found.point.speed_up >= target
    assert (found.point.threshold, found.point.accuracy) == (threshold, accuracy)


def test_a_speed_that_is_not_to_be_had_gives_the_fastest_and_says_so(curve):
    found = threshold_for_speedup(curve, 5)
    assert not found.is_satisfied
    assert (found.point.threshold, found.point.speed_up) == (0, 4)
    assert "No threshold is so fast" in found.note and "4 times" in found.note


def test_what_is_guaranteed_is_slower_than_what_is_seen(curve):
    seen, guaranteed = (threshold_for_drop(curve, 0.1, level) for level in (None, 0.95))
    assert seen.point.threshold < guaranteed.point.threshold < 1
    assert "95 %" in guaranteed.described() and "10 points" in guaranteed.described()


def test_threshold_one_is_taken_if_nothing_can_be_guaranteed(curve):
    found = threshold_for_drop(curve, 0.01, 0.95)
    assert found.point.threshold == 1
    assert "at least 299 instances, here are 100" in found.note
    found = threshold_for_drop(curve, 0.0, 0.95)
    assert found.point.threshold == 1 and "Allow a larger one" in found.note
    many_lost = tradeoff_curve(
        np.ones((2, 100)), np.stack([np.arange(100) > 50, np.ones(100)]), [1, 4]
    )
    found = threshold_for_drop(many_lost, 0.1, 0.95)
    assert found.point.threshold == 1 and "Take more data" in found.note


def test_an_operating_point_has_an_interval(curve):
    point = operating_point(curve, 0.1)
    assert point.accuracy_low < point.accuracy == 0.9 < point.accuracy_high
    assert point.speed_up == pytest.approx(4 / 1.3)


@pytest.mark.parametrize("drop", [-0.01, 1, 1.5, math.nan, "0.1", True])
def test_a_bad_drop_is_refused(curve, drop):
    with pytest.raises(ValueError, match="wanted a share from 0 to below 1"):
        threshold_for_drop(curve, drop)


@pytest.mark.parametrize("level", [0, 1, 95, 0.9999, math.nan])
def test_a_bad_confidence_level_is_refused(curve, level):
    with pytest.raises(ValueError, match="wanted a probability above 0"):
        threshold_for_drop(curve, 0.1, level)


@pytest.mark.parametrize("target", [0.5, -1, math.nan, math.inf])
def test_a_bad_target_is_refused(curve, target):
    with pytest.raises(ValueError, match="wanted at least 1"):
        threshold_for_speedup(curve, target)

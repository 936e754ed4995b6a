import numpy as np
import pytest

from sledgehammer_allennlp.calibration import (
    calibrate_exits,
    calibration_metrics,
    calibration_report,
    compare_temperatures,
    negative_log_likelihood,
)
from tests.calibration.test_temperature import noisy_logits


def test_each_exit_gets_its_own_temperature_and_a_lower_likelihood_loss():
    logits, labels = noisy_logits(3, 1.0, 0)
    calibrations = calibrate_exits(np.stack([logits * 0.2, logits * 5]), labels, [-1, 4])
    assert [c.exit_layer for c in calibrations] == [-1, 4]
    assert calibrations[1].temperature == pytest.approx(25 * calibrations[0].temperature, rel=1e-4)
    for c in calibrations:
        assert c.nll_after < c.nll_before
        assert c.ece_after < c.ece_before
        assert c.accuracy == pytest.approx((logits.argmax(1) == labels).mean())
        assert c.is_determined
        # What is reported is what a float32 buffer holds.
        assert c.temperature == float(np.float32(c.temperature))


def test_the_report_and_the_metrics_say_the_same():
    logits, labels = noisy_logits(3, 2.0, 0)
    calibrations = calibrate_exits(logits[None], labels, [5])
    metrics = calibration_metrics(calibrations)
    report = calibration_report(calibrations, len(labels))
    assert report["num_instances"] == len(labels)
    (exit_report,) = report["exits"]
    assert exit_report["exit_layer"] == 5
    assert metrics == {
        f"calibration_{name}_layer_5": exit_report[name]
        for name in ("temperature", "nll_before", "nll_after", "ece_before", "ece_after")
    }


def test_an_exit_whose_logits_are_not_numbers_is_named():
    logits = np.zeros((2, 4, 3))
    logits[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="logits of exit layer 3: 1 of 4 instances"):
        calibrate_exits(logits, np.array([0, 1, 2, 0]), [0, 3])


def test_before_is_with_the_temperatures_that_were():
    logits, labels = noisy_logits(3, 1.0, 0)
    (fitted,) = calibrate_exits(logits[None], labels, [0])
    (again,) = calibrate_exits(logits[None], labels, [0], [2.5])
    assert again.temperature == fitted.temperature and again.temperature_before == 2.5
    assert again.nll_before == pytest.approx(negative_log_likelihood(logits, labels, 2.5))
    (compared,) = compare_temperatures(logits[None], labels, [0], [1.0], [2.5])
    assert compared.nll_before == fitted.nll_before
    assert (compared.nll_after, compared.ece_after) == (again.nll_before, again.ece_before)


def test_an_exit_that_is_always_right_keeps_its_temperature():
    logits = np.eye(3) * 4
    (found,) = calibrate_exits(logits[None], np.arange(3), [0], [0.7])
    assert found.temperature == float(np.float32(0.7)) and not found.is_determined

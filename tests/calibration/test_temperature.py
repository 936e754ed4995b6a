import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.calibration import (
    TEMPERATURE_BOUNDS,
    fit_temperature,
    negative_log_likelihood,
)
from sledgehammer_allennlp.calibration.temperature import is_determined, why_undetermined


def noisy_logits(num_labels: int, scale: float, seed: int, size: int = 400):
    """Logits that are right mostly, and sure of it by a factor `scale`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % num_labels
    logits = rng.normal(size=(size, num_labels)) + 1.5 * np.eye(num_labels)[labels]
    return scale * logits, labels


def probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    scaled = np.exp((logits - logits.max(1, keepdims=True)) / temperature)
    return scaled / scaled.sum(1, keepdims=True)


@settings(max_examples=25, deadline=None)
@given(magnitude=st.floats(-30, 30), seed=st.integers(0, 10_000))
def test_logits_k_times_as_large_have_k_times_the_temperature(magnitude, seed):
    logits, labels = noisy_logits(3, 1.0, seed)
    wanted = 10**magnitude * fit_temperature(logits, labels)
    assert fit_temperature(10**magnitude * logits, labels) == pytest.approx(wanted, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), added=st.floats(-1e3, 1e3))
def test_a_number_added_to_all_logits_of_an_instance_changes_nothing(seed, added):
    logits, labels = noisy_logits(3, 1.0, seed, size=40)
    shifted = logits + added * np.arange(40)[:, None]
    assert fit_temperature(shifted, labels) == pytest.approx(fit_temperature(logits, labels))
    assert negative_log_likelihood(shifted, labels) == pytest.approx(
        negative_log_likelihood(logits, labels)
    )


@settings(max_examples=25, deadline=None)
@given(num_labels=st.integers(2, 6), magnitude=st.floats(-30, 30), seed=st.integers(0, 10_000))
def test_no_other_temperature_is_likelier(num_labels, magnitude, seed):
    logits, labels = noisy_logits(num_labels, 10**magnitude, seed, size=40)
    assume(is_determined(logits, labels))  # by chance, so few are all right
    found = fit_temperature(logits, labels)
    best = negative_log_likelihood(logits, labels, found)
    for factor in (0.01, 0.5, 0.99, 1.01, 2, 100):
        assert negative_log_likelihood(logits, labels, factor * found) > best


@st.composite
def extreme_logits(draw):
    """Float32 logits of any magnitude, as exits of any quality say them."""
    num_labels = draw(st.sampled_from([1, 2, 3, 1000]))
    size = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    labels = rng.integers(num_labels, size=size)
    # What it says, and how much it is for the right label: always right, always wrong, or not.
    logits = rng.normal(size=(size, num_labels)) * draw(st.sampled_from([0, 1]))
    logits += draw(st.sampled_from([-1000, -1, 0, 1, 1000])) * np.eye(num_labels)[labels]
    largest = np.abs(logits).max() or 1
    magnitude = draw(st.sampled_from([1e-45, 1e-38, 1e-30, 1e-3, 1, 1e10, 1e30, 1e38, 3.4e38]))
    return (logits / largest * magnitude).astype(np.float32), labels


@settings(max_examples=150, deadline=None)
@given(extreme_logits())
def test_temperatures_are_within_bounds_whatever_the_logits(data):
    logits, labels = data
    temperature = fit_temperature(logits, labels)
    lowest, highest = TEMPERATURE_BOUNDS
    assert lowest <= temperature <= highest
    before = negative_log_likelihood(logits, labels)
    after = negative_log_likelihood(logits, labels, temperature)
    assert np.isfinite([before, after]).all()
    if is_determined(logits, labels):
        assert after <= before * (1 + 1e-9) + 1e-12
        assert lowest < temperature < highest


def test_large_logits_do_not_overflow():
    logits, labels = noisy_logits(3, 1e4, 0)
    assert fit_temperature(logits, labels) == pytest.approx(
        1e4 * fit_temperature(logits / 1e4, labels), rel=1e-4
    )


def test_data_that_is_always_right_leaves_the_temperature_as_it_was():
    logits, labels = np.eye(3)[[0, 1, 2]], np.array([0, 1, 2])
    assert not is_determined(logits, labels)
    assert fit_temperature(logits, labels) == 1.0
    assert fit_temperature(logits, labels, if_always_right=0.3) == 0.3
    assert fit_temperature(logits, labels, if_always_right=0) == TEMPERATURE_BOUNDS[0]


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 10, 1e10, 1e30])
def test_an_exit_that_knows_nothing_becomes_sure_of_nothing(scale):
    labels = np.array([0, 1, 2])
    for shares in (np.eye(3)[[1, 2, 0]], np.eye(3)[[0, 0, 0]]):  # always wrong; always the same
        logits = scale * shares
        assert not is_determined(logits, labels)
        found = probabilities(logits, fit_temperature(logits, labels))
        np.testing.assert_allclose(found, 1 / 3, atol=1e-4)


HARDLY_BETTER = np.array([[1.0, 0.0]] * 100_001 + [[0.0, 1.0]] * 100_000)


@pytest.mark.parametrize(
    "logits, labels, why, wanted",
    [
        (np.ones((4, 2)), [0, 1, 0, 1], "equal for all labels", 1.0),
        (np.array([[5.0], [7.0]]), [0, 0], "equal for all labels", 1.0),
        (np.eye(2), [0, 1], "always right, so that the best would be 0", 1.0),
        (np.eye(2)[:1], [0], "always right", 1.0),
        (3 * np.eye(2), [1, 0], "no better than chance, .* infinite", 3 * np.exp(10)),
        (3 * np.eye(2)[:1], [1], "no better than chance", 3 * np.exp(10)),
        (np.eye(2), [0, 0], "no better than chance", np.exp(10)),
        (HARDLY_BETTER, [0] * 200_001, "hardly better than chance", np.exp(10)),
        (1e-37 * np.eye(2)[[0, 0, 0, 1]], [0] * 4, "below 1e-36, the lowest", 1e-36),
        (1e36 * np.eye(2), [1, 0], "no better than chance", 1e36),
    ],
)
def test_what_a_temperature_is_where_none_is_best(logits, labels, why, wanted):
    labels = np.array(labels)
    assert fit_temperature(logits, labels) == pytest.approx(wanted)
    reason = why_undetermined(logits, labels)
    assert reason is not None and re.search(why, reason)


def test_ordinary_data_determines_a_temperature():
    assert is_determined(*noisy_logits(3, 1.0, 0))


@pytest.mark.parametrize(
    "logits, labels, message",
    [
        ([[0.0, np.nan], [1.0, 0.0]], [0, 1], "1 of 2 instances.*not finite.*diverged"),
        ([[0.0, np.inf]], [0], "not finite"),
        (np.zeros((0, 2)), [], "no instances"),
        ([1.0, 2.0], [0, 1], r"shape \(2,\): wanted"),
        ([[0.0, 1.0]], [0, 1], "labels of shape"),
        ([[0.0, 1.0]], [2], "wanted 0 to 1"),
        ([[0.0, 1.0]], [-1], "wanted 0 to 1"),
    ],
)
def test_bad_input_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=f"temperature to exit 7: .*{message}"):
        fit_temperature(np.array(logits), np.array(labels), name="exit 7")

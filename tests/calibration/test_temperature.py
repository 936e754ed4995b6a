import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from sledgehammer_allennlp.calibration import fit_temperature, negative_log_likelihood
from sledgehammer_allennlp.calibration.temperature import is_determined


class _Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose decision function is what it is given."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X[:, 1] - X[:, 0] if X.shape[1] == 2 else X

    def predict(self, X):
        return self.classes_[X.argmax(1)]


def scikit_learns_probabilities(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    classifier = FrozenEstimator(_Logits().fit(logits, labels))
    calibrated = CalibratedClassifierCV(classifier, method="temperature", ensemble=False)
    return calibrated.fit(logits, labels).predict_proba(logits)


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
@given(
    num_labels=st.integers(2, 6),
    scale=st.floats(0.05, 20),
    seed=st.integers(0, 10_000),
)
def test_probabilities_equal_scikit_learns_temperature_scaling(num_labels, scale, seed):
    logits, labels = noisy_logits(num_labels, scale, seed)
    found = probabilities(logits, fit_temperature(logits, labels))
    wanted = scikit_learns_probabilities(logits, labels)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert log_loss(labels, found) <= log_loss(labels, wanted) + 1e-9


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.1, 10), seed=st.integers(0, 10_000))
def test_logits_k_times_as_large_have_k_times_the_temperature(scale, seed):
    logits, labels = noisy_logits(3, 1.0, seed)
    wanted = scale * fit_temperature(logits, labels)
    assert fit_temperature(scale * logits, labels) == pytest.approx(wanted, rel=1e-4)


def test_negative_log_likelihood_equals_scikit_learns_log_loss():
    logits, labels = noisy_logits(4, 3.0, 0)
    wanted = log_loss(labels, probabilities(logits, 1.7))
    assert negative_log_likelihood(logits, labels, 1.7) == pytest.approx(wanted)


def test_large_logits_do_not_overflow():
    logits, labels = noisy_logits(3, 1e4, 0)
    assert fit_temperature(logits, labels) == pytest.approx(
        1e4 * fit_temperature(logits / 1e4, labels), rel=1e-4
    )


def test_data_that_is_always_right_leaves_the_temperature_at_one():
    logits, labels = np.eye(3)[[0, 1, 2]], np.array([0, 1, 2])
    assert not is_determined(logits, labels)
    assert fit_temperature(logits, labels) == 1.0


def test_an_exit_that_knows_nothing_becomes_sure_of_nothing():
    logits, labels = 10 * np.eye(3)[[1, 2, 0]], np.array([0, 1, 2])
    assert not is_determined(logits, labels)
    np.testing.assert_allclose(
        probabilities(logits, fit_temperature(logits, labels)), 1 / 3, atol=1e-3
    )


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

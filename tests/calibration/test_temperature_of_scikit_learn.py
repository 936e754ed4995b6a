import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.calibration import fit_temperature, negative_log_likelihood
from tests.calibration.test_temperature import noisy_logits, probabilities

base = pytest.importorskip("sklearn.base")
calibration = pytest.importorskip("sklearn.calibration")
frozen = pytest.importorskip("sklearn.frozen")
log_loss = pytest.importorskip("sklearn.metrics").log_loss

needs_scikit_learns = pytest.mark.skipif(
    "temperature"
    not in calibration.CalibratedClassifierCV._parameter_constraints["method"][0].options,
    reason="this scikit-learn has no temperature scaling",
)


class _Logits(base.ClassifierMixin, base.BaseEstimator):
    """A classifier whose decision function is what it is given."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X[:, 1] - X[:, 0] if X.shape[1] == 2 else X

    def predict(self, X):
        return self.classes_[X.argmax(1)]


def scikit_learns_probabilities(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    classifier = frozen.FrozenEstimator(_Logits().fit(logits, labels))
    calibrated = calibration.CalibratedClassifierCV(
        classifier, method="temperature", ensemble=False
    )
    return calibrated.fit(logits, labels).predict_proba(logits)


@needs_scikit_learns
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


def test_negative_log_likelihood_equals_scikit_learns_log_loss():
    logits, labels = noisy_logits(4, 3.0, 0)
    wanted = log_loss(labels, probabilities(logits, 1.7))
    assert negative_log_likelihood(logits, labels, 1.7) == pytest.approx(wanted)

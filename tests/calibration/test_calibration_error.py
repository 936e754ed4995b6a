import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sledgehammer_allennlp.calibration import expected_calibration_error

confidence_lists = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def by_the_definition(confidences, correct, num_bins: int) -> float:
    """Guo et al. 2017, equation 3, bin by bin: bin m is the interval ((m - 1) / M, m / M]."""
    error = 0.0
    for m in range(1, num_bins + 1):
        low = -1 if m == 1 else (m - 1) / num_bins
        inside = [i for i, c in enumerate(confidences) if low < c <= m / num_bins]
        if inside:
            accuracy = np.mean([correct[i] for i in inside])
            confidence = np.mean([confidences[i] for i in inside])
            error += len(inside) / len(confidences) * abs(accuracy - confidence)
    return error


@given(confidence_lists)
def test_it_equals_its_definition(pairs):
    confidences, correct = zip(*pairs)
    found = expected_calibration_error(np.array(confidences), np.array(correct), num_bins=8)
    assert found == pytest.approx(by_the_definition(confidences, correct, 8), abs=1e-9)


def test_a_known_case():
    # Bin (0.8, 0.867]: confidence 0.85, half right. Bin (0.933, 1]: confidence 1, all right.
    confidences = np.array([0.85, 0.85, 1.0, 1.0])
    correct = np.array([True, False, True, True])
    assert expected_calibration_error(confidences, correct) == pytest.approx(0.5 * 0.35)


def test_no_instances_have_no_error():
    assert expected_calibration_error(np.array([]), np.array([])) == 0.0

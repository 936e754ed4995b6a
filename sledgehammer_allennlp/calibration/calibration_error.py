"""How far confidences are from the share of right answers."""

import numpy as np


def expected_calibration_error(
    confidences: np.ndarray, correct: np.ndarray, num_bins: int = 15
) -> float:
    """
    The expected calibration error (Guo et al. 2017, equation 3): instances are put in bins of
    equal width by confidence; the mean over instances of the distance, in their bin, between mean
    confidence and share of right answers.

    # Parameters

    confidences : `np.ndarray`
        `(num_instances,)`, in [0, 1].
    correct : `np.ndarray`
        `(num_instances,)`, whether the answer was right.
    num_bins : `int`, optional (default = `15`)

    # Returns

    `float`
        In [0, 1]; 0 if there are no instances.
    """
    confidences = np.asarray(confidences, dtype=np.float64)
    if len(confidences) == 0:
        return 0.0
    # Bins are open below and closed above, so that a confidence of 1 is in the last one.
    bins = np.clip(np.ceil(confidences * num_bins).astype(int) - 1, 0, num_bins - 1)
    confidence_sums = np.bincount(bins, weights=confidences, minlength=num_bins)
    correct_sums = np.bincount(
        bins, weights=np.asarray(correct, dtype=np.float64), minlength=num_bins
    )
    return float(np.abs(confidence_sums - correct_sums).sum() / len(confidences))

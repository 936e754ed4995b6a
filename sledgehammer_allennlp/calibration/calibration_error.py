"""How far confidences are from the share of right answers."""

from dataclasses import dataclass

import numpy as np

NUM_BINS = 15
"""In how many bins confidences are put by default."""


@dataclass(frozen=True)
class ReliabilityBins:
    """
    Instances in bins of equal width by confidence; each array is `(num_bins,)`.

    # Parameters

    num_instances : `np.ndarray`
    confidence, accuracy : `np.ndarray`
        The mean confidence and the share of right answers; NaN where there are no instances.
    """

    num_instances: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability_bins(
    confidences: np.ndarray, correct: np.ndarray, num_bins: int = NUM_BINS
) -> ReliabilityBins:
    """
    What a reliability diagram shows (Guo et al. 2017, section 2).

    # Parameters

    confidences : `np.ndarray`
        `(num_instances,)`, in [0, 1].
    correct : `np.ndarray`
        `(num_instances,)`, whether the answer was right.
    num_bins : `int`, optional (default = `15`)
    """
    confidences = np.asarray(confidences, dtype=np.float64)
    correct = np.asarray(correct, dtype=np.float64)
    # Bins are open below and closed above, so that a confidence of 1 is in the last one.
    bins = np.clip(np.ceil(confidences * num_bins).astype(int) - 1, 0, num_bins - 1)
    num_instances = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        return ReliabilityBins(
            num_instances,
            np.bincount(bins, weights=confidences, minlength=num_bins) / num_instances,
            np.bincount(bins, weights=correct, minlength=num_bins) / num_instances,
        )


def expected_calibration_error(
    confidences: np.ndarray, correct: np.ndarray, num_bins: int = NUM_BINS
) -> float:
    """
    The expected calibration error (Guo et al. 2017, equation 3): the mean over instances of the
    distance, in their bin, between mean confidence and share of right answers.

    # Parameters

    confidences, correct, num_bins
        As of `reliability_bins`.

    # Returns

    `float`
        In [0, 1]; 0 if there are no instances.
    """
    if len(confidences) == 0:
        return 0.0
    bins = reliability_bins(confidences, correct, num_bins)
    filled = bins.num_instances > 0
    distances = np.abs(bins.confidence - bins.accuracy)[filled]
    return float(distances @ bins.num_instances[filled] / len(confidences))

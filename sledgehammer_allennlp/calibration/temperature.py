"""Fitting one temperature to one exit's logits."""

from typing import Optional

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

TEMPERATURE_BOUNDS = (1e-36, 1e36)
"""The lowest and the highest temperature. Models keep them in float32, which ends beyond 1e38."""

_FLAT = float(np.exp(10))
"""Times the largest difference of logits: a temperature that makes all probabilities equal."""


def negative_log_likelihood(
    logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0
) -> float:
    """
    The mean over instances of -log softmax(logits / temperature)[label], in nats.

    # Parameters

    logits : `np.ndarray`
        `(num_instances, num_labels)`
    labels : `np.ndarray`
        `(num_instances,)`, of integers.
    temperature : `float`, optional (default = `1.0`)
    """
    scaled = _below_largest(logits) / temperature
    return float(np.mean(logsumexp(scaled, axis=1) - _of_labels(scaled, labels)))


def fit_temperature(
    logits: np.ndarray, labels: np.ndarray, name: str = "logits", if_always_right: float = 1.0
) -> float:
    """
    The temperature that minimises the negative log-likelihood (Guo et al. 2017, "On Calibration
    of Modern Neural Networks", section 4.2).

    The problem is convex in the inverse temperature; in float64, the one point is found where the
    derivative is 0. Whatever the logits, the temperature is in `TEMPERATURE_BOUNDS`. Where the
    data determines none, see `why_undetermined`, it is

    - `if_always_right`, where the best would be 0, because no instance is classified wrong: what
      is confident enough exits there as before, and has been right. (Also if all logits are equal,
      where none makes a difference.)
    - e^10, about 22,026, times the largest difference of logits, where the best would be infinite
      or is higher still, because the exit is no better than chance: its probabilities are then
      those of chance, so that nothing exits there for being confident.
    - the bound, where the best is beyond it.

    # Parameters

    logits : `np.ndarray`
        `(num_instances, num_labels)`, finite.
    labels : `np.ndarray`
        `(num_instances,)`, integers below `num_labels`.
    name : `str`, optional
        What the logits are called in error messages.
    if_always_right : `float`, optional (default = `1.0`)

    # Raises

    ValueError
        If there is no instance, a logit is not finite, or shapes or labels do not fit.
    """
    logits = np.asarray(logits, dtype=np.float64)
    labels = np.asarray(labels)
    check_logits(logits, labels, f"cannot fit a temperature to {name}")
    below = _below_largest(logits)
    if is_always_right(logits, labels):
        return float(np.clip(if_always_right, *TEMPERATURE_BOUNDS))
    lowest, highest = TEMPERATURE_BOUNDS[0], _highest_temperature(below)
    if not _best_is_above(lowest, below, labels):
        return lowest
    if _best_is_above(highest, below, labels):
        return highest
    log_temperature = brentq(
        lambda log_temperature: _derivative(below, labels, np.exp(log_temperature)),
        *np.log([lowest, highest]),
        xtol=1e-12,
    )
    return float(np.exp(log_temperature))


def why_undetermined(logits: np.ndarray, labels: np.ndarray) -> Optional[str]:
    """
    Why no temperature is best, or none within bounds; `None` if one is.

    # Parameters

    logits : `np.ndarray`
        `(num_instances, num_labels)`
    labels : `np.ndarray`
        `(num_instances,)`
    """
    below = _below_largest(logits)
    if not below.any():
        return "its logits are equal for all labels, so that none makes a difference"
    if is_always_right(logits, labels):
        return "it is always right, so that the best would be 0"
    if not _best_is_above(TEMPERATURE_BOUNDS[0], below, labels):
        return f"the best is below {TEMPERATURE_BOUNDS[0]:g}, the lowest there is"
    if not _best_is_above(_highest_temperature(below), below, labels):
        return None
    if _of_labels(below, labels).mean() <= below.mean():
        return "it is no better than chance, so that the best would be infinite"
    return "it is hardly better than chance, so that the best would be higher still"


def is_determined(logits: np.ndarray, labels: np.ndarray) -> bool:
    """
    Whether some temperature within bounds is best, see `why_undetermined`.

    # Parameters

    logits : `np.ndarray`
        `(num_instances, num_labels)`
    labels : `np.ndarray`
        `(num_instances,)`
    """
    return why_undetermined(logits, labels) is None


def _below_largest(logits: np.ndarray) -> np.ndarray:
    """Logits minus the largest of their instance: how large they are has then no influence."""
    logits = np.asarray(logits, dtype=np.float64)
    return logits - logits.max(axis=1, keepdims=True)


def _of_labels(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return logits[np.arange(len(labels)), labels]


def is_always_right(logits: np.ndarray, labels: np.ndarray) -> bool:
    """
    Whether no label has a higher logit than the right one, in any instance.

    # Parameters

    logits : `np.ndarray`
        `(num_instances, num_labels)`
    labels : `np.ndarray`
        `(num_instances,)`
    """
    return bool((_of_labels(logits, labels) == logits.max(axis=1)).all())


def _highest_temperature(below: np.ndarray) -> float:
    return float(np.clip(-below.min() * _FLAT, *TEMPERATURE_BOUNDS))


def _derivative(below: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Of the negative log-likelihood, by the inverse temperature."""
    expected = (softmax(below / temperature, axis=1) * below).sum(axis=1)
    return float(np.mean(expected - _of_labels(below, labels)))


def _best_is_above(temperature: float, below: np.ndarray, labels: np.ndarray) -> bool:
    return _derivative(below, labels, temperature) > 0


def check_logits(logits: np.ndarray, labels: np.ndarray, what: str) -> None:
    """
    Sees whether logits and labels can be used.

    # Parameters

    logits : `np.ndarray`
        `(num_instances, num_labels)`
    labels : `np.ndarray`
        `(num_instances,)`
    what : `str`
        What cannot be done otherwise, the start of the message.

    # Raises

    ValueError
        If there is no instance, a logit is not finite, or shapes or labels do not fit.
    """
    problem = _problem_with(logits, labels)
    if problem:
        raise ValueError(f"{what}: {problem}")


def _problem_with(logits: np.ndarray, labels: np.ndarray) -> Optional[str]:
    if logits.ndim != 2:
        return f"they have shape {logits.shape}: wanted (num_instances, num_labels)"
    if len(logits) == 0:
        return "there are no instances"
    if labels.shape != logits.shape[:1]:
        return f"there are {logits.shape[0]} of them and labels of shape {labels.shape}"
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).any(axis=1).sum())
        return (
            f"{bad} of {len(logits)} instances have logits that are not finite numbers. The model "
            "has diverged: train again with a lower learning rate"
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        return f"labels go from {labels.min()} to {labels.max()}: wanted 0 to {logits.shape[1] - 1}"
    return None

"""Fitting one temperature to one exit's logits."""

from typing import Optional

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

LOG_TEMPERATURE_BOUNDS = (-10.0, 10.0)
"""Where the log of a temperature is looked for."""


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
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return float(np.mean(logsumexp(scaled, axis=1) - _label_logits(scaled, labels)))


def fit_temperature(
    logits: np.ndarray, labels: np.ndarray, name: str = "logits", if_always_right: float = 1.0
) -> float:
    """
    The temperature that minimises the negative log-likelihood (Guo et al. 2017, "On Calibration
    of Modern Neural Networks", section 4.2).

    The problem is convex in the inverse temperature and is solved over the log of the temperature
    in float64. Where the data determines no temperature, see `is_determined`, it is
    `if_always_right` if every instance is classified right, and otherwise so large that all labels
    are equally probable.

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
    if not is_determined(logits, labels):
        always_right = bool((_label_logits(logits, labels) >= logits.max(axis=1)).all())
        return if_always_right if always_right else float(np.exp(LOG_TEMPERATURE_BOUNDS[1]))
    result = minimize_scalar(
        lambda log_temperature: negative_log_likelihood(logits, labels, np.exp(log_temperature)),
        bounds=LOG_TEMPERATURE_BOUNDS,
        method="bounded",
        options={"xatol": 1e-9, "maxiter": 500},
    )
    return float(np.exp(result.x))


def is_determined(logits: np.ndarray, labels: np.ndarray) -> bool:
    """
    Whether some temperature is best. If every instance is classified right, a lower one is always
    better; if the labels' logits are not above the mean logit, on average, a higher one is.

    # Parameters

    logits : `np.ndarray`
        `(num_instances, num_labels)`
    labels : `np.ndarray`
        `(num_instances,)`
    """
    label_logits = _label_logits(logits, labels)
    some_wrong = bool((label_logits < logits.max(axis=1)).any())
    return some_wrong and bool(label_logits.mean() > logits.mean(axis=1).mean())


def _label_logits(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return logits[np.arange(len(labels)), labels]


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

"""Fitting the weights with which an exit combines its logits with those of earlier exits."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from sledgehammer_allennlp.calibration.temperature import (
    TEMPERATURE_BOUNDS,
    check_logits,
    is_always_right,
    why_undetermined,
)

PENALTY = 10.0
"""Over the number of instances, times squared distances of weights: see `fit_combination`."""

WEIGHT_BOUNDS = (1 / TEMPERATURE_BOUNDS[1], 1 / TEMPERATURE_BOUNDS[0])
"""The lowest and the highest weight that is not 0."""


@dataclass(frozen=True)
class CombinationRow:
    """
    How one exit combines: its `weights`, one for each exit of the model, 0 for later ones; and
    `why_undetermined`, why the data determines no best ones, `None` if it does.
    """

    weights: List[float]
    why_undetermined: Optional[str]


def calibrated_logits(
    logits: np.ndarray,
    temperatures: Sequence[float],
    combination: Optional[Sequence[Sequence[float]]] = None,
) -> np.ndarray:
    """
    The calibrated logits of each exit, `(num_exits, num_instances, num_labels)`, in float64: with
    temperatures l_k / T_k, with a combination Σ_{j ≤ k} w_kj · (l_j - mean l_j).

    # Parameters

    logits : `np.ndarray`
        `(num_exits, num_instances, num_labels)`, finite.
    temperatures : `Sequence[float]`
        Of each exit; makes no difference with a combination.
    combination : `Sequence[Sequence[float]]`, optional (default = `None`)
        The weights of each exit, a row of `num_exits` numbers.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if combination is None:
        return logits / np.asarray(temperatures, dtype=np.float64)[:, None, None]
    return np.tensordot(np.asarray(combination, dtype=np.float64), _centred(logits), axes=1)


def fit_combination(
    logits: np.ndarray, labels: np.ndarray, temperatures: Sequence[float], names: Sequence[str]
) -> List[CombinationRow]:
    """
    The weights of each exit that minimise the mean negative log-likelihood of its calibrated
    logits, Σ_{j ≤ k} w_kj · (l_j - mean l_j), with w ≥ 0, plus `PENALTY` / num_instances times
    Σ_j s_j² · (w_kj - t_kj)², where s_j is the root mean square of exit j's centred logits and t_k
    is temperature scaling: 1 / temperature of the exit itself, and 0 for those before it. Few
    instances thus give little more than temperatures, and many what is likeliest; weights are
    penalised for what they change in the calibrated logits, whatever the scale of an exit's own.

    This is logistic regression on the logits of several classifiers (stacking, Wolpert 1992) with
    one weight for a classifier, shrunk towards one classifier alone, and convex. A row with one
    number, as always that of the first exit, is temperature scaling. Whatever the logits, weights
    are 0 or in `WEIGHT_BOUNDS`, and no row is all 0. Where the data determines no best weights,
    `why_undetermined` says so:

    - if the exit itself is always right, it combines nothing;
    - if only the combination is, weights are as high as the penalty allows;
    - if no exit is better than chance, the row has one weight, 1 / temperature of the last of them,
      with which all probabilities are equal, see `fit_temperature`;
    - of a row with one number, as of a temperature.

    An exit whose logits are those of an earlier one, up to their scale, combines nothing.

    # Parameters

    logits : `np.ndarray`
        `(num_exits, num_instances, num_labels)`, finite.
    labels : `np.ndarray`
        `(num_instances,)`, integers below `num_labels`.
    temperatures : `Sequence[float]`
        Of each exit, as `fit_temperature` gives them.
    names : `Sequence[str]`
        What the logits of each exit are called in error messages.

    # Raises

    ValueError
        If there is no instance, a logit is not finite, or shapes or labels do not fit.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    for exit_logits, name in zip(logits, names):
        check_logits(exit_logits, labels, f"cannot fit a combination to {name}")
    units, scales = _in_units(logits)
    rows = []
    for k in range(len(logits)):
        used = [j for j in range(k + 1) if scales[j] > 0]
        if k in used and is_always_right(logits[k], labels):
            used = [k]
        in_units = np.zeros(len(logits))
        if len(used) > 1:
            alone = np.eye(len(logits))[k] * scales[k] / temperatures[k]
            in_units[used] = _fit_row(units[used], labels, alone[used])
        chosen = np.flatnonzero(in_units)
        if len(chosen) > 1:
            weights = np.zeros(len(logits))
            weights[chosen] = np.clip(in_units[chosen] / scales[chosen], *WEIGHT_BOUNDS)
            why = _why_undetermined(np.tensordot(in_units[chosen], units[chosen], axes=1), labels)
        else:
            single = [*chosen, *used[-1:], k][0]
            weights = np.eye(len(logits))[single] / temperatures[single]
            why = why_undetermined(logits[single], labels)
        rows.append(CombinationRow(weights.tolist(), why))
    return rows


def _centred(logits: np.ndarray) -> np.ndarray:
    """Minus the mean over labels. Exactly 0 where all are equal, which rounding would undo."""
    below = logits - logits.max(axis=-1, keepdims=True)
    return below - below.mean(axis=-1, keepdims=True)


def _in_units(logits: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """
    Centred logits whose root mean square is 1 for each exit, or 0 where they do not differ between
    labels, and what they were divided by, `(num_exits,)`.
    """
    centred = _centred(logits)
    largest = np.abs(centred).max(axis=(1, 2))
    units = centred / np.where(largest > 0, largest, 1)[:, None, None]
    sizes = np.sqrt((units**2).mean(axis=(1, 2)))
    return units / np.where(sizes > 0, sizes, 1)[:, None, None], largest * sizes


def _fit_row(units: np.ndarray, labels: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """
    The weights of several exits, `(num_used,)`, from logits of `_in_units`. `alone`, `(num_used,)`,
    are those of temperature scaling.
    """
    _, num_instances, num_labels = units.shape
    penalty = PENALTY / num_instances
    of_labels = units[:, np.arange(num_instances), labels].mean(axis=1)  # (exits,)
    columns = units.reshape(len(units), -1)
    one_of_label = np.arange(num_instances) * num_labels + labels

    def objective(weights: np.ndarray) -> Tuple[float, np.ndarray]:
        combined = (weights @ columns).reshape(num_instances, num_labels)
        nll = -log_softmax(combined, axis=1).ravel()[one_of_label].mean()
        expected = columns @ softmax(combined, axis=1).ravel() / num_instances
        change = weights - alone
        gradient = expected - of_labels + 2 * penalty * change
        return nll + penalty * change @ change, gradient

    return minimize(
        objective,
        alone,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * len(units),
        options={"maxiter": 10_000, "maxfun": 100_000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 30},
    ).x


def _why_undetermined(combined: np.ndarray, labels: np.ndarray) -> Optional[str]:
    if is_always_right(combined, labels):
        return "it is always right, so that only the penalty keeps weights from being infinite"
    return None

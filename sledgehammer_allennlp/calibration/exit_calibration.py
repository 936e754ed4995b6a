"""Calibrating all exits of a model, and the report of it."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from scipy.special import softmax

from sledgehammer_allennlp.calibration.calibration_error import expected_calibration_error
from sledgehammer_allennlp.calibration.combination import (
    CombinationRow,
    calibrated_logits,
    fit_combination,
)
from sledgehammer_allennlp.calibration.temperature import (
    fit_temperature,
    negative_log_likelihood,
    why_undetermined,
)


@dataclass(frozen=True)
class CombinedExit:
    """
    What an exit gives when it combines its logits with those of earlier exits.

    # Parameters

    weights : `List[float]`
        One for each exit of the model.
    accuracy : `float`
    nll : `float`
        The mean negative log-likelihood in nats.
    ece : `float`
        The expected calibration error over 15 bins.
    why_undetermined : `str`, optional
        If the weights were fitted to this data, why it does not determine them, see
        `fit_combination`.
    """

    weights: List[float]
    accuracy: float
    nll: float
    ece: float
    why_undetermined: Optional[str]


@dataclass(frozen=True)
class ExitCalibration:
    """
    One exit's temperature and what it changes; and its combination, if there is one.

    # Parameters

    exit_layer : `int`
    temperature_before, temperature : `float`
        The one before is 1 unless said otherwise.
    accuracy : `float`
    nll_before, nll_after : `float`
        Mean negative log-likelihoods in nats, with each of the temperatures.
    ece_before, ece_after : `float`
        Expected calibration errors over 15 bins.
    is_determined : `bool`
        Whether the data determines the temperature; see `fit_temperature` for what it is if not.
    why_undetermined : `str`, optional
    combination : `CombinedExit`, optional (default = `None`)
        What the exit gives by its combination, then in place of its temperature.
    combination_before : `CombinedExit`, optional (default = `None`)
        By the one that it had before.
    """

    exit_layer: int
    temperature_before: float
    temperature: float
    accuracy: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    is_determined: bool
    why_undetermined: Optional[str]
    combination: Optional[CombinedExit] = None
    combination_before: Optional[CombinedExit] = None

    @property
    def calibrated_accuracy(self) -> float:
        """Of the exit's predictions: by its combination, if there is one."""
        return self.accuracy if self.combination is None else self.combination.accuracy

    @property
    def calibrated_nll(self) -> float:
        """By the exit's combination, if there is one, else by its temperature."""
        return self.nll_after if self.combination is None else self.combination.nll

    @property
    def calibrated_ece(self) -> float:
        """By the exit's combination, if there is one, else by its temperature."""
        return self.ece_after if self.combination is None else self.combination.ece


def calibrate_exits(
    logits: np.ndarray,
    labels: np.ndarray,
    exit_layers: Sequence[int],
    temperatures_before: Optional[Sequence[float]] = None,
    combine: bool = False,
    combination_before: Optional[Sequence[Sequence[float]]] = None,
) -> List[ExitCalibration]:
    """
    Fits the temperature of each exit and, if told to `combine`, its combination.

    # Parameters

    logits : `np.ndarray`
        `(num_exits, num_instances, num_labels)`, before temperature.
    labels : `np.ndarray`
        `(num_instances,)`
    exit_layers : `Sequence[int]`
        The layer of each exit.
    temperatures_before : `Sequence[float]`, optional (default = 1 for each)
        What to compare with. An exit that is always right keeps it.
    combine : `bool`, optional (default = `False`)
    combination_before : `Sequence[Sequence[float]]`, optional (default = `None`)
        What to compare with, too: weights, a row for each exit.

    # Raises

    ValueError
        As `fit_temperature` does, naming the exit.
    """
    before = temperatures_before or [1.0] * len(exit_layers)
    names = [f"the logits of exit layer {layer}" for layer in exit_layers]
    fitted = [
        fit_temperature(exit_logits, labels, name, temperature)
        for exit_logits, name, temperature in zip(logits, names, before)
    ]
    # The model keeps temperatures in float32; what is reported is what it uses.
    after = [float(np.float32(temperature)) for temperature in fitted]
    exits = compare_temperatures(logits, labels, exit_layers, before, after)
    if combination_before is not None:
        combined = apply_combination(logits, labels, combination_before)
        exits = [replace(e, combination_before=one) for e, one in zip(exits, combined)]
    if combine:
        rows = fit_combination(logits, labels, after, names)
        exits = with_combination(exits, _apply_rows(logits, labels, rows))
    return exits


def with_combination(
    exits: Sequence[ExitCalibration], combined: Sequence[CombinedExit]
) -> List[ExitCalibration]:
    """The same `exits`, with what each gives by its combination, `combined`."""
    return [replace(exit_, combination=one) for exit_, one in zip(exits, combined)]


def apply_combination(
    logits: np.ndarray, labels: np.ndarray, combination: Sequence[Sequence[float]]
) -> List[CombinedExit]:
    """
    What each exit gives by a combination.

    # Parameters

    logits, labels
        As of `calibrate_exits`.
    combination : `Sequence[Sequence[float]]`
        The weights of each exit, a row of `num_exits` numbers.
    """
    return _apply_rows(logits, labels, [CombinationRow(list(row), None) for row in combination])


def _apply_rows(
    logits: np.ndarray, labels: np.ndarray, rows: Sequence[CombinationRow]
) -> List[CombinedExit]:
    labels = np.asarray(labels)
    calibrated = calibrated_logits(logits, [], [row.weights for row in rows])
    combined = []
    for row, exit_logits in zip(rows, calibrated):
        correct = exit_logits.argmax(axis=1) == labels
        combined.append(
            CombinedExit(
                weights=row.weights,
                accuracy=float(correct.mean()),
                nll=negative_log_likelihood(exit_logits, labels),
                ece=expected_calibration_error(max_probabilities(exit_logits, 1.0), correct),
                why_undetermined=row.why_undetermined,
            )
        )
    return combined


def compare_temperatures(
    logits: np.ndarray,
    labels: np.ndarray,
    exit_layers: Sequence[int],
    before: Sequence[float],
    after: Sequence[float],
) -> List[ExitCalibration]:
    """
    What one temperature gives and what another, for each exit.

    # Parameters

    logits, labels, exit_layers
        As of `calibrate_exits`.
    before, after : `Sequence[float]`
        The temperatures of each exit.
    """
    return [
        _compare(np.asarray(exit_logits, dtype=np.float64), np.asarray(labels), layer, old, new)
        for exit_logits, layer, old, new in zip(logits, exit_layers, before, after)
    ]


def _compare(
    logits: np.ndarray, labels: np.ndarray, exit_layer: int, before: float, after: float
) -> ExitCalibration:
    correct = logits.argmax(axis=1) == labels

    def ece(temperature: float) -> float:
        return expected_calibration_error(max_probabilities(logits, temperature), correct)

    why = why_undetermined(logits, labels)
    return ExitCalibration(
        exit_layer=exit_layer,
        temperature_before=before,
        temperature=after,
        accuracy=float(correct.mean()),
        nll_before=negative_log_likelihood(logits, labels, before),
        nll_after=negative_log_likelihood(logits, labels, after),
        ece_before=ece(before),
        ece_after=ece(after),
        is_determined=why is None,
        why_undetermined=why,
    )


def max_probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    """
    The largest of the probabilities of `logits`, `(num_instances, num_labels)`, at a `temperature`:
    `(num_instances,)`.
    """
    return softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1).max(axis=1)


def calibration_metrics(calibrations: Sequence[ExitCalibration]) -> Dict[str, float]:
    """
    The report of `calibrations` as metrics, `calibration_<what>_layer_<exit layer>`, of
    combinations `calibration_combined_<what>_layer_<exit layer>`.
    """
    names = ("temperature", "nll_before", "nll_after", "ece_before", "ece_after")
    of_combinations = ("accuracy", "nll", "ece")
    metrics = {}
    for calibration in calibrations:
        layer, combination = calibration.exit_layer, calibration.combination
        for name in names:
            metrics[f"calibration_{name}_layer_{layer}"] = getattr(calibration, name)
        if combination is not None:
            for name in of_combinations:
                value = getattr(combination, name)
                metrics[f"calibration_combined_{name}_layer_{layer}"] = value
    return metrics


def calibration_report(
    calibrations: Sequence[ExitCalibration], num_instances: int
) -> Dict[str, Any]:
    """
    The report of `calibrations`, fitted to `num_instances`, as it stands in `calibration.json`.
    """
    return {
        "num_instances": num_instances,
        "exits": [asdict(calibration) for calibration in calibrations],
    }

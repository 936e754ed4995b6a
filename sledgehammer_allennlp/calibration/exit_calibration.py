"""Calibrating all exits of a model, and the report of it."""

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from scipy.special import softmax

from sledgehammer_allennlp.calibration.calibration_error import expected_calibration_error
from sledgehammer_allennlp.calibration.temperature import (
    fit_temperature,
    negative_log_likelihood,
    why_undetermined,
)


@dataclass(frozen=True)
class ExitCalibration:
    """
    One exit's temperature and what it changes.

    `nll_*` are mean negative log-likelihoods in nats and `ece_*` expected calibration errors over
    15 bins, with the temperature `temperature_before` (1 unless said otherwise), and with
    `temperature`, which is that of `after`. `is_determined` says whether the data determines the
    temperature, and `why_undetermined` why not; see `fit_temperature` for what it is then.
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


def calibrate_exits(
    logits: np.ndarray,
    labels: np.ndarray,
    exit_layers: Sequence[int],
    temperatures_before: Optional[Sequence[float]] = None,
) -> List[ExitCalibration]:
    """
    Fits the temperature of each exit.

    # Parameters

    logits : `np.ndarray`
        `(num_exits, num_instances, num_labels)`, before temperature.
    labels : `np.ndarray`
        `(num_instances,)`
    exit_layers : `Sequence[int]`
        The layer of each exit.
    temperatures_before : `Sequence[float]`, optional (default = 1 for each)
        What to compare with. An exit that is always right keeps it.

    # Raises

    ValueError
        As `fit_temperature` does, naming the exit.
    """
    before = temperatures_before or [1.0] * len(exit_layers)
    fitted = [
        fit_temperature(exit_logits, labels, f"the logits of exit layer {layer}", temperature)
        for exit_logits, layer, temperature in zip(logits, exit_layers, before)
    ]
    # The model keeps temperatures in float32; what is reported is what it uses.
    after = [float(np.float32(temperature)) for temperature in fitted]
    return compare_temperatures(logits, labels, exit_layers, before, after)


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
    """The largest of the probabilities, from `(num_instances, num_labels)` `(num_instances,)`."""
    return softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1).max(axis=1)


def calibration_metrics(calibrations: Sequence[ExitCalibration]) -> Dict[str, float]:
    """The report as metrics, `calibration_<what>_layer_<exit layer>`."""
    names = ("temperature", "nll_before", "nll_after", "ece_before", "ece_after")
    return {
        f"calibration_{name}_layer_{calibration.exit_layer}": getattr(calibration, name)
        for calibration in calibrations
        for name in names
    }


def calibration_report(
    calibrations: Sequence[ExitCalibration], num_instances: int
) -> Dict[str, Any]:
    """The report as it stands in `calibration.json`."""
    return {
        "num_instances": num_instances,
        "exits": [asdict(calibration) for calibration in calibrations],
    }

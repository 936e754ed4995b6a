"""Calibrating all exits of a model, and the report of it."""

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Sequence

import numpy as np
from scipy.special import softmax

from sledgehammer_allennlp.calibration.calibration_error import expected_calibration_error
from sledgehammer_allennlp.calibration.temperature import (
    fit_temperature,
    is_determined,
    negative_log_likelihood,
)


@dataclass(frozen=True)
class ExitCalibration:
    """
    One exit's temperature and what it changes.

    `nll_*` are mean negative log-likelihoods in nats and `ece_*` expected calibration errors over
    15 bins, with a temperature of 1 (`before`) and with the fitted one (`after`). `is_determined`
    says whether the data determined the temperature.
    """

    exit_layer: int
    temperature: float
    accuracy: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    is_determined: bool


def calibrate_exits(
    logits: np.ndarray, labels: np.ndarray, exit_layers: Sequence[int]
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

    # Raises

    ValueError
        As `fit_temperature` does, naming the exit.
    """
    return [
        _calibrate_exit(np.asarray(exit_logits, dtype=np.float64), np.asarray(labels), layer)
        for exit_logits, layer in zip(logits, exit_layers)
    ]


def _calibrate_exit(logits: np.ndarray, labels: np.ndarray, exit_layer: int) -> ExitCalibration:
    fitted = fit_temperature(logits, labels, name=f"the logits of exit layer {exit_layer}")
    # The model keeps temperatures in float32; what is reported is what it uses.
    temperature = float(np.float32(fitted))
    correct = logits.argmax(axis=1) == labels

    def ece(temperature: float) -> float:
        confidences = softmax(logits / temperature, axis=1).max(axis=1)
        return expected_calibration_error(confidences, correct)

    return ExitCalibration(
        exit_layer=exit_layer,
        temperature=temperature,
        accuracy=float(correct.mean()),
        nll_before=negative_log_likelihood(logits, labels),
        nll_after=negative_log_likelihood(logits, labels, temperature),
        ece_before=ece(1.0),
        ece_after=ece(temperature),
        is_determined=is_determined(logits, labels),
    )


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

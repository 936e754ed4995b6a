"""The results of a model's trade-off on labelled data, and the files they are written to."""

import csv
import io
import json
import math
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from sledgehammer_allennlp.calibration import (
    ExitCalibration,
    ReliabilityBins,
    calibrated_logits,
    max_probabilities,
    reliability_bins,
)
from sledgehammer_allennlp.files import write_text_whole
from sledgehammer_allennlp.tradeoff.better_exit import BetterExit
from sledgehammer_allennlp.tradeoff.class_losses import ClassLoss, class_losses
from sledgehammer_allennlp.tradeoff.classes import ClassCurve, recall_and_precision
from sledgehammer_allennlp.tradeoff.curve import TradeoffCurve, wilson_interval
from sledgehammer_allennlp.tradeoff.recommendation import OperatingPoint, Recommendation

CSV_FILE = "tradeoff.csv"
JSON_FILE = "tradeoff.json"


@dataclass(frozen=True)
class Measurement:
    """
    The engine on the clock at one threshold: the median of several rounds in seconds, how many
    texts a second that is, and how many times as fast as threshold 1.
    """

    threshold: float
    seconds: float
    texts_per_second: float
    speed_up: float
    accuracy: float


@dataclass(frozen=True)
class Example:
    """
    One instance, with the label and the confidence of each exit.

    # Parameters

    number : `int`
        Which instance of the data, counted from 1.
    text : `str`
        As the model sees it.
    label : `str`
    answers : `List[str]`
        The label that each exit gives.
    confidences : `List[float]`
        Of each exit.
    difficulty : `float`
        The mean over exits of the negative log of the right label's probability, in nats.
    """

    number: int
    text: str
    label: str
    answers: List[str]
    confidences: List[float]
    difficulty: float


@dataclass(frozen=True)
class TradeoffResults:
    """
    # Parameters

    origin : `Dict[str, Any]`
        What made the results: model, data, command and versions, of plain Python types.
    overrides : `Dict[str, Any]`
        The overrides with which the archive was loaded.
    curve : `TradeoffCurve`
    classes : `ClassCurve`
        What the rows of the curve give each class.
    exits : `List[ExitCalibration]`
        Each exit on this data, without (`before`) and with (`after`) its temperature, and with its
        combination, if there is one.
    bins_before, bins_after : `List[ReliabilityBins]`
        The reliability of each exit, uncalibrated and calibrated.
    points : `List[OperatingPoint]`
        The thresholds that tables show, ascending.
    recommendations : `List[Recommendation]`
    measurements : `Dict[float, Measurement]`
        By threshold; empty if nothing was timed.
    easiest, hardest : `List[Example]`
    better_exit : `BetterExit`, optional
        One that is clearly more accurate than the last, if there is one.
    """

    origin: Dict[str, Any]
    overrides: Dict[str, Any]
    curve: TradeoffCurve
    classes: ClassCurve
    exits: List[ExitCalibration]
    bins_before: List[ReliabilityBins]
    bins_after: List[ReliabilityBins]
    points: List[OperatingPoint]
    recommendations: List[Recommendation]
    measurements: Dict[float, Measurement]
    easiest: List[Example]
    hardest: List[Example]
    better_exit: Optional[BetterExit] = None

    def overrides_for(self, threshold: float) -> Dict[str, Any]:
        """The overrides that give a threshold, those with which the archive was loaded included."""
        model = self.overrides.get("model")
        if isinstance(model, dict):
            return {**self.overrides, "model": {**model, "confidence_threshold": threshold}}
        return {**self.overrides, "model.confidence_threshold": threshold}

    def pasted_overrides(self, threshold: float) -> str:
        """The same as it is typed after `--overrides`, quoted for a shell."""
        return shlex.quote(json.dumps(self.overrides_for(threshold)))

    def recommended_points(self) -> List[OperatingPoint]:
        """The recommended thresholds, each once."""
        return list({r.point.threshold: r.point for r in self.recommendations}.values())

    def macro_f1(self, threshold: float) -> float:
        """The mean F1 of the classes at a threshold."""
        return float(self.classes.macro_f1[self.curve.row_of(threshold)])

    def class_losses(self, threshold: float) -> List[ClassLoss]:
        """The classes that lose clearly more recall there than accuracy drops."""
        row = self.curve.row_of(threshold)
        return class_losses(self.classes, row, self.origin["labels"])

    def exit_shares(self, threshold: float) -> np.ndarray:
        """`(num_exits,)`, the share of the instances that exits at each exit."""
        counts = self.curve.exit_counts[:, self.curve.row_of(threshold)]
        return counts / self.curve.num_instances

    def average_exit_layer(self, threshold: float) -> float:
        """The mean layer that instances exit after; -1 is before layer 0."""
        return float(self.exit_shares(threshold) @ [e.exit_layer for e in self.exits])


def reliability(
    logits: np.ndarray,
    labels: np.ndarray,
    temperatures: Sequence[float],
    combination: Optional[Sequence[Sequence[float]]] = None,
) -> List[ReliabilityBins]:
    """
    The bins of each exit's reliability diagram.

    # Parameters

    logits : `np.ndarray`
        `(num_exits, num_instances, num_labels)`
    labels : `np.ndarray`
        `(num_instances,)`
    temperatures : `Sequence[float]`
        Of each exit.
    combination : `Sequence[Sequence[float]]`, optional (default = `None`)
        The weights of each exit, in place of temperatures.
    """
    calibrated = calibrated_logits(logits, temperatures, combination)
    return [
        reliability_bins(max_probabilities(exit_logits, 1.0), exit_logits.argmax(axis=1) == labels)
        for exit_logits in calibrated
    ]


def write_csv(results: TradeoffResults, path: Path) -> None:
    """One line for each row of the curve."""
    columns = _columns(results)
    exit_counts = columns.pop("exit_counts")
    for exit_layer, counts in zip((e.exit_layer for e in results.exits), exit_counts):
        columns[f"num_leaving_layer_{exit_layer}"] = counts
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values()))
    write_text_whole(path, text.getvalue())


def write_json(results: TradeoffResults, path: Path) -> None:
    """
    Everything but the examples. `thresholds` has a list for each column of the curve, and where a
    speed-up is infinite, because nothing is computed but an exit before layer 0, it is `null`.
    `classes` has recall and precision of each label, in the order of `labels`, and the confusion
    matrix, a row for each label and a column for each answer, at the recommended thresholds and 1.
    """
    curve = results.curve
    content = {
        **results.origin,
        "num_instances": curve.num_instances,
        "full_depth": _plain(asdict(results.points[-1])),
        "exits": [
            {
                **asdict(exit_),
                "layer_equivalents": float(cost),
                "reliability_before": _plain(asdict(before)),
                "reliability_after": _plain(asdict(after)),
            }
            for exit_, cost, before, after in zip(
                results.exits, curve.costs, results.bins_before, results.bins_after
            )
        ],
        "better_exit": None if results.better_exit is None else asdict(results.better_exit),
        "recommendations": [
            _plain(
                {
                    **asdict(recommendation),
                    "overrides": results.overrides_for(recommendation.point.threshold),
                }
            )
            for recommendation in results.recommendations
        ],
        "classes": [
            _classes_at(results, threshold)
            for threshold in sorted({*(p.threshold for p in results.recommended_points()), 1.0})
        ],
        "measured": [asdict(measurement) for measurement in results.measurements.values()],
        "thresholds": _columns(results),
    }
    write_text_whole(path, json.dumps(content, allow_nan=False) + "\n")


def _classes_at(results: TradeoffResults, threshold: float) -> Dict[str, Any]:
    """What a threshold gives each class, of plain Python types; `null` where nothing is counted."""
    confusion = results.classes.confusion(results.curve.row_of(threshold))
    recall, precision = recall_and_precision(confusion)
    return _plain(
        {
            "threshold": threshold,
            "macro_f1": results.macro_f1(threshold),
            "recall": recall,
            "precision": precision,
            "confusion_matrix": confusion,
            "losing_more_than_accuracy": [asdict(loss) for loss in results.class_losses(threshold)],
        }
    )


def _columns(results: TradeoffResults) -> Dict[str, Any]:
    """The curve, column by column, of plain Python types."""
    curve = results.curve
    low, high = wilson_interval(curve.num_correct, curve.num_instances)
    return _plain(
        {
            "threshold": curve.thresholds,
            "accuracy": curve.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "accuracy_drop": curve.accuracy_drop,
            "macro_f1": results.classes.macro_f1,
            "worst_recall_drop": results.classes.worst_recall_drop,
            "layer_equivalents": curve.layer_equivalents,
            "speed_up": curve.speed_up,
            "num_lost": curve.num_lost,
            "num_gained": curve.num_gained,
            "exit_counts": curve.exit_counts,
        }
    )


def _plain(value: Any) -> Any:
    """Lists and numbers that JSON has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(results: TradeoffResults) -> str:
    """The shown thresholds as text."""
    is_measured = bool(results.measurements)
    header = [
        "threshold",
        "accuracy",
        "macro F1",
        "average exit layer",
        "layer-equivalents",
        "speed-up",
    ]
    header += ["measured", "texts/s"] if is_measured else []
    rows = [header]
    for point in results.points:
        row = [
            shortest(point.threshold),
            f"{point.accuracy:.4f}",
            f"{results.macro_f1(point.threshold):.4f}",
            f"{results.average_exit_layer(point.threshold):.2f}",
            f"{point.layer_equivalents:.2f}",
            times(point.speed_up),
        ]
        measurement = results.measurements.get(point.threshold)
        if measurement is not None:
            row += [times(measurement.speed_up), f"{measurement.texts_per_second:,.0f}"]
        rows.append(row + [""] * (len(header) - len(row)))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text, columns flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def shortest(number: float) -> str:
    """All digits that a number needs, and no more: a threshold that can be typed."""
    return repr(number).removesuffix(".0")


def times(speed_up: float) -> str:
    """A speed-up in words: how many times as fast."""
    if not math.isfinite(speed_up):
        return "no layer run"
    return f"{speed_up:,.0f}x" if speed_up >= 100 else f"{speed_up:.3g}x"

"""The trade-off and the reliability of the exits as pictures."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Tuple

import numpy as np

from sledgehammer_allennlp.calibration import ExitCalibration, ReliabilityBins
from sledgehammer_allennlp.files import write_whole
from sledgehammer_allennlp.tradeoff.curve import speed_up, wilson_interval
from sledgehammer_allennlp.tradeoff.results import TradeoffResults, shortest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVE_FILE = "tradeoff.png"
RELIABILITY_FILE = "reliability.png"

BLUE, ORANGE, GREY, GREEN, PURPLE = "#1f5fa8", "#d9661f", "#777777", "#2c8a4b", "#7b3fa0"
SPEED_UP_LABEL = "speed-up over the last exit, in layer-equivalents"
_MAX_SPEED_UP = 200.0
_TICKS = (1, 2, 3, 5, 10, 20, 50, 100)


class SpeedUpAxis:
    """
    An axis of speed-ups on which everything has a place: what is faster than `highest` stands at
    its end, `end`, which then is marked by its own label.
    """

    def __init__(self, speed_ups: np.ndarray) -> None:
        finite = speed_ups[np.isfinite(speed_ups)]
        self.highest = float(min(_MAX_SPEED_UP, max(finite.max(), 1.2)))
        self.has_beyond = bool((speed_ups > self.highest).any())
        self.end = self.highest * 2 if self.has_beyond else self.highest

    def place(self, speed_ups: np.ndarray) -> np.ndarray:
        """Where speed-ups stand."""
        return np.where(np.asarray(speed_ups) > self.highest, self.end, speed_ups)

    def ticks(self) -> Tuple[List[float], List[str]]:
        """Places and labels."""
        ticks = [float(tick) for tick in _TICKS if tick <= self.highest]
        labels = [f"{tick:g}×" for tick in ticks]
        if self.has_beyond:
            # Room for a label of its own.
            while ticks and ticks[-1] * 1.6 > self.end:
                ticks.pop(), labels.pop()
            ticks.append(self.end)
            labels.append(f">{self.highest:.3g}×")
        return ticks, labels


def exit_name(exit_layer: int) -> str:
    """What an exit is called in pictures."""
    return "before layer 0" if exit_layer < 0 else f"layer {exit_layer}"


def reliability_title(exit_: ExitCalibration) -> str:
    """Which exit, and its calibration error before and after calibration."""
    errors = f"{exit_.ece_before:.3f} → {exit_.calibrated_ece:.3f}"
    return f"{exit_name(exit_.exit_layer)}: calibration error {errors}"


def draw_curve(results: TradeoffResults) -> "Figure":
    """Accuracy against speed-up."""
    from matplotlib.figure import Figure

    curve = results.curve
    axis = SpeedUpAxis(curve.speed_up)
    figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    low, high = wilson_interval(curve.num_correct, curve.num_instances)
    x = axis.place(curve.speed_up)
    axes.fill_between(x, low, high, color=BLUE, alpha=0.12, linewidth=0, label="95 % interval")
    axes.plot(x, curve.accuracy, color=BLUE, linewidth=2, label="every threshold")
    axes.plot(x, results.classes.macro_f1, "--", color=PURPLE, linewidth=1, label="macro F1")
    exit_places = axis.place(speed_up(curve.costs, curve.costs[-1]))
    exit_accuracies = [e.calibrated_accuracy for e in results.exits]
    axes.plot(
        exit_places,
        exit_accuracies,
        "o",
        color=GREY,
        markersize=6,
        markerfacecolor="white",
        label="all at one exit",
    )
    for place, accuracy, exit_ in zip(exit_places, exit_accuracies, results.exits):
        axes.annotate(
            str(exit_.exit_layer),
            (place, accuracy),
            xytext=(0, -13),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=GREY,
        )
    _mark_recommended(axes, results, axis)
    axes.set_xscale("log")
    ticks, labels = axis.ticks()
    axes.set_xticks(ticks, labels)
    axes.minorticks_off()
    axes.set_xlim(0.95, axis.end * 1.08)
    axes.set_xlabel(SPEED_UP_LABEL)
    axes.set_ylabel(f"accuracy of {curve.num_instances:,} texts")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _mark_recommended(axes: Any, results: TradeoffResults, axis: SpeedUpAxis) -> None:
    for number, point in enumerate(results.recommended_points()):
        place = axis.place(np.array(point.speed_up))
        label = "recommended" if number == 0 else None
        axes.plot(place, point.accuracy, "D", color=ORANGE, markersize=7, zorder=5, label=label)
        axes.annotate(
            shortest(point.threshold),
            (place, point.accuracy),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=ORANGE,
            fontweight="bold",
        )


def marker_areas(bins: ReliabilityBins) -> np.ndarray:
    """`(num_bins,)`, in square points: large for bins of many instances."""
    return 6 + 120 * bins.num_instances / bins.num_instances.sum()


def draw_reliability(results: TradeoffResults) -> "Figure":
    """A reliability diagram for each exit, before and after calibration."""
    from matplotlib.figure import Figure

    num_columns = min(4, len(results.exits))
    num_rows = math.ceil(len(results.exits) / num_columns)
    figure = Figure(
        figsize=(2.7 * num_columns, 2.9 * num_rows + 0.3), dpi=150, layout="constrained"
    )
    all_axes = figure.subplots(num_rows, num_columns, squeeze=False, sharex=True, sharey=True)
    for axes in all_axes.flat[len(results.exits) :]:
        axes.set_visible(False)
    for axes, exit_, before, after in zip(
        all_axes.flat, results.exits, results.bins_before, results.bins_after
    ):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for bins, color, name in ((before, ORANGE, "before"), (after, BLUE, "after")):
            filled = bins.num_instances > 0
            places = bins.confidence[filled], bins.accuracy[filled]
            axes.plot(*places, color=color, linewidth=0.8, alpha=0.4)
            axes.scatter(
                *places,
                s=marker_areas(bins)[filled],
                color=color,
                alpha=0.7,
                linewidth=0,
                label=name,
            )
        axes.set_title(reliability_title(exit_), fontsize=8.5)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.25)
    all_axes[0, 0].legend(frameon=False, fontsize=8, loc="upper left", markerscale=0.7)
    figure.supxlabel("confidence", fontsize=10)
    figure.supylabel("share of right answers", fontsize=10)
    return figure


def write_pictures(results: TradeoffResults, folder: Path) -> None:
    """Writes `tradeoff.png` and `reliability.png`."""
    for name, figure in (
        (CURVE_FILE, draw_curve(results)),
        (RELIABILITY_FILE, draw_reliability(results)),
    ):
        write_whole(folder / name, lambda beside: figure.savefig(beside, format="png"))  # noqa: B023

"""Accuracy against speed-up on each data set of the study of recipes."""

import math
import statistics
from collections import defaultdict
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from scripts.pictures.picture import STYLES, Picture, new_figure

RECOMMENDED = "as recommended"
PLAIN = "plain fine-tuning, "
TRUNCATED = "plain fine-tuning of the first "

DATA_SETS = {"sst2": "SST-2", "ag_news": "AG News", "snli": "SNLI"}
PAPERS = {
    "the paper's exits": "the paper's exits",
    "DeeBERT's last exit": "DeeBERT, last exit",
    "PABEE": "PABEE",
}

Points = List[Tuple[float, List[float]]]
"""Speed-ups, and at each the accuracy of every seed."""


def draw_accuracies(results: Sequence[Mapping[str, Any]]) -> List[Picture]:
    """
    A picture for each data set of which there is a model with exits.

    # Parameters

    results : `Sequence[Mapping[str, Any]]`
        What `benchmarks/recipes.py` keeps of each trained model.
    """
    by_data: Dict[str, List[Mapping[str, Any]]] = defaultdict(list)
    for one in results:
        by_data[one["data"]].append(one)
    return [
        _draw(data, of_data)
        for data, of_data in sorted(by_data.items())
        if any(one["method"] == RECOMMENDED for one in of_data)
    ]


def _draw(data: str, results: Sequence[Mapping[str, Any]]) -> Picture:
    figure, axes = new_figure(3.9)
    axes.margins(y=0.12)
    num_layers = len(results[0]["at_layers"]) + 1
    sentences = []
    lines = lines_of(results)
    for (label, points), line in zip(lines.items(), STYLES):
        speed_ups = [speed_up for speed_up, _ in points]
        is_line = len(points) > 1 and not label.startswith("first")
        shown = line if is_line else {**line, "linestyle": ""}
        percents, spreads = ([100 * x for x in part] for part in zip(*map(_of_seeds, points)))
        bars = spreads if any(spreads) else None
        axes.errorbar(speed_ups, percents, bars, label=label, capsize=2, elinewidth=1, **shown)
        found = ", ".join(f"{p:.1f} % at {s:.2g}×" for s, p in zip(speed_ups, percents))
        sentences.append(f"{label}: {found}")
    lowest = _lowest_shown(lines)
    if lowest is not None:
        highest = max(
            mean + spread for points in lines.values() for mean, spread in map(_of_seeds, points)
        )
        axes.set_ylim(100 * lowest, 100 * (highest + (highest - lowest) / 10))
    axes.set_xscale("log")
    ticks = [num_layers / k for k in range(1, num_layers + 1)]
    axes.set_xticks(ticks, [f"{tick:.2g}×" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("speed-up, in layers computed")
    axes.set_ylabel("accuracy in %")
    figure.legend(loc="outside upper left", ncols=2, columnspacing=1.2, handlelength=2.6)
    name = DATA_SETS.get(data, data)
    counts = sorted({len(point[1]) for points in lines.values() for point in points})
    num_seeds = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    seeds = "1 seed" if num_seeds == "1" else f"{num_seeds} seeds, bars: standard deviation"
    return Picture(
        f"accuracy-{data.replace('_', '-')}",
        f"Accuracy against speed-up on {name}: a {num_layers}-layer MiniLM, "
        f"{results[0]['num_test_texts']:,} test texts, {seeds}. Early exit is one model, at "
        "several thresholds; each point of plain fine-tuning is a model of its own."
        + ("" if lowest is None else f" What is below {100 * lowest:.0f} % is not shown."),
        f"Accuracy against speed-up on {name}. {'; '.join(sentences)}.",
        figure,
    )


def lines_of(results: Sequence[Mapping[str, Any]]) -> Dict[str, Points]:
    """What is drawn of one data set, by the label in the legend; what is not there is left out."""
    methods: Dict[str, List[Mapping[str, Any]]] = defaultdict(list)
    for one in results:
        methods[one["method"]].append(one)
    lines = {
        "exits, combined": _curve(methods[RECOMMENDED], "at_layers", "full_depth"),
        "exits, temperatures": _curve(
            methods[RECOMMENDED], "at_layers_by_temperatures", "full_depth_by_temperatures"
        ),
    }
    best = best_plain(methods)
    if best is not None:
        lines["plain fine-tuning"] = [(1.0, [one["full_depth"] for one in methods[best]])]
    truncated = [
        (_num_layers(of_method[0]) / (of_method[0]["exit_layers"][-1] + 1), of_method)
        for method, of_method in methods.items()
        if method.startswith(TRUNCATED)
    ]
    if truncated:
        points = [(speed, [one["full_depth"] for one in found]) for speed, found in truncated]
        lines["first layers, fine-tuned"] = sorted(points)
    for method, label in PAPERS.items():
        if methods.get(method):
            lines[label] = _curve(methods[method], "at_layers", "full_depth")
    return lines


def _of_seeds(point: Tuple[float, List[float]]) -> Tuple[float, float]:
    """Mean and standard deviation of a point's accuracies."""
    _, accuracies = point
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    return statistics.mean(accuracies), spread


def _lowest_shown(lines: Mapping[str, Points]) -> Optional[float]:
    """
    From which accuracy on to show what is drawn; `None` for all. Exits of papers' recipes that have
    learned nothing would press all else together.
    """
    papers = PAPERS.values()
    means = {label: [_of_seeds(point)[0] for point in points] for label, points in lines.items()}
    ours = [mean for label, of_line in means.items() if label not in papers for mean in of_line]
    lowest = min(ours) - (max(ours) - min(ours)) / 2
    is_below = any(mean < lowest for of_line in means.values() for mean in of_line)
    return math.floor(100 * lowest) / 100 if is_below else None


def _curve(results: Sequence[Mapping[str, Any]], at: str, full_depth: str) -> Points:
    num_layers = _num_layers(results[0])
    points: Points = [(1.0, [one[full_depth] for one in results])]
    if len(results[0]["exit_layers"]) > 1:
        for k in range(num_layers - 1, 0, -1):
            points.append((num_layers / k, [one[at][k - 1] for one in results]))
    return points


def _num_layers(result: Mapping[str, Any]) -> int:
    return len(result["at_layers"]) + 1


def best_plain(methods: Mapping[str, Sequence[Mapping[str, Any]]]) -> Optional[str]:
    """Plain fine-tuning at the learning rate that is best on the validation data, over seeds."""
    plain = [method for method in methods if method.startswith(PLAIN)]
    return max(
        plain,
        key=lambda method: statistics.mean(one["validation_accuracy"] for one in methods[method]),
        default=None,
    )

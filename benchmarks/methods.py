"""
What the methods of early exit give, on the same data, weights and code: every training objective,
with every measure of confidence. Trains small models on parts of the data; what is done is kept,
so that an interrupted run goes on when it is started again.

Writes what every exit says of the test data, `results/*.npz`, and the tables, `methods.md` and
`methods.json`.
"""

import argparse
import statistics
from typing import Any, Dict, List, Sequence

import numpy as np
from scipy.integrate import trapezoid

from benchmarks.trained_models import (
    Result,
    Run,
    accuracy_at,
    add_arguments,
    result_of,
    train_missing,
    write_results,
)
from sledgehammer_allennlp.tradeoff import TradeoffCurve

TRAINING_TEXTS = {"sst2": 4000, "ag_news": 2000, "snli": 4000}
SETTINGS: Dict[str, Any] = {
    "exit_layers": "all",
    # Heads, that any measure can be used afterwards. Nothing else learns from them.
    "confidence": "learned",
    "combine_exits": False,
    "batch_size": 16,
    "num_epochs": 1,
}
"""Of all methods, where theirs are not others."""

METHODS: Dict[str, Dict[str, Any]] = {
    "joint": {},
    "sampled": {"loss": "sampled"},
    "weighted": {"loss": "weighted"},
    "self_distillation": {"loss": "self_distillation"},
    # An epoch for the transformer, as with the others, and one for the exits.
    "two_stage": {"loss": "two_stage", "num_epochs": 2},
    "alternating": {"loss": "alternating"},
    "joint, pooling first": {"pooling": "first"},
    "joint, one learning rate": {"exit_learning_rate": 5e-5, "embedding_learning_rate": 5e-5},
    "joint, previous logits": {"use_previous_logits": True},
}
MEASURES = ("max_probability", "entropy", "margin", "patience", "learned")
RULES = (*MEASURES, "max_probability, ensemble")
"""Measures, and one of them with answers averaged over the exits reached."""
SPEED_UPS = (1.5, 2.0, 3.0, 4.0)
NUM_LAYERS = 6
"""Speed-ups are over so many full layers."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, list(TRAINING_TEXTS), "runs/methods")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(METHODS),
        choices=list(METHODS),
        metavar="METHOD",
        help=f"by default all: {', '.join(map(repr, METHODS))}",
    )
    arguments = parser.parse_args()
    runs = [
        run_of(data, method, seed)
        for seed in arguments.seeds
        for method in arguments.methods
        for data in arguments.data_sets
    ]
    train_missing(arguments, runs, TRAINING_TEXTS)
    results = [summary(arguments, run) for run in runs]
    text = tables(results)
    write_results(arguments, "methods", text, results)


def run_of(data: str, method: str, seed: int) -> Run:
    """A run of one of the methods."""
    return Run(data, method, seed, {**SETTINGS, **METHODS[method]})


def mean_accuracy(curve: TradeoffCurve) -> float:
    """The area under accuracy over cost, from the first exit's to the last's, over its width."""
    costs = curve.layer_equivalents
    width = costs[-1] - costs[0]
    return float(trapezoid(curve.accuracy, costs) / width)


def summary(arguments: argparse.Namespace, run: Run) -> Dict[str, Any]:
    """All numbers of one trained model."""
    result = Result.read(result_of(arguments, run))
    numbers: Dict[str, Any] = {
        "data": run.data,
        "method": run.method,
        "seed": run.seed,
        "seconds": result.seconds,
        "exit_layers": result.exit_layers,
        "accuracy_of_exits": result.accuracy_of_exits(),
        "num_test_texts": len(result.labels),
        "calibration_error": result.without_first().calibration_error(),
        "rules": {},
    }
    sees_ngrams = METHODS[run.method].get("use_previous_logits", False)
    for ngrams, exits in (("with", result), ("without", result.without_first())):
        if ngrams == "without" and sees_ngrams:
            continue
        for name in RULES:
            measure, _, averaged = name.partition(", ")
            curve = exits.curve(measure, "reached" if averaged else None)
            numbers["rules"][f"{name}, {ngrams} n-grams"] = {
                "mean_accuracy": mean_accuracy(curve),
                **{
                    f"accuracy_at_{speed_up:g}x": accuracy_at(curve, NUM_LAYERS / speed_up)
                    for speed_up in SPEED_UPS
                },
            }
    return numbers


def tables(results: List[Dict[str, Any]]) -> str:
    """The tables, in Markdown: means over seeds."""
    shown = Shown(results)
    lines: List[str] = []
    for ngrams in ("without", "with"):
        lines += [f"## Early exit {ngrams} the exit on n-grams", ""]
        lines += shown.areas(ngrams)
        for rule in RULES:
            lines += shown.accuracies(f"{rule}, {ngrams} n-grams")
    lines += shown.exits()
    return "\n".join(lines)


class Shown:
    """Results as lines of Markdown."""

    def __init__(self, results: List[Dict[str, Any]]) -> None:
        self.data_sets = list(dict.fromkeys(result["data"] for result in results))
        self.methods = list(dict.fromkeys(result["method"] for result in results))
        self.results = results

    def areas(self, ngrams: str) -> List[str]:
        """A row for each loss, a column for each rule."""
        rows = []
        for method in self.methods:
            cells = [
                [
                    _with_spread([one["mean_accuracy"] for one in found])
                    for data in self.data_sets
                    if (found := self._of_rule(data, method, f"{rule}, {ngrams} n-grams"))
                ]
                for rule in RULES
            ]
            if all(cells):
                rows.append([method, *(" / ".join(cell) for cell in cells)])
        return [
            "Mean accuracy over all budgets, from the first exit's to the last's, in percent, of "
            f"{' / '.join(self.data_sets)}; ± is the standard deviation over seeds.",
            "",
            *_table(["loss", *RULES], rows),
        ]

    def accuracies(self, rule: str) -> List[str]:
        """A row for each loss, a column for each data set."""
        rows = []
        for method in self.methods:
            cells = []
            for data in self.data_sets:
                found = self._of_rule(data, method, rule)
                at = [
                    statistics.mean(one[f"accuracy_at_{speed_up:g}x"] for one in found)
                    for speed_up in SPEED_UPS
                    if found
                ]
                cells.append(" ".join(map(_percent, at)))
            if all(cells):
                rows.append([method, *cells])
        return [
            f"{rule}: accuracy at {', '.join(f'{speed_up:g}×' for speed_up in SPEED_UPS)} fewer "
            f"layer-equivalents than {NUM_LAYERS} full layers.",
            "",
            *_table(["loss", *self.data_sets], rows),
        ]

    def exits(self) -> List[str]:
        """How good each exit is."""
        rows = []
        for method in self.methods:
            cells = []
            for data in self.data_sets:
                found = self._of(data, method)
                exits = np.mean([one["accuracy_of_exits"] for one in found], axis=0)
                error = statistics.mean(one["calibration_error"] for one in found)
                seconds = statistics.mean(one["seconds"] for one in found)
                shown = " ".join(map(_percent, exits))
                cells.append(f"{shown}; {error:.3f}; {seconds:.0f} s")
            rows.append([method, *cells])
        return [
            "## The exits",
            "",
            "Accuracy of each, from the one on n-grams to the last; mean calibration error of all "
            "but the one on n-grams, after temperature (15 bins); seconds to train and evaluate.",
            "",
            *_table(["loss", *self.data_sets], rows),
        ]

    def _of(self, data: str, method: str) -> List[Dict[str, Any]]:
        return [one for one in self.results if (one["data"], one["method"]) == (data, method)]

    def _of_rule(self, data: str, method: str, rule: str) -> List[Dict[str, float]]:
        found = self._of(data, method)
        return [one["rules"][rule] for one in found if rule in one["rules"]]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """With an empty line after it."""
    lines = [header, ["---"] * len(header), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _with_spread(shares: List[float]) -> str:
    spread = f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{_percent(statistics.mean(shares))}{spread}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    main()

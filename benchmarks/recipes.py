"""
What the recommended config gives, beside what a user would pick instead: plain fine-tuning with
the best of three learning rates, plain fine-tuning of the first layers alone (the comparison of
Schwartz et al. 2020), and the recipes of that paper, of DeeBERT and of PABEE. Trains small models;
what is done is kept, so that an interrupted run goes on when it is started again.

Writes the logits of every exit on the test data, `results/*.npz`, their numbers, `results/*.json`,
of which alone the tables are made, and the tables, `recipes.md` and `recipes.json`.
"""

import argparse
import json
import statistics
from functools import partial
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from benchmarks.trained_models import (
    Result,
    Run,
    accuracy_at,
    add_arguments,
    result_of,
    summary_of,
    train_missing,
    write_results,
)
from sledgehammer_allennlp.encoders.loading import num_layers_of
from sledgehammer_allennlp.files import write_text_whole
from sledgehammer_allennlp.tradeoff import threshold_for_drop, tradeoff_curve

TRAINING_TEXTS = {"sst2": 16000}
SETTINGS: Dict[str, Any] = {"exit_layers": "all", "batch_size": 32, "num_epochs": 2}
TEXT_SETTINGS: Dict[str, Any] = {"token_features": 128}
"""Of the recommended config, for data sets of single texts."""
PAIR_SETTINGS: Dict[str, Dict[str, Any]] = {"snli": {"alignment": 128}}
"""The same for those of pairs, which have no token features."""
LEARNING_RATES = (2e-5, 5e-5, 1e-4)

ALLOWED_DROPS = (0.0, 0.005, 0.01)
NUM_SPLITS = 100
"""Of the test data into halves, see `chosen_on_half`."""

RECOMMENDED = "as recommended"
NO_FEATURES = "as recommended, but no token features"
LAST_AS_OTHERS = f"{NO_FEATURES}, last exit as the others"
WEIGHTED = f"{NO_FEATURES}, loss weighted"
_PLAIN: Dict[str, Any] = {"embedding_exit": None, "pooling": "first", "combine_exits": False}
RECIPES: Dict[str, Dict[str, Any]] = {
    NO_FEATURES: {"token_features": None},
    LAST_AS_OTHERS: {"token_features": None, "last_exit": None},
    WEIGHTED: {"token_features": None, "loss": "weighted"},
    # Of Schwartz et al. 2020.
    "the paper's exits": _PLAIN,
    # DeeBERT's last exit is trained before the others, with the transformer, and alone.
    "DeeBERT's last exit": {**_PLAIN, "exit_layers": "last"},
    "PABEE": {**_PLAIN, "loss": "weighted"},
}
"""Ours before, and those of papers, with the learning rates of the recommended config."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, ["sst2", "ag_news", "snli"], "runs/recipes")
    parser.add_argument(
        "--first-layers",
        type=int,
        nargs="*",
        default=[1, 2, 3],
        metavar="K",
        help="plain fine-tuning of the first K layers, by default 1 2 3",
    )
    parser.add_argument(
        "--learning-rates",
        type=float,
        nargs="+",
        default=list(LEARNING_RATES),
        metavar="RATE",
        help="of plain fine-tuning, by default 2e-5 5e-5 1e-4",
    )
    parser.add_argument(
        "--recipes",
        nargs="*",
        default=list(RECIPES),
        choices=list(RECIPES),
        metavar="RECIPE",
        help=f"beside the recommended config, by default all: {', '.join(map(repr, RECIPES))}",
    )
    arguments = parser.parse_args()
    num_layers = num_layers_of(arguments.transformer_model)
    runs = first_runs(arguments, num_layers)
    keep = partial(summary_of_run, arguments, num_layers)
    train_missing(arguments, runs, TRAINING_TEXTS, keep)
    found = [keep(run) for run in runs]
    best = {data: best_learning_rate(arguments, found, data) for data in arguments.data_sets}
    truncated = truncated_runs(arguments, best)
    train_missing(arguments, truncated, TRAINING_TEXTS, keep)
    results = [*found, *map(keep, truncated)]
    text = tables(results, best, num_layers)
    write_results(arguments, "recipes", text, results)


def first_runs(arguments: argparse.Namespace, num_layers: int) -> List[Run]:
    """The recommended config, plain fine-tuning and the recipes chosen, with every seed."""
    methods = {
        RECOMMENDED: {},
        **{plain_name(rate): plain(rate, num_layers) for rate in arguments.learning_rates},
        **{recipe: RECIPES[recipe] for recipe in arguments.recipes},
    }
    runs = []
    for seed in arguments.seeds:
        for data in arguments.data_sets:
            for method, settings in methods.items():
                settings = {**SETTINGS, **settings}
                if settings["exit_layers"] == "last":
                    settings["exit_layers"] = [num_layers - 1]
                if method.startswith(RECOMMENDED):
                    settings = {**PAIR_SETTINGS.get(data, TEXT_SETTINGS), **settings}
                if data in PAIR_SETTINGS:
                    if method == NO_FEATURES:
                        continue
                    method = method.replace(f"{NO_FEATURES},", f"{RECOMMENDED}, but")
                runs.append(Run(data, method, seed, settings))
    return runs


def truncated_runs(arguments: argparse.Namespace, best: Mapping[str, float]) -> List[Run]:
    """Plain fine-tuning of the first layers, with the learning rate that was best for all."""
    return [
        Run(data, truncated_name(k), seed, {**SETTINGS, **plain(best[data], k)})
        for seed in arguments.seeds
        for data in arguments.data_sets
        for k in arguments.first_layers
    ]


def plain(learning_rate: float, num_layers: int) -> Dict[str, Any]:
    """The settings of plain fine-tuning: one classifier on the pooled first token, one rate."""
    rates = ("learning_rate", "embedding_learning_rate", "exit_learning_rate")
    return {**_PLAIN, "exit_layers": [num_layers - 1], **dict.fromkeys(rates, learning_rate)}


def plain_name(learning_rate: float) -> str:
    return f"plain fine-tuning, {learning_rate:g}"


def truncated_name(num_layers: int) -> str:
    return f"plain fine-tuning of the first {num_layers}"


def best_learning_rate(
    arguments: argparse.Namespace, results: Sequence[Mapping[str, Any]], data: str
) -> float:
    """With which plain fine-tuning was most accurate on the validation data, over seeds."""
    return max(
        arguments.learning_rates,
        key=lambda rate: statistics.mean(
            one["validation_accuracy"]
            for one in results
            if one["data"] == data and one["method"] == plain_name(rate)
        ),
    )


def summary_of_run(arguments: argparse.Namespace, num_layers: int, run: Run) -> Dict[str, Any]:
    """The numbers of a run that is trained, which are kept from now on."""
    path = summary_of(arguments, run)
    if not path.exists():
        numbers = summary(Result.read(result_of(arguments, run)), run, num_layers)
        write_text_whole(path, json.dumps(numbers, indent=1) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def summary(result: Result, run: Run, num_layers: int) -> Dict[str, Any]:
    """The numbers of one trained model."""
    curve = result.curve("max_probability")
    temperatures_alone = result.without_combination().curve("max_probability")
    budgets = range(1, num_layers)
    return {
        "data": run.data,
        "method": run.method,
        "seed": run.seed,
        "num_test_texts": len(result.labels),
        "exit_layers": result.exit_layers,
        "accuracy_of_exits": result.accuracy_of_exits(),
        "full_depth": float(curve.accuracy[-1]),
        "full_depth_by_temperatures": float(temperatures_alone.accuracy[-1]),
        "validation_accuracy": result.validation_accuracy,
        # At a mean of 1, 2, … layer-equivalents.
        "at_layers": [accuracy_at(curve, k) for k in budgets],
        "at_layers_by_temperatures": [accuracy_at(temperatures_alone, k) for k in budgets],
        "chosen_on_half": chosen_on_half(result) if len(result.exit_layers) > 1 else [],
    }


def chosen_on_half(result: Result) -> List[Dict[str, float]]:
    """
    What thresholds give that were chosen by half of the test data, there and on the other half:
    means over random halves.
    """
    confidences, correct = result.outcomes("max_probability")
    generator = np.random.default_rng(0)
    rows: Dict[float, List[List[float]]] = {drop: [] for drop in ALLOWED_DROPS}
    for _ in range(NUM_SPLITS):
        order = generator.permutation(len(result.labels))
        here, there = (
            tradeoff_curve(confidences[:, half], correct[:, half], result.costs)
            for half in np.array_split(order, 2)
        )
        for drop, found in rows.items():
            chosen = threshold_for_drop(here, drop).point
            row = there.row_of(chosen.threshold)
            elsewhere = (there.accuracy_drop[row], there.layer_equivalents[row])
            found.append([chosen.accuracy_drop, chosen.layer_equivalents, *map(float, elsewhere)])
    names = ("drop there", "layers there", "drop on others", "layers on others")
    return [
        {"allowed": drop, **dict(zip(names, np.mean(found, axis=0).tolist()))}
        for drop, found in rows.items()
    ]


def tables(results: List[Dict[str, Any]], best: Mapping[str, float], num_layers: int) -> str:
    """The tables, in Markdown: means over seeds, and standard deviations."""
    lines: List[str] = []
    for data, rate in best.items():
        found = [one for one in results if one["data"] == data]
        num_seeds = len({one["seed"] for one in found})
        lines += [
            f"## {data}: accuracy at mean layer-equivalents",
            "",
            f"{found[0]['num_test_texts']:,} test texts, {num_seeds} seeds; the learning rate of "
            f"plain fine-tuning that was best on the validation data is {rate:g}.",
            "",
            f"| | {' | '.join(map(str, range(1, num_layers)))} | all {num_layers} |",
            "|---|" + "---:|" * num_layers,
        ]
        methods = dict.fromkeys(one["method"] for one in found)
        for method in methods:
            of_method = [one for one in found if one["method"] == method]
            lines.append(_row(method, of_method, "at_layers", "full_depth", num_layers))
            if method.startswith(RECOMMENDED):
                names = ("at_layers_by_temperatures", "full_depth_by_temperatures")
                lines.append(_row("with temperatures alone", of_method, *names, num_layers))
        lines.append("")
    return "\n".join(lines)


def _row(
    name: str, results: Sequence[Mapping[str, Any]], at: str, full_depth: str, num_layers: int
) -> str:
    """What a model of few layers gives stands at their number."""
    cells: List[Optional[str]] = [None] * num_layers
    exit_layers = results[0]["exit_layers"]
    cells[exit_layers[-1]] = _cell([one[full_depth] for one in results])
    if len(exit_layers) > 1:
        for k in range(1, num_layers):
            cells[k - 1] = _cell([one[at][k - 1] for one in results])
    return f"| {name} | {' | '.join(cell or '' for cell in cells)} |"


def _cell(shares: Sequence[float]) -> str:
    spread = f" ± {100 * np.std(shares, ddof=1):.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.1f}{spread}"


if __name__ == "__main__":
    main()

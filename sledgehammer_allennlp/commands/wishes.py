"""What `allennlp tradeoff` can be asked for: arguments, checks, and the thresholds to take."""

import argparse
from typing import List, Mapping, Optional, Sequence

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.tradeoff import (
    Recommendation,
    TradeoffCurve,
    check_accuracy_drop,
    check_confidence_level,
    check_target_speedup,
    threshold_for_speedup,
)
from sledgehammer_allennlp.tradeoff.class_wishes import (
    METRICS,
    threshold_for_metric_drop,
    threshold_for_recall_drop,
)
from sledgehammer_allennlp.tradeoff.classes import ClassCurve
from sledgehammer_allennlp.tradeoff.cost_wishes import (
    check_budget,
    threshold_for_cost,
    threshold_for_milliseconds,
)

DROPS = (0.0, 0.005, 0.01)
"""Recommended for where nothing is wished."""


def add_metric_argument(parser: argparse.ArgumentParser) -> None:
    """`--metric`."""
    parser.add_argument(
        "--metric",
        choices=METRICS,
        default="accuracy",
        help="of what --max-accuracy-drop limits the loss; macro_f1 is the mean F1 of the labels, "
        "where rare ones count as much as frequent ones",
    )


def add_wish_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that each ask for a recommendation, and what belongs to them."""

    def add(name: str, metavar: str, help: str) -> None:
        parser.add_argument(name, type=float, nargs="+", default=[], metavar=metavar, help=help)

    add(
        "--max-accuracy-drop",
        "DROP",
        "recommend the fastest threshold that loses at most this share, 0.01 for one point; by "
        f"default for {', '.join(map(str, DROPS))}",
    )
    add_metric_argument(parser)
    add(
        "--max-recall-drop",
        "DROP",
        "recommend the fastest threshold at which no label loses more than this share of its "
        "recall, 0.02 for two points",
    )
    add(
        "--target-speedup",
        "TIMES",
        "recommend the most accurate threshold that is at least so many times as fast",
    )
    add(
        "--max-milliseconds",
        "MS",
        "recommend the most accurate of the timed thresholds at which a text takes at most so "
        "long in the mean, in batches of --batch-size; measures as --measure does",
    )
    add(
        "--max-cost",
        "COST",
        "recommend the most accurate of the timed thresholds at which a million texts cost at most "
        "so much, by --cpu-hour-price; measures as --measure does",
    )
    parser.add_argument(
        "--cpu-hour-price",
        type=float,
        metavar="PRICE",
        help="what an hour of a CPU core costs, or with --cuda-device of the GPU",
    )
    parser.add_argument(
        "--confidence-level",
        type=float,
        metavar="PROBABILITY",
        help="guarantee drops of accuracy and recall on new data with this probability, e.g. 0.95; "
        "takes data on which neither the model nor its calibration was fitted",
    )


def check_wishes(args: argparse.Namespace) -> None:
    """
    # Raises

    ConfigurationError
        If a wish is none that can be had, naming what was found.
    """
    try:
        for drop in args.max_accuracy_drop:
            check_accuracy_drop(drop)
        for drop in args.max_recall_drop:
            check_accuracy_drop(drop, "recall")
        for target in args.target_speedup:
            check_target_speedup(target)
        for budget in args.max_milliseconds:
            check_budget(budget, "--max-milliseconds")
        for budget in args.max_cost:
            check_budget(budget, "--max-cost")
        if args.cpu_hour_price is not None:
            check_budget(args.cpu_hour_price, "--cpu-hour-price")
        if args.confidence_level is not None:
            check_confidence_level(args.confidence_level)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if bool(args.max_cost) != (args.cpu_hour_price is not None):
        raise ConfigurationError(
            "found one of --max-cost and --cpu-hour-price: wanted both, or none of them"
        )
    if args.confidence_level is not None and args.metric != "accuracy" and _drops(args):
        raise ConfigurationError(
            f"a drop of {args.metric} cannot be guaranteed, because there is no exact test of it: "
            "wanted --metric accuracy, or --max-recall-drop alone, or no --confidence-level"
        )


def is_timed(args: argparse.Namespace) -> bool:
    """Whether a wish takes measurements."""
    return bool(args.max_milliseconds or args.max_cost)


def _drops(args: argparse.Namespace) -> Sequence[float]:
    others = args.max_recall_drop or args.target_speedup or is_timed(args)
    return args.max_accuracy_drop or ([] if others else DROPS)


def recommendations(
    curve: TradeoffCurve, classes: ClassCurve, label_names: Sequence[str], args: argparse.Namespace
) -> List[Recommendation]:
    """For each wish that takes no measurements, which threshold to take."""
    level = args.confidence_level
    return [
        *(
            threshold_for_metric_drop(curve, classes, drop, args.metric, level)
            for drop in _drops(args)
        ),
        *(
            threshold_for_recall_drop(curve, classes, label_names, drop, level)
            for drop in args.max_recall_drop
        ),
        *(
            threshold_for_speedup(curve, target, _quality(classes, args))
            for target in args.target_speedup
        ),
    ]


def timed_recommendations(
    curve: TradeoffCurve,
    classes: ClassCurve,
    model: MultiExitClassifier,
    seconds_per_text: Mapping[float, float],
    args: argparse.Namespace,
) -> List[Recommendation]:
    """For each wish that takes measurements, which of the measured thresholds to take."""
    quality = _quality(classes, args)
    # The price of a GPU's hour is that of the whole.
    num_cpus = torch.get_num_threads() if model.encoder.device.type == "cpu" else 1
    return [
        *(
            threshold_for_milliseconds(curve, seconds_per_text, limit, quality)
            for limit in args.max_milliseconds
        ),
        *(
            threshold_for_cost(
                curve, seconds_per_text, limit, num_cpus, args.cpu_hour_price, quality
            )
            for limit in args.max_cost
        ),
    ]


def _quality(classes: ClassCurve, args: argparse.Namespace) -> Optional[np.ndarray]:
    return classes.macro_f1 if args.metric == "macro_f1" else None

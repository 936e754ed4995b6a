"""Calibrating a model: temperatures, combination, the threshold that it keeps, and the report."""

import json
import logging
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.calibration import (
    ExitCalibration,
    calibrate_exits,
    calibration_report,
)
from sledgehammer_allennlp.engine.combination import COMBINATION_KEY
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.tradeoff import Recommendation, TradeoffCurve, check_accuracy_drop
from sledgehammer_allennlp.tradeoff.class_losses import ClassLoss, class_losses, losses_sentence
from sledgehammer_allennlp.tradeoff.class_wishes import (
    check_metric,
    threshold_for_metric_drop,
    threshold_for_recall_drop,
)
from sledgehammer_allennlp.tradeoff.classes import ClassCurve
from sledgehammer_allennlp.tradeoff.results import aligned, shortest
from sledgehammer_allennlp.training.full_depth import FullDepth, class_curve_of, curve_of

logger = logging.getLogger(__name__)

CALIBRATION_FILE = "calibration.json"
NGRAMS_KEY = "exits.classifiers.0._extra_state"
"""In the weights of a model with an exit over n-grams."""

UNKNOWN_SHARE = 0.05
"""
How many texts of the data a model is calibrated on count as unknown to its exit over n-grams: those
of whose n-grams it has seen least.
"""


def check_threshold_can_be_chosen(model: MultiExitClassifier) -> None:
    """
    # Raises

    ConfigurationError
        If a default threshold would make no difference: the config has one, or no instance exits
        early.
    """
    if model.configured_threshold is not None:
        raise ConfigurationError(
            f"the model's config has confidence_threshold {model.configured_threshold:g}, before "
            "which one chosen by max_accuracy_drop or max_recall_drop would not come: wanted one "
            "of them"
        )
    if model.exit_rule.never_early_by_ensemble:
        raise ConfigurationError(
            'the model answers by an ensemble over "all" exits, with which no instance exits early '
            'and max_accuracy_drop or max_recall_drop mean nothing: wanted "reached", or none'
        )


@dataclass(frozen=True)
class ThresholdWish:
    """
    For which threshold a calibration is asked: what may be lost at it, one of `max_accuracy_drop`,
    counted by `metric`, and `max_recall_drop`, of any label. Both are shares in [0, 1).

    # Raises

    ValueError
        If one is not in its range, or both are given.
    """

    max_accuracy_drop: Optional[float] = None
    max_recall_drop: Optional[float] = None
    metric: str = "accuracy"

    def __post_init__(self) -> None:
        check_metric(self.metric)
        for key, drop in (
            ("max_accuracy_drop", self.max_accuracy_drop),
            ("max_recall_drop", self.max_recall_drop),
        ):
            if drop is not None:
                try:
                    check_accuracy_drop(drop, key.split("_")[1])
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from error
        if self.max_accuracy_drop is not None and self.max_recall_drop is not None:
            raise ValueError("found max_accuracy_drop and max_recall_drop: wanted one of them")

    @property
    def is_any(self) -> bool:
        """Whether a threshold is asked for at all."""
        return self.max_accuracy_drop is not None or self.max_recall_drop is not None

    def recommendation(
        self, curve: TradeoffCurve, classes: ClassCurve, label_names: Sequence[str]
    ) -> Recommendation:
        """The threshold to take, if one is asked for."""
        if self.max_recall_drop is not None:
            return threshold_for_recall_drop(curve, classes, label_names, self.max_recall_drop)
        assert self.max_accuracy_drop is not None
        return threshold_for_metric_drop(curve, classes, self.max_accuracy_drop, self.metric)


@dataclass(frozen=True)
class ModelCalibration:
    """
    What was done to a model: `exits`, their temperatures and combinations; `recommended`, the
    threshold that it keeps from now on, if one was chosen; `num_instances`, of how many; `losses`,
    the labels that lose clearly more recall at that threshold than accuracy drops; and
    `min_seen_share`, of how many of its n-grams an instance must be known to exit at the exit over
    n-grams, if there is one.
    """

    exits: List[ExitCalibration]
    recommended: Optional[Recommendation]
    num_instances: int
    losses: List[ClassLoss]
    min_seen_share: Optional[float]

    def seen_share_sentence(self) -> str:
        """What does not exit at the exit over n-grams; empty if there is none."""
        if self.min_seen_share is None:
            return ""
        return (
            f"Of a text's n-grams, {100 * self.min_seen_share:.0f} % must be known from training "
            f"to exit at the exit over them; {100 * UNKNOWN_SHARE:g} % of these texts have fewer"
        )

    def losses_sentence(self) -> str:
        """Which labels lose most at the chosen threshold; empty if none does, or none is chosen."""
        if self.recommended is None:
            return ""
        return losses_sentence(self.losses, shortest(self.recommended.point.threshold))

    def report(self) -> str:
        """What stands in `calibration.json`."""
        report = calibration_report(self.exits, self.num_instances)
        if self.min_seen_share is not None:
            report["min_seen_share"] = self.min_seen_share
        if self.recommended is not None:
            report[self.recommended.wish] = self.recommended.value
            report["recommended_threshold"] = self.recommended.point.threshold
        return json.dumps(report, indent=2) + "\n"


def calibrate_model(
    model: MultiExitClassifier,
    full_depth: FullDepth,
    wish: Optional[ThresholdWish] = None,
    temperatures_before: Optional[Sequence[float]] = None,
    combine_exits: bool = False,
) -> ModelCalibration:
    """
    Fits a model's temperatures, if told so its combination, and, if there is a wish, chooses its
    default threshold.

    # Parameters

    model : `MultiExitClassifier`
        Gets the temperatures, the combination and the threshold. A combination that it has is
        compared with and given up.
    full_depth : `FullDepth`
    wish : `ThresholdWish`, optional (default = `None`)
        For which threshold; if not given, the default threshold stays.
    temperatures_before : `Sequence[float]`, optional (default = 1 for each exit)
        What the report compares with.
    combine_exits : `bool`, optional (default = `False`)
        Whether the model combines the logits of its exits from now on.

    # Raises

    ValueError
        If logits are not finite numbers.
    """
    logits, labels = full_depth.logits, full_depth.labels
    exits = calibrate_exits(
        logits,
        labels,
        model.exit_layers,
        temperatures_before,
        combine_exits,
        model.combination.weights,
    )
    model.temperatures.copy_(torch.tensor([exit_.temperature for exit_ in exits]))
    combined = [exit_.combination for exit_ in exits if exit_.combination is not None]
    model.combination.weights = [one.weights for one in combined] if combined else None
    ngrams, min_seen_share = model.exits.ngrams, None
    if ngrams is not None and full_depth.seen_share is not None:
        min_seen_share = float(np.quantile(full_depth.seen_share, UNKNOWN_SHARE))
        ngrams.min_seen_share = min_seen_share
    _warn_of_undetermined(exits)
    _warn_of_unused_last_exit(exits)
    recommended = None
    losses: List[ClassLoss] = []
    if wish is not None:
        curve = curve_of(model, full_depth)
        classes = class_curve_of(model, full_depth, curve)
        recommended = wish.recommendation(curve, classes, model.label_names())
        threshold = recommended.point.threshold
        model.exits.default_threshold = threshold
        losses = class_losses(classes, curve.row_of(threshold), model.label_names())
    return ModelCalibration(exits, recommended, len(labels), losses, min_seen_share)


def _warn_of_undetermined(exits: Sequence[ExitCalibration]) -> None:
    for exit_ in exits:
        combination = exit_.combination
        if combination is None and not exit_.is_determined:
            logger.warning(
                "The data does not determine the temperature of exit layer %d, whose accuracy on "
                "it is %.3f: %s. It is set to %g, and this exit's confidences mean little. Use "
                "more data.",
                *(exit_.exit_layer, exit_.accuracy),
                *(exit_.why_undetermined, exit_.temperature),
            )
        if combination is not None and combination.why_undetermined is not None:
            logger.warning(
                "The data does not determine the combination of exit layer %d, whose accuracy on "
                "it is %.3f: %s. This exit's confidences mean little. Use more data.",
                *(exit_.exit_layer, combination.accuracy, combination.why_undetermined),
            )


def _warn_of_unused_last_exit(exits: Sequence[ExitCalibration]) -> None:
    """Combined, such an exit is no worse than earlier ones, which would hide what it lacks."""
    combination = exits[-1].combination
    if combination is None or combination.weights[-1] != 0 or combination.why_undetermined:
        return
    used = [e.exit_layer for e, weight in zip(exits, combination.weights) if weight != 0]
    logger.warning(
        "The last exit, after layer %d, has weight 0 in its own combination: its answers are those "
        "of the exits at layers %s. Alone its accuracy is %.4f, combined %.4f. The layers after "
        "those exits add nothing: train longer, or take a stronger pretrained model.",
        *(exits[-1].exit_layer, ", ".join(map(str, used))),
        *(exits[-1].accuracy, combination.accuracy),
    )


def temperature_lines(exits: Sequence[ExitCalibration]) -> List[str]:
    """
    What temperatures change, as a table with a head: for each exit its accuracy, and temperature,
    NLL and calibration error before and after.
    """
    rows = [["exit layer", "accuracy", "temperature", "", "NLL", "", "calibration error", ""]]
    for c in exits:
        row = [str(c.exit_layer), f"{c.accuracy:.4f}"]
        row += [f"{c.temperature_before:.3f}", f"-> {c.temperature:.3f}"]
        row += [f"{c.nll_before:.4f}", f"-> {c.nll_after:.4f}"]
        rows.append([*row, f"{c.ece_before:.4f}", f"-> {c.ece_after:.4f}"])
    return aligned(rows).split("\n")


def combination_lines(exits: Sequence[ExitCalibration]) -> List[str]:
    """
    What combining changes, as a table with a head: for each exit its weights, and accuracy, NLL and
    calibration error before it (with temperatures, or as it was combined before) and after. Empty
    if exits are not combined.
    """
    rows = [["exit layer", "accuracy", "", "NLL", "", "calibration error", "", "weights of layers"]]
    for exit_ in exits:
        after, before = exit_.combination, exit_.combination_before
        if after is None:
            continue
        old = (exit_.accuracy, exit_.nll_after, exit_.ece_after)
        if before is not None:
            old = (before.accuracy, before.nll, before.ece)
        row = [str(exit_.exit_layer)]
        for was, is_now in zip(old, (after.accuracy, after.nll, after.ece)):
            row += [f"{was:.4f}", f"-> {is_now:.4f}"]
        weights = zip((one.exit_layer for one in exits), after.weights)
        used = [f"{layer}: {weight:.3g}" for layer, weight in weights if weight != 0]
        rows.append([*row, ", ".join(used)])
    if len(rows) == 1:
        return []
    return aligned(rows).split("\n")


def with_calibration_of(model: MultiExitClassifier, state: Dict[str, Any]) -> Dict[str, Any]:
    """
    A state dict, with the temperatures, the combination and the threshold of a model, and what it
    counts as unknown.
    """
    ngrams = model.exits.ngrams
    return {
        **state,
        "temperatures": model.temperatures.detach().cpu().clone(),
        COMBINATION_KEY: model.combination.get_extra_state(),
        "exits._extra_state": model.exits.get_extra_state(),
        **({} if ngrams is None else {NGRAMS_KEY: ngrams.get_extra_state()}),
    }

"""The exit rule: what is predicted at an exit, and whether an instance exits there."""

import math
from dataclasses import dataclass
from typing import Any, List, Optional, Sequence

import torch

from sledgehammer_allennlp.engine.combination import Weights, combine
from sledgehammer_allennlp.engine.ensemble import Ensemble
from sledgehammer_allennlp.engine.prediction import Prediction
from sledgehammer_allennlp.engine.temperature_scaling import scale_by_temperature
from sledgehammer_allennlp.exits.classifiers import ExitScores
from sledgehammer_allennlp.exits.confidence import AtExit, ConfidenceMeasure
from sledgehammer_allennlp.values import is_number, short_repr


@dataclass(frozen=True)
class ExitRule:
    """
    An instance exits at the first exit at which the prediction's confidence is at least the
    threshold, and at the last exit if there is none (Schwartz et al. 2020, section 3).

    # Parameters

    temperatures : `torch.Tensor`
        `(num_exits,)`
    measure : `ConfidenceMeasure`
    threshold : `float`
        In [0, 1]. 1 means the last exit for every instance; 0 the first, save for instances whose
        confidence is not a number.
    ensemble : `Ensemble`, optional (default = `None`)
    combination : `Weights`, optional (default = `None`)
        The weights with which each exit combines its logits with those of earlier exits; then
        temperatures make no difference.
    min_seen_share : `float`, optional (default = `0.0`)
        At the exit over n-grams the confidence of an instance of whose n-grams a smaller share was
        seen in training is 0: a linear model's confidence says nothing of what it has not seen.
    """

    temperatures: torch.Tensor
    measure: ConfidenceMeasure
    threshold: float
    ensemble: Optional[Ensemble] = None
    combination: Optional[Weights] = None
    min_seen_share: float = 0.0

    @property
    def never_early_by_ensemble(self) -> bool:
        """Whether every instance exits at the last exit, whatever the threshold."""
        return self.ensemble is not None and self.ensemble.over == "all"

    @property
    def never_early(self) -> bool:
        """Whether every instance exits at the last exit."""
        return self.threshold >= 1 or self.never_early_by_ensemble

    @property
    def needs_earlier_probs(self) -> bool:
        """Whether a prediction depends on the probabilities of earlier exits."""
        return self.measure.looks_back or self.ensemble is not None

    def looks_back_at(self, earlier: int, exit_index: int) -> bool:
        """Whether a prediction at exit `exit_index` depends on the scores of exit `earlier`."""
        if self.needs_earlier_probs:
            return True
        return self.combination is not None and self.combination[exit_index][earlier] != 0

    def predict(self, scores: Sequence[Optional[ExitScores]], exit_index: int) -> Prediction:
        """
        What is predicted for instances at an exit.

        # Parameters

        scores : `Sequence[Optional[ExitScores]]`
            Of the exits up to this one; `None` for an earlier one at which the rule does not look
            back. If it looks back at none, its own are enough.
        exit_index : `int`

        # Returns

        `Prediction`
            With `logits` and `probs`, `(num_instances, num_labels)`, and `confidence`,
            `(num_instances,)`.
        """
        own = scores[-1]
        assert own is not None
        calibrated = self.calibrated_logits(scores, exit_index)
        logits = own.logits if self.combination is None else calibrated
        probs = calibrated.softmax(-1)
        probs_so_far = [probs]
        if self.needs_earlier_probs:
            probs_so_far = [
                self.calibrated_logits(scores[: k + 1], k).softmax(-1) for k in range(exit_index)
            ] + probs_so_far
        if self.ensemble is not None:
            probs = self.ensemble.average(probs_so_far)
            # A probability that is rounded to 0 would have the logarithm -inf.
            floats = torch.finfo(probs.dtype)
            logits = probs.log().clamp(min=math.log(floats.tiny * floats.eps))
        num_exits = len(self.temperatures)
        at_exit = AtExit(probs, exit_index, num_exits, probs_so_far, own.correctness)
        confidence = self.measure(at_exit)
        if own.seen_share is not None and self.min_seen_share > 0:
            is_unknown = own.seen_share < self.min_seen_share
            confidence = confidence.masked_fill(is_unknown.to(confidence.device), 0.0)
        return Prediction(logits, probs, confidence)

    def calibrated_logits(
        self, scores: Sequence[Optional[ExitScores]], exit_index: int
    ) -> torch.Tensor:
        """
        The calibrated logits of exit `exit_index`, `(num_instances, num_labels)`, up to a number
        added to all of an instance. `scores` are as for `predict`.

        # Raises

        ValueError
            If there are no scores of an earlier exit at which the rule looks back.
        """
        own = scores[-1]
        assert own is not None
        if self.combination is None:
            temperature = self.temperatures[exit_index].to(own.logits.device)
            return scale_by_temperature(own.logits, temperature)
        row = self.combination[exit_index]
        used = [j for j in range(exit_index) if row[j] != 0]
        earlier = [scores[j] for j in used if j < len(scores) - 1]
        logits = [one.logits for one in earlier if one is not None]
        if len(logits) < len(used) or (used and len(scores) != exit_index + 1):
            raise ValueError(
                f"exit {exit_index}, counted from 0, combines its logits with those of exits "
                f"{used}: wanted the scores of these, at their places"
            )
        return combine([*logits, own.logits], [*(row[j] for j in used), row[exit_index]])

    def predict_at_each_exit(self, scores: Sequence[ExitScores]) -> List[Prediction]:
        """What would be predicted for instances at each exit, given the `scores` of all exits."""
        return [
            self.predict(scores[: exit_index + 1], exit_index) for exit_index in range(len(scores))
        ]

    def is_confident(self, prediction: Prediction) -> torch.Tensor:
        """
        Which instances exit with this `prediction`, `(num_instances,)`, of booleans; at an exit
        before the last, and unless the rule is `never_early`.
        """
        # A comparison with NaN is false: what is not a number is never confident.
        return prediction.confidence >= self.threshold


def check_threshold(threshold: Any) -> float:
    """
    # Raises

    ValueError
        If `threshold` is not a number from 0 to 1.
    """
    if not is_number(threshold) or not 0 <= threshold <= 1:
        raise ValueError(
            f"confidence_threshold is {short_repr(threshold)}: wanted a number from 0 to 1"
        )
    return float(threshold)


def check_abstain_below(value: Any) -> Optional[float]:
    """
    # Raises

    ValueError
        If `value` is neither `None` nor a number from 0 to 1.
    """
    if value is None:
        return None
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(
            f"abstain_below is {short_repr(value)}: wanted a number from 0 to 1, or null"
        )
    return float(value)


def abstained(confidence: torch.Tensor, abstain_below: float) -> torch.Tensor:
    """
    Which answers are "none of these", `(num_instances,)`, of booleans: those whose confidence is
    below a number in [0, 1], or not a number.

    # Parameters

    confidence : `torch.Tensor`
        `(num_instances,)`
    abstain_below : `float`
    """
    return ~(confidence >= abstain_below)

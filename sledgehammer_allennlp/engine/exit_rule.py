"""The exit rule: what is predicted at an exit, and whether an instance exits there."""

import math
from dataclasses import dataclass
from typing import Any, List, Optional, Sequence

import torch

from sledgehammer_allennlp.engine.ensemble import Ensemble
from sledgehammer_allennlp.engine.prediction import Prediction, divide_by_temperature
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
    """

    temperatures: torch.Tensor
    measure: ConfidenceMeasure
    threshold: float
    ensemble: Optional[Ensemble] = None

    @property
    def never_early_by_ensemble(self) -> bool:
        """Whether every instance exits at the last exit, whatever the threshold."""
        return self.ensemble is not None and self.ensemble.over == "all"

    @property
    def never_early(self) -> bool:
        """Whether every instance exits at the last exit."""
        return self.threshold >= 1 or self.never_early_by_ensemble

    @property
    def looks_back(self) -> bool:
        """Whether a prediction depends on the scores of earlier exits."""
        return self.measure.looks_back or self.ensemble is not None

    def predict(self, scores: Sequence[ExitScores], exit_index: int) -> Prediction:
        """
        What is predicted for instances at an exit.

        # Parameters

        scores : `Sequence[ExitScores]`
            Of the exits up to this one; if the rule does not look back, its own are enough.
        exit_index : `int`
        """
        logits, correctness = scores[-1]
        temperatures = self.temperatures.to(logits.device)
        probs = divide_by_temperature(logits, temperatures[exit_index]).softmax(-1)
        probs_so_far = [probs]
        if self.looks_back:
            earlier = zip(scores[:-1], temperatures)
            probs_so_far = [
                divide_by_temperature(one.logits, temperature).softmax(-1)
                for one, temperature in earlier
            ] + probs_so_far
        if self.ensemble is not None:
            probs = self.ensemble.average(probs_so_far)
            # That of a probability which is rounded to 0 would be infinite.
            floats = torch.finfo(probs.dtype)
            logits = probs.log().clamp(min=math.log(floats.tiny * floats.eps))
        at_exit = AtExit(probs, exit_index, len(temperatures), probs_so_far, correctness)
        return Prediction(logits, probs, self.measure(at_exit))

    def predict_at_each_exit(self, scores: Sequence[ExitScores]) -> List[Prediction]:
        """What would be predicted for instances at each exit, given the scores of all exits."""
        return [
            self.predict(scores[: exit_index + 1], exit_index) for exit_index in range(len(scores))
        ]

    def is_confident(self, prediction: Prediction) -> torch.Tensor:
        """
        Which instances exit with this prediction, at an exit before the last,
        `(num_instances,)`, of booleans.
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

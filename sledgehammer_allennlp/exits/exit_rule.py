"""What is answered at an exit, and whether that is good enough to leave."""

import math
from dataclasses import dataclass
from typing import Any, List, NamedTuple, Optional, Sequence

import torch

from sledgehammer_allennlp.exits.building import is_number
from sledgehammer_allennlp.exits.classifiers import Said
from sledgehammer_allennlp.exits.confidence import AtExit, ConfidenceMeasure

ENSEMBLES = ("reached", "all")


@dataclass(frozen=True)
class Ensemble:
    """
    Answers by a weighted average of exits' calibrated probabilities.

    # Parameters

    over : `str`
        `"reached"`: of the exits up to the one taken; confidence is that of the average. `"all"`:
        of all exits, so that nobody leaves early.
    weights : `List[float]`
        For each exit.
    """

    over: str
    weights: List[float]

    def average(self, probs: Sequence[torch.Tensor]) -> torch.Tensor:
        """
        The average of what the first exits say, each `(num_texts, num_labels)`, but for what is
        not a number. Where nothing that has a weight is left, what the last of them says.
        """
        stacked = torch.stack(list(probs))  # (exits, texts, labels)
        weights = stacked.new_tensor(self.weights[: len(probs)])[:, None, None]
        weights = weights * stacked.isnan().logical_not()
        total = weights.sum(0)
        average = (weights * stacked.nan_to_num()).sum(0) / total
        return average.where(total > 0, stacked[-1])


def over_temperature(logits: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """
    Logits, `(num_texts, num_labels)`, over their temperature, up to a number for each text that
    makes no difference to probabilities: the largest is 0, so that none overflows upwards, however
    large logits are and however low the temperature.
    """
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def most_probable(logits: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """
    The label of each text, `(num_texts,)`, from what an `Answer` says. Of labels whose
    probabilities are rounded to the same number, by a high temperature, that of the largest logit.
    """
    is_below = probs != probs.amax(-1, keepdim=True)
    return logits.masked_fill(is_below, -math.inf).argmax(-1)


class Answer(NamedTuple):
    """
    An answer to each text: `logits` before temperature (with an ensemble, the logarithms of
    `probs`), calibrated `probs`, both `(num_texts, num_labels)`, and `confidence`, `(num_texts,)`.
    """

    logits: torch.Tensor
    probs: torch.Tensor
    confidence: torch.Tensor


@dataclass(frozen=True)
class ExitRule:
    """
    A text leaves at the first exit at which the answer's confidence is at least the threshold, and
    at the last exit if there is none.

    # Parameters

    temperatures : `torch.Tensor`
        `(num_exits,)`
    measure : `ConfidenceMeasure`
    threshold : `float`
        In [0, 1]. 1 means the last exit for every text; 0 the first, save for texts whose
        confidence is not a number.
    ensemble : `Ensemble`, optional (default = `None`)
    """

    temperatures: torch.Tensor
    measure: ConfidenceMeasure
    threshold: float
    ensemble: Optional[Ensemble] = None

    @property
    def never_early_by_ensemble(self) -> bool:
        """Whether every text leaves at the last exit, whatever the threshold."""
        return self.ensemble is not None and self.ensemble.over == "all"

    @property
    def never_early(self) -> bool:
        """Whether every text leaves at the last exit."""
        return self.threshold >= 1 or self.never_early_by_ensemble

    @property
    def looks_back(self) -> bool:
        """Whether an answer depends on what earlier exits said."""
        return self.measure.looks_back or self.ensemble is not None

    def answer(self, said: Sequence[Said], exit_index: int) -> Answer:
        """
        The answer to texts at an exit.

        # Parameters

        said : `Sequence[Said]`
            What the exits up to this one say; if the rule does not look back, this one is enough.
        exit_index : `int`
        """
        logits, correctness = said[-1]
        temperatures = self.temperatures.to(logits.device)
        probs = over_temperature(logits, temperatures[exit_index]).softmax(-1)
        probs_so_far = [probs]
        if self.looks_back:
            earlier = zip(said[:-1], temperatures)
            probs_so_far = [
                over_temperature(one.logits, temperature).softmax(-1)
                for one, temperature in earlier
            ] + probs_so_far
        if self.ensemble is not None:
            probs = self.ensemble.average(probs_so_far)
            # That of a probability which is rounded to 0 would be infinite.
            floats = torch.finfo(probs.dtype)
            logits = probs.log().clamp(min=math.log(floats.tiny * floats.eps))
        at_exit = AtExit(probs, exit_index, len(temperatures), probs_so_far, correctness)
        return Answer(logits, probs, self.measure(at_exit))

    def answer_at_each_exit(self, said: Sequence[Said]) -> List[Answer]:
        """What would be answered to texts if they left at each exit, of which all say something."""
        return [self.answer(said[: exit_index + 1], exit_index) for exit_index in range(len(said))]


def check_ensemble(setting: Any, num_exits: int) -> Optional[Ensemble]:
    """
    An ensemble from its setting in a config: `None`, `"reached"`, `"all"`, or a dictionary with
    keys `over` and `weights`.

    # Raises

    ValueError
        If it is something else, or weights are not a number from 0 for each exit, some above 0.
    """
    if setting is None:
        return None
    wanted = (
        f"wanted null, one of {', '.join(ENSEMBLES)}, or with a weight for each of the {num_exits} "
        'exits {"over": "reached", "weights": [1, …]}'
    )
    settings = {"over": setting} if isinstance(setting, str) else setting
    if not isinstance(settings, dict) or settings.get("over") not in ENSEMBLES:
        raise ValueError(f"ensemble is {setting!r}: {wanted}")
    if set(settings) - {"over", "weights"}:
        raise ValueError(f"ensemble has the keys {', '.join(settings)}: {wanted}")
    weights = settings.get("weights", [1.0] * num_exits)
    is_list = isinstance(weights, list) and len(weights) == num_exits
    if not is_list or not all(_is_weight(weight) for weight in weights) or not sum(weights):
        raise ValueError(f"the ensemble's weights are {weights!r}: {wanted}")
    return Ensemble(settings["over"], [float(weight) for weight in weights])


def _is_weight(value: Any) -> bool:
    return is_number(value) and 0 <= value < float("inf")

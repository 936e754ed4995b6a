"""The output of early exit."""

from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Sequence

import torch

from sledgehammer_allennlp.engine.combination import combine
from sledgehammer_allennlp.exits.classifiers import ExitScores


class ExitRecord(NamedTuple):
    """
    Which instances reached an exit, `instances`, `(num_reached,)`, in no particular order, and
    their `scores` there.
    """

    instances: torch.Tensor
    scores: ExitScores

    def scores_in_order(self) -> ExitScores:
        """The scores, in the order of the instances."""
        return self.scores.select(self.instances.argsort())


def combine_records(records: Sequence[ExitRecord], weights: Sequence[float]) -> torch.Tensor:
    """
    The calibrated logits of the last of some exits for the instances that reached it,
    `(num_reached, num_labels)`, in the order of its record.

    # Parameters

    records : `Sequence[ExitRecord]`
        Of the exits up to this one.
    weights : `Sequence[float]`
        Of the same exits, and perhaps of later ones, which make no difference.
    """
    *earlier, own = records
    logits, used = [], []
    for record, weight in zip(earlier, weights):
        if weight != 0:
            # Who reached an exit has reached those before it.
            places = record.instances.sort()
            here = places.indices[torch.searchsorted(places.values, own.instances)]
            logits.append(record.scores.logits[here])
            used.append(weight)
    return combine([*logits, own.scores.logits], [*used, weights[len(earlier)]])


class WindowsRead(NamedTuple):
    """
    Of texts that are read in windows: the `numbers` of windows that each has, `(num_texts,)`, on
    the CPU; and of those that were read, at which exit they exited, how many each, `exits`,
    `(num_texts, num_exits)`.
    """

    numbers: torch.Tensor
    exits: torch.Tensor


@dataclass
class EarlyExitOutput:
    """
    What `run_early_exit` gives, in the order of its input.

    # Parameters

    logits : `torch.Tensor`
        `(num_instances, num_labels)`, of the exit at which each instance exited, before
        temperature; with a combination the calibrated logits; with an ensemble, the logarithms of
        `probs`.
    probs : `torch.Tensor`
        `(num_instances, num_labels)`, softmax(logits / temperature) of that exit, with a
        combination softmax(logits), or the ensemble's.
    confidence : `torch.Tensor`
        `(num_instances,)`, of that exit.
    exit_index : `torch.Tensor`
        `(num_instances,)`, which exit, counted from 0.
    exit_records : `List[ExitRecord]`
        For each exit, which instances reached it, and their scores. Empty unless `record_exits`.
    windows : `WindowsRead`, optional (default = `None`)
        Of texts that are read in windows. Of one of which several windows were read, `logits` are
        the mean of the logarithms of their probabilities, and `exit_index` is that of the last.
    """

    logits: torch.Tensor
    probs: torch.Tensor
    confidence: torch.Tensor
    exit_index: torch.Tensor
    exit_records: List[ExitRecord]
    windows: Optional[WindowsRead] = None

    @classmethod
    def joined(cls, outputs: "Sequence[EarlyExitOutput]") -> "EarlyExitOutput":
        """
        The outputs of several batches, one after the other.

        # Parameters

        outputs : `Sequence[EarlyExitOutput]`
            Without exit records and windows.
        """
        return cls(
            torch.cat([output.logits for output in outputs]),
            torch.cat([output.probs for output in outputs]),
            torch.cat([output.confidence for output in outputs]),
            torch.cat([output.exit_index for output in outputs]),
            [],
        )

    def as_ordinary_tensors(self) -> "EarlyExitOutput":
        """Copies that can be changed and used with gradients, as those of inference mode cannot."""
        return EarlyExitOutput(
            self.logits.clone(),
            self.probs.clone(),
            self.confidence.clone(),
            self.exit_index.clone(),
            [
                ExitRecord(instances.clone(), scores.map(torch.clone))
                for instances, scores in self.exit_records
            ],
        )

"""The output of early exit."""

from dataclasses import dataclass
from typing import List, NamedTuple

import torch

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


@dataclass
class EarlyExitOutput:
    """
    What `run_early_exit` gives, in the order of its input.

    # Parameters

    logits : `torch.Tensor`
        `(num_instances, num_labels)`, of the exit at which each instance exited, before
        temperature; with an ensemble, the logarithms of `probs`.
    probs : `torch.Tensor`
        `(num_instances, num_labels)`, softmax(logits / temperature) of that exit, or the
        ensemble's.
    confidence : `torch.Tensor`
        `(num_instances,)`, of that exit.
    exit_index : `torch.Tensor`
        `(num_instances,)`, which exit, counted from 0.
    exit_records : `List[ExitRecord]`
        For each exit, which instances reached it, and their scores. Empty unless asked for.
    """

    logits: torch.Tensor
    probs: torch.Tensor
    confidence: torch.Tensor
    exit_index: torch.Tensor
    exit_records: List[ExitRecord]

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

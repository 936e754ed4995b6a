"""Which instances exited where, decided exit by exit, and with what prediction."""

from typing import List, Optional, Sequence, Tuple

import torch

from sledgehammer_allennlp.engine.exit_rule import ExitRule
from sledgehammer_allennlp.engine.output import EarlyExitOutput, ExitRecord
from sledgehammer_allennlp.exits.classifiers import (
    ExitClassifiers,
    ExitScores,
    concatenate_scores,
)


class ExitDecisions:
    """
    Decides for a batch at an exit which instances exit there, and keeps their predictions.

    # Parameters

    exits : `ExitClassifiers`
    rule : `ExitRule`
    record_exits : `bool`
        Whether to keep every exit's scores of all instances that reach it.
    forced_exits : `torch.Tensor`, optional
        `(num_instances,)`, at which exit each instance exits, counted from 0, whatever its
        confidence.
    """

    def __init__(
        self,
        exits: ExitClassifiers,
        rule: ExitRule,
        record_exits: bool,
        forced_exits: Optional[torch.Tensor],
    ) -> None:
        self.needs_earlier_scores = rule.looks_back or exits.use_previous_logits
        """Whether what happens at an exit depends on the scores of those before it."""
        self._rule = rule
        self._num_labels = exits.num_labels
        self._last_exit = len(exits.exit_layers) - 1
        self._record_exits = record_exits
        self._forced_exits = forced_exits
        self._records: List[List[ExitRecord]] = [[] for _ in exits.exit_layers]
        self._exited: List[Tuple[torch.Tensor, ...]] = []

    def is_last(self, exit_index: int) -> bool:
        """Whether every instance that reaches an exit exits there."""
        return exit_index == self._last_exit

    def none_exits_at(self, exit_index: int) -> bool:
        """Whether no instance exits at an exit, whatever its scores."""
        may_exit_early = self._forced_exits is not None or not self._rule.never_early
        return not may_exit_early and not self.is_last(exit_index)

    def needs_scores_of(self, exit_index: int) -> bool:
        """Whether the scores of an exit make any difference."""
        is_used = self._record_exits or self.needs_earlier_scores
        return is_used or not self.none_exits_at(exit_index)

    def decide(
        self, exit_index: int, instances: torch.Tensor, scores: Sequence[ExitScores]
    ) -> Optional[torch.Tensor]:
        """
        Has instances exit that may, and keeps their predictions.

        # Parameters

        exit_index : `int`
        instances : `torch.Tensor`
            `(num_reached,)`, which instances of the input reached this exit.
        scores : `Sequence[ExitScores]`
            Their scores at this exit, last, and before it those of earlier exits, if
            `needs_earlier_scores`.

        # Returns

        `torch.Tensor`, optional
            `(num_active,)`, which of them stay active, as places among them; `None` if all do.
        """
        if self._record_exits:
            self._records[exit_index].append(ExitRecord(instances, scores[-1]))
        if self.none_exits_at(exit_index):
            return None
        prediction = self._rule.predict(scores, exit_index)
        predicted = (instances, *prediction, torch.full_like(instances, exit_index))
        if self.is_last(exit_index):
            self._exited.append(predicted)
            return instances[:0]
        if self._forced_exits is None:
            exits_here = self._rule.is_confident(prediction)
        else:
            exits_here = self._forced_exits.to(instances.device)[instances] == exit_index
        exiting = exits_here.nonzero().squeeze(1)
        if exiting.numel() == 0:
            return None
        if exiting.numel() == exits_here.numel():
            self._exited.append(predicted)
            return instances[:0]
        self._exited.append(tuple(part.index_select(0, exiting) for part in predicted))
        return exits_here.logical_not().nonzero().squeeze(1)

    def output(self, device: torch.device) -> EarlyExitOutput:
        """The predictions for all instances that exited, in the order of the input."""
        no_logits = self._rule.temperatures.new_zeros(0, self._num_labels, device=device)
        no_instances = torch.zeros(0, dtype=torch.long, device=device)
        nothing = (no_instances, no_logits, no_logits, no_logits.sum(1), no_instances)
        instances, *predicted = (
            torch.cat([piece.to(device) for piece in pieces])
            for pieces in zip(*self._exited, nothing)
        )
        order = instances.argsort()
        logits, probs, confidence, exit_index = (part[order] for part in predicted)
        records = []
        if self._record_exits:
            none_reached = ExitRecord(no_instances, ExitScores(no_logits))
            records = [
                _concatenate_records(at_exit or [none_reached], device) for at_exit in self._records
            ]
        return EarlyExitOutput(logits, probs, confidence, exit_index, records)


def _concatenate_records(records: List[ExitRecord], device: torch.device) -> ExitRecord:
    return ExitRecord(
        torch.cat([record.instances.to(device) for record in records]),
        concatenate_scores([record.scores.map(lambda part: part.to(device)) for record in records]),
    )

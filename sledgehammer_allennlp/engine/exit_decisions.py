"""Which instances exited where, decided exit by exit, and with what prediction."""

from typing import List, Optional, Sequence, Tuple

import torch

from sledgehammer_allennlp.engine.exit_rule import ExitRule
from sledgehammer_allennlp.engine.output import EarlyExitOutput, ExitRecord
from sledgehammer_allennlp.engine.prediction import Prediction
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
        self._rule = rule
        self._uses_previous_logits = exits.use_previous_logits
        self._num_labels = exits.num_labels
        self._last_exit = len(exits.exit_layers) - 1
        self._record_exits = record_exits
        self._forced_exits = forced_exits
        self._may_exit_early = forced_exits is not None or not rule.never_early
        self._records: List[List[ExitRecord]] = [[] for _ in exits.exit_layers]
        self._exited: List[Tuple[torch.Tensor, ...]] = []

    def is_last(self, exit_index: int) -> bool:
        """Whether every instance that reaches an exit exits there."""
        return exit_index == self._last_exit

    def may_exit_at(self, exit_index: int) -> bool:
        """Whether an instance may exit at an exit, depending on its scores."""
        return self._may_exit_early or self.is_last(exit_index)

    def needs_scores_of(self, exit_index: int) -> bool:
        """Whether the scores of an exit make any difference."""
        return (
            self._record_exits or self.may_exit_at(exit_index) or self._is_needed_later(exit_index)
        )

    def for_later_exits(self, exit_index: int, scores: ExitScores) -> Optional[ExitScores]:
        """The scores of an exit, if what happens at a later one depends on them."""
        return scores if self._is_needed_later(exit_index) else None

    def _is_needed_later(self, exit_index: int) -> bool:
        return self._uses_previous_logits or any(
            self.may_exit_at(k) and self._rule.looks_back_at(exit_index, k)
            for k in range(exit_index + 1, self._last_exit + 1)
        )

    def decide(
        self, exit_index: int, instances: torch.Tensor, scores: Sequence[Optional[ExitScores]]
    ) -> Optional[torch.Tensor]:
        """
        Exits the instances that the rule, or `forced_exits`, selects, and keeps their predictions.

        # Parameters

        exit_index : `int`
        instances : `torch.Tensor`
            `(num_reached,)`, which instances of the input reached this exit.
        scores : `Sequence[Optional[ExitScores]]`
            Their scores at this exit, last, and before it what `for_later_exits` gave for each
            earlier one.

        # Returns

        `torch.Tensor`, optional
            `(num_active,)`, positions in `instances` of those still active; `None` if all are.
        """
        if self._record_exits:
            own = scores[-1]
            assert own is not None
            self._records[exit_index].append(ExitRecord(instances, own))
        if not self.may_exit_at(exit_index):
            return None
        prediction = self._rule.predict(scores, exit_index)
        predicted = (instances, *prediction, torch.full_like(instances, exit_index))
        if self.is_last(exit_index):
            self._keep(predicted)
            return instances[:0]
        exits_here = self._exits_here(prediction, instances, exit_index)
        exiting = exits_here.nonzero().squeeze(1)
        if exiting.numel() == 0:
            return None
        if exiting.numel() == exits_here.numel():
            self._keep(predicted)
            return instances[:0]
        self._keep(tuple(part.index_select(0, exiting) for part in predicted))
        return exits_here.logical_not().nonzero().squeeze(1)

    def _exits_here(
        self, prediction: Prediction, instances: torch.Tensor, exit_index: int
    ) -> torch.Tensor:
        """Which instances exit at an exit before the last, `(num_reached,)`, of booleans."""
        if self._forced_exits is None:
            return self._rule.is_confident(prediction)
        return self._forced_exits.to(instances.device)[instances] == exit_index

    def _keep(self, predicted: Tuple[torch.Tensor, ...]) -> None:
        """Keeps instances that exit: which, and their logits, probabilities, confidence, exit."""
        self._exited.append(predicted)

    def output(self, device: torch.device) -> EarlyExitOutput:
        """The predictions for all instances that exited, in the order of the input."""
        if len(self._exited) == 1 and not self._record_exits and self._exited[0][0].numel() == 1:
            only = [part.to(device) for part in self._exited[0]]
            return EarlyExitOutput(only[1], only[2], only[3], only[4], [])
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

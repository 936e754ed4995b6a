"""What is measured of a model with exits."""

from typing import Dict, List, Mapping, Optional, Sequence

import torch
from allennlp.nn.util import dist_reduce_sum
from allennlp.training.metrics import Metric

from sledgehammer_allennlp.engine import EarlyExitOutput, most_probable
from sledgehammer_allennlp.engine.combination import Weights
from sledgehammer_allennlp.engine.output import combine_records


@Metric.register("exits")
class ExitMetrics(Metric):
    """
    Accuracy, the accuracy of each exit, where instances exit, and what it costs.

    `get_metric` gives

    - `accuracy`: of the predictions, at the current threshold;
    - `accuracy_layer_<i>`: of the exit at layer i, by its combination if there is one, only where
      every instance reached it;
    - `mean_exit_accuracy`: the mean of those, only where every instance reached every exit;
    - `average_exit_layer`, `exit_rate_layer_<i>`: where instances left; -1 is the layer of an exit
      before layer 0;
    - `layer_equivalents`: the mean cost of an instance in full transformer layers.

    In training no instance exits early, so only accuracies are given; `accuracy` is that of the
    last exit, over the batches that it was run for.

    Registered as a `Metric` with name "exits".

    # Parameters

    exit_layers : `List[int]`
    costs : `List[float]`
        The layer-equivalents of exiting at each exit.
    """

    supports_distributed = True

    def __init__(self, exit_layers: List[int], costs: List[float]) -> None:
        self._exit_layers = exit_layers
        self._costs = costs
        self.reset()

    def reset(self) -> None:
        num_exits = len(self._exit_layers)
        self._num_instances = 0.0
        self._num_predicted = 0.0
        self._num_correct = 0.0
        self._num_reached = [0.0] * num_exits
        self._num_correct_at_exit = [0.0] * num_exits
        self._num_exited = [0.0] * num_exits

    def __call__(
        self,
        predictions: torch.Tensor,
        gold_labels: torch.Tensor,
        mask: Optional[torch.Tensor] = None,
    ) -> None:
        """
        Adds a batch of which every exit is known and no instance exited early.

        # Parameters

        predictions : `torch.Tensor`
            The logits, `(num_exits, batch_size, num_labels)`.
        gold_labels : `torch.Tensor`
            `(batch_size,)`
        mask
            Not used.
        """
        self.add_exits(dict(enumerate(predictions)), gold_labels)

    def add_exits(self, logits: Mapping[int, torch.Tensor], gold_labels: torch.Tensor) -> None:
        """
        Adds a batch of which some exits are known and no instance exited early.

        # Parameters

        logits : `Mapping[int, torch.Tensor]`
            By exit, counted from 0, `(batch_size, num_labels)`.
        gold_labels : `torch.Tensor`
            `(batch_size,)`
        """
        num_exits = len(self._exit_layers)
        reached, correct = gold_labels.new_zeros(2, num_exits)
        for k, exit_logits in logits.items():
            reached[k] = gold_labels.numel()
            correct[k] = (exit_logits.detach().argmax(-1) == gold_labels).sum()
        size = gold_labels.new_tensor([gold_labels.numel()])
        self._add(size, reached[-1:], correct[-1:], reached, correct, torch.zeros_like(correct))

    def add_early_exit(
        self,
        output: EarlyExitOutput,
        gold_labels: torch.Tensor,
        combination: Optional[Weights] = None,
    ) -> None:
        """
        Adds a batch whose instances exited where they were confident.

        # Parameters

        output : `EarlyExitOutput`
        gold_labels : `torch.Tensor`
            `(batch_size,)`
        combination : `Weights`, optional (default = `None`)
            With which the exits' predictions are made.
        """
        num_exits = len(self._exit_layers)
        reached = gold_labels.new_zeros(num_exits)
        correct_at_exit = gold_labels.new_zeros(num_exits)
        for k, (instances, scores) in enumerate(output.exit_records):
            logits = scores.logits
            if combination is not None:
                logits = combine_records(output.exit_records[: k + 1], combination[k])
            reached[k] = instances.numel()
            correct_at_exit[k] = (logits.argmax(-1) == gold_labels[instances]).sum()
        correct = (most_probable(output.logits, output.probs) == gold_labels).sum().unsqueeze(0)
        exited = output.exit_index.bincount(minlength=num_exits)
        size = gold_labels.new_tensor([gold_labels.numel()])
        self._add(size, size, correct, reached, correct_at_exit, exited)

    def _add(self, *counts: torch.Tensor) -> None:
        # All counts in one tensor: one transfer from the device, one reduction among workers.
        added = dist_reduce_sum(torch.cat(counts).double()).tolist()
        num_exits = len(self._exit_layers)
        self._num_instances += added[0]
        self._num_predicted += added[1]
        self._num_correct += added[2]
        sums: Sequence[List[float]] = (
            self._num_reached,
            self._num_correct_at_exit,
            self._num_exited,
        )
        for position, value in enumerate(added[3:]):
            sums[position // num_exits][position % num_exits] += value

    def get_metric(self, reset: bool = False) -> Dict[str, float]:
        """The metrics of everything added since the last reset; none if nothing was."""
        metrics = self._metrics() if self._num_instances else {}
        if reset:
            self.reset()
        return metrics

    def _metrics(self) -> Dict[str, float]:
        metrics = {}
        if self._num_predicted:
            metrics["accuracy"] = self._num_correct / self._num_predicted
        of_exits = []
        for layer, reached, correct in zip(
            self._exit_layers, self._num_reached, self._num_correct_at_exit
        ):
            if reached == self._num_instances:
                of_exits.append(correct / reached)
                metrics[f"accuracy_layer_{layer}"] = correct / reached
        if len(of_exits) == len(self._exit_layers):
            metrics["mean_exit_accuracy"] = sum(of_exits) / len(of_exits)
        num_exited = sum(self._num_exited)
        if num_exited:
            rates = [exited / num_exited for exited in self._num_exited]
            metrics["average_exit_layer"] = sum(
                rate * layer for rate, layer in zip(rates, self._exit_layers)
            )
            for layer, rate in zip(self._exit_layers, rates):
                metrics[f"exit_rate_layer_{layer}"] = rate
            metrics["layer_equivalents"] = sum(
                rate * cost for rate, cost in zip(rates, self._costs)
            )
        return metrics

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
    Accuracy, macro F1, the accuracy of each exit, where instances exit, and what it costs.

    `get_metric` gives

    - `accuracy`: of the predictions, at the current threshold;
    - `macro_f1`: of the predictions, the mean F1 over labels that the data or the predictions have
      (scikit-learn's `f1_score` with `average="macro"`);
    - `accuracy_layer_<i>`: of the exit at layer i, by its combination if there is one, only where
      every instance reached it;
    - `mean_exit_accuracy`: the mean of those, only where every instance reached every exit;
    - `average_exit_layer`, `exit_rate_layer_<i>`: where instances left; -1 is the layer of an exit
      before layer 0;
    - `layer_equivalents`: the mean cost of an instance in full transformer layers; of one that is
      read in windows the sum of those that were read, in layers over a window;
    - `windows_read`: of instances that are read in windows, the mean number of those that were;
    - `abstain_rate`, `accuracy_answered`: where answers may be "none of these", the share that is,
      and the accuracy of the others, if there are any. `accuracy` is of all, by the best guess.

    In training no instance exits early, so only accuracies and macro F1 are given; `accuracy` and
    `macro_f1` are those of the last exit, over the batches that it was run for.

    Registered as a `Metric` with name "exits".

    # Parameters

    exit_layers : `List[int]`
    costs : `List[float]`
        The layer-equivalents of exiting at each exit.
    num_labels : `int`
    """

    supports_distributed = True

    def __init__(self, exit_layers: List[int], costs: List[float], num_labels: int) -> None:
        self._exit_layers = exit_layers
        self._costs = costs
        self._num_labels = num_labels
        self.reset()

    def reset(self) -> None:
        num_exits = len(self._exit_layers)
        self._num_instances = 0.0
        self._num_reached = [0.0] * num_exits
        self._num_correct_at_exit = [0.0] * num_exits
        self._num_exited = [0.0] * num_exits
        self._num_windows_exited = [0.0] * num_exits  # instances that are not read so count as one
        # Of each label: instances that are predicted rightly, and instances plus predictions.
        self._num_right_of_label = [0.0] * self._num_labels
        self._num_of_label = [0.0] * self._num_labels
        # Where answers may be "none of these": how many there were, are not, and are then right.
        self._num_answered = [0.0] * 3

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
        last = logits.get(num_exits - 1)
        labels = gold_labels if last is not None else gold_labels[:0]
        predicted = labels if last is None else last.detach().argmax(-1)
        reached, correct = gold_labels.new_zeros(2, num_exits)
        for k, exit_logits in logits.items():
            reached[k] = gold_labels.numel()
            correct[k] = (exit_logits.detach().argmax(-1) == gold_labels).sum()
        size = gold_labels.new_tensor([gold_labels.numel()])
        exited, answered = torch.zeros_like(correct), gold_labels.new_zeros(3)
        self._add(size, predicted, labels, reached, correct, exited, exited, answered)

    def add_early_exit(
        self,
        output: EarlyExitOutput,
        gold_labels: torch.Tensor,
        combination: Optional[Weights] = None,
        abstains: Optional[torch.Tensor] = None,
    ) -> None:
        """
        Adds a batch whose instances exited where they were confident.

        # Parameters

        output : `EarlyExitOutput`
        gold_labels : `torch.Tensor`
            `(batch_size,)`
        combination : `Weights`, optional (default = `None`)
            With which the exits' predictions are made.
        abstains : `torch.Tensor`, optional (default = `None`)
            `(batch_size,)`, which answers are "none of these"; `None` if none may be.
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
        predicted = most_probable(output.logits, output.probs)
        exited = output.exit_index.bincount(minlength=num_exits)
        windows_exited = exited if output.windows is None else output.windows.exits.sum(0)
        size = gold_labels.new_tensor([gold_labels.numel()])
        answered = gold_labels.new_zeros(3)
        if abstains is not None:
            is_right = ~abstains & (predicted == gold_labels)
            answered = torch.stack([size[0], (~abstains).sum(), is_right.sum()])
        reached_and_right = reached, correct_at_exit
        exits = exited, windows_exited
        self._add(size, predicted, gold_labels, *reached_and_right, *exits, answered)

    def _add(
        self,
        size: torch.Tensor,
        predicted: torch.Tensor,
        labels: torch.Tensor,
        *others: torch.Tensor,
    ) -> None:
        """`labels` are of the instances that have a prediction, `size` says how many there are."""
        of_label, predictions, right = (
            which.bincount(minlength=self._num_labels)
            for which in (labels, predicted, labels[predicted == labels])
        )
        # All counts in one tensor: one transfer from the device, one reduction among workers.
        counts = torch.cat([size, *others, right, of_label + predictions])
        added = iter(dist_reduce_sum(counts.double()).tolist())
        self._num_instances += next(added)
        sums: Sequence[List[float]] = (
            self._num_reached,
            self._num_correct_at_exit,
            self._num_exited,
            self._num_windows_exited,
            self._num_answered,
            self._num_right_of_label,
            self._num_of_label,
        )
        for numbers in sums:
            for position in range(len(numbers)):
                numbers[position] += next(added)

    def get_metric(self, reset: bool = False) -> Dict[str, float]:
        """The metrics of everything added since the last reset; none if nothing was."""
        metrics = self._metrics() if self._num_instances else {}
        if reset:
            self.reset()
        return metrics

    def _metrics(self) -> Dict[str, float]:
        metrics = {}
        of_labels = [
            (right, either)
            for right, either in zip(self._num_right_of_label, self._num_of_label)
            if either
        ]
        if of_labels:
            # Each instance that has a prediction counts as one of its label, and as one predicted.
            num_predicted = sum(either for _, either in of_labels) / 2
            metrics["accuracy"] = sum(right for right, _ in of_labels) / num_predicted
            f1 = [2 * right / either for right, either in of_labels]
            metrics["macro_f1"] = sum(f1) / len(f1)
        may_abstain, num_answered, num_right = self._num_answered
        if may_abstain:
            metrics["abstain_rate"] = 1 - num_answered / may_abstain
            if num_answered:
                metrics["accuracy_answered"] = num_right / num_answered
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
            metrics["layer_equivalents"] = (
                sum(number * cost for number, cost in zip(self._num_windows_exited, self._costs))
                / num_exited
            )
            if sum(self._num_windows_exited) != num_exited:
                metrics["windows_read"] = sum(self._num_windows_exited) / num_exited
        return metrics

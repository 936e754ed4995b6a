"""The scores of all exits for labelled data, computed once at full depth."""

from dataclasses import dataclass
from typing import Any, List, Optional, Tuple, Union

import numpy as np
import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader
from allennlp.nn.util import move_to_device

from sledgehammer_allennlp.engine import most_probable
from sledgehammer_allennlp.exits import ExitScores, concatenate_scores
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.tradeoff import TradeoffCurve, tradeoff_curve
from sledgehammer_allennlp.tradeoff.better_exit import BetterExit, find_better_exit
from sledgehammer_allennlp.tradeoff.classes import ClassCurve, class_curve


@dataclass(frozen=True)
class FullDepth:
    """
    # Parameters

    logits : `np.ndarray`
        Of every exit, `(num_exits, num_instances, num_labels)`, before temperature.
    correctness : `List[Optional[np.ndarray]]`
        Of each exit that has a head for it, the probability that it is right, `(num_instances,)`.
    labels : `np.ndarray`
        `(num_instances,)`
    seen_share : `np.ndarray`, optional (default = `None`)
        `(num_instances,)`, of an exit over n-grams: the share of n-grams that it was fitted to.
    """

    logits: np.ndarray
    correctness: List[Optional[np.ndarray]]
    labels: np.ndarray
    seen_share: Optional[np.ndarray] = None

    def scores(self) -> List[ExitScores]:
        """The scores of each exit."""
        first = None if self.seen_share is None else torch.from_numpy(self.seen_share)
        return [
            ExitScores(
                torch.from_numpy(logits),
                None if correctness is None else torch.from_numpy(correctness),
                first if exit_index == 0 else None,
            )
            for exit_index, (logits, correctness) in enumerate(zip(self.logits, self.correctness))
        ]


def run_at_full_depth(
    model: MultiExitClassifier,
    data_loader: DataLoader,
    device: Union[torch.device, int],
    description: str = "calibrating",
) -> FullDepth:
    """
    The scores of every exit for all labelled data, of all workers where there are several.

    # Parameters

    model : `MultiExitClassifier`
        Put into evaluation mode.
    data_loader : `DataLoader`
        Indexed, of instances with labels.
    device : `torch.device` or `int`
        Where the model is.
    description : `str`, optional
        Of the progress bar.

    # Raises

    ConfigurationError
        If there are no instances, or some without label.
    """
    model.eval()
    scores: List[List[ExitScores]] = []
    labels: List[np.ndarray] = []
    with torch.no_grad():
        for batch in Tqdm.tqdm(data_loader, desc=description):
            if "label" not in batch:
                raise ConfigurationError("found instances without label: wanted labelled data")
            batch = move_to_device(batch, device)
            scores.append(
                [
                    at_exit.map(lambda part: part.float().cpu())
                    for at_exit in model.all_exits(batch["tokens"])
                ]
            )
            labels.append(batch["label"].cpu().numpy())
    if is_distributed():
        shares: List[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(shares, (scores, labels))
        scores = [batch for share in shares for batch in share[0]]
        labels = [batch for share in shares for batch in share[1]]
    if not labels:
        raise ConfigurationError("found no instances: wanted labelled data")
    together = [concatenate_scores(batches) for batches in zip(*scores)]
    return FullDepth(
        logits=np.stack([at_exit.logits.numpy() for at_exit in together]),
        correctness=[
            None if at_exit.correctness is None else at_exit.correctness.numpy()
            for at_exit in together
        ],
        labels=np.concatenate(labels),
        seen_share=None if together[0].seen_share is None else together[0].seen_share.numpy(),
    )


def predictions_at_exits(
    model: MultiExitClassifier, full_depth: FullDepth
) -> Tuple[np.ndarray, np.ndarray]:
    """
    The label that would be predicted at every exit, with the temperatures that the model has, and
    the confidence; both `(num_exits, num_instances)`.
    """
    predictions = model.predictions_at_exits(full_depth.scores())
    labels = [most_probable(logits, probs).numpy() for logits, probs, _ in predictions]
    return np.stack(labels), np.stack([one.confidence.numpy() for one in predictions])


def curve_of(model: MultiExitClassifier, full_depth: FullDepth) -> TradeoffCurve:
    """
    What each threshold gives, with the temperatures that the model has.

    # Parameters

    model : `MultiExitClassifier`
    full_depth : `FullDepth`
    """
    labels, confidences = predictions_at_exits(model, full_depth)
    return tradeoff_curve(confidences, labels == full_depth.labels, model.exit_costs)


def class_curve_of(
    model: MultiExitClassifier, full_depth: FullDepth, curve: TradeoffCurve
) -> ClassCurve:
    """
    What each row of a curve gives each class.

    # Parameters

    model : `MultiExitClassifier`
    full_depth : `FullDepth`
    curve : `TradeoffCurve`
        From `curve_of`.
    """
    labels, confidences = predictions_at_exits(model, full_depth)
    return class_curve(curve, confidences, labels, full_depth.labels, len(model.label_names()))


def better_exit_of(model: MultiExitClassifier, full_depth: FullDepth) -> Optional[BetterExit]:
    """
    The exit that is clearly more accurate than the last one, with the temperatures that the model
    has, if there is one.

    # Parameters

    model : `MultiExitClassifier`
    full_depth : `FullDepth`
    """
    labels, _ = predictions_at_exits(model, full_depth)
    return find_better_exit(labels == full_depth.labels, model.exit_layers)

"""What all exits say of labelled data, computed once at full depth."""

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

from sledgehammer_allennlp.exits import Said, said_together
from sledgehammer_allennlp.exits.exit_rule import most_probable
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.tradeoff import TradeoffCurve, tradeoff_curve


@dataclass(frozen=True)
class FullDepth:
    """
    # Parameters

    logits : `np.ndarray`
        Of every exit, `(num_exits, num_instances, num_labels)`, before temperature.
    correctness : `List[Optional[np.ndarray]]`
        Of each exit that has a head for it, how probably it is right, `(num_instances,)`.
    labels : `np.ndarray`
        `(num_instances,)`
    """

    logits: np.ndarray
    correctness: List[Optional[np.ndarray]]
    labels: np.ndarray

    def said(self) -> List[Said]:
        """What each exit says."""
        return [
            Said(
                torch.from_numpy(logits),
                None if correctness is None else torch.from_numpy(correctness),
            )
            for logits, correctness in zip(self.logits, self.correctness)
        ]


def run_at_full_depth(
    model: MultiExitClassifier,
    data_loader: DataLoader,
    device: Union[torch.device, int],
    description: str = "calibrating",
) -> FullDepth:
    """
    What every exit says of all labelled data, of all workers where there are several.

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
    said: List[List[Said]] = []
    labels: List[np.ndarray] = []
    with torch.no_grad():
        for batch in Tqdm.tqdm(data_loader, desc=description):
            if "label" not in batch:
                raise ConfigurationError("found instances without label: wanted labelled data")
            batch = move_to_device(batch, device)
            said.append(
                [
                    at_exit.each(lambda part: part.float().cpu())
                    for at_exit in model.all_exits(batch["tokens"])
                ]
            )
            labels.append(batch["label"].cpu().numpy())
    if is_distributed():
        shares: List[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(shares, (said, labels))
        said = [batch for share in shares for batch in share[0]]
        labels = [batch for share in shares for batch in share[1]]
    if not labels:
        raise ConfigurationError("found no instances: wanted labelled data")
    together = [said_together(batches) for batches in zip(*said)]
    return FullDepth(
        logits=np.stack([at_exit.logits.numpy() for at_exit in together]),
        correctness=[
            None if at_exit.correctness is None else at_exit.correctness.numpy()
            for at_exit in together
        ],
        labels=np.concatenate(labels),
    )


def answers_at_exits(
    model: MultiExitClassifier, full_depth: FullDepth
) -> Tuple[np.ndarray, np.ndarray]:
    """
    What would be answered at every exit, with the temperatures that the model has, and how
    confidently; both `(num_exits, num_instances)`.
    """
    answers = model.answers_at_exits(full_depth.said())
    labels = np.stack([most_probable(answer.logits, answer.probs).numpy() for answer in answers])
    return labels, np.stack([answer.confidence.numpy() for answer in answers])


def curve_of(model: MultiExitClassifier, full_depth: FullDepth) -> TradeoffCurve:
    """
    What each threshold gives, with the temperatures that the model has.

    # Parameters

    model : `MultiExitClassifier`
    full_depth : `FullDepth`
    """
    labels, confidences = answers_at_exits(model, full_depth)
    return tradeoff_curve(confidences, labels == full_depth.labels, model.exit_costs)

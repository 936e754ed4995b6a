"""What all exits say of labelled data, computed once at full depth."""

from typing import Any, List, Tuple, Union

import numpy as np
import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader
from allennlp.nn.util import move_to_device

from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.tradeoff import TradeoffCurve, tradeoff_curve


def gather_logits(
    model: MultiExitClassifier,
    data_loader: DataLoader,
    device: Union[torch.device, int],
    description: str = "calibrating",
) -> Tuple[np.ndarray, np.ndarray]:
    """
    Every exit's logits for all labelled data, of all workers where there are several.

    # Parameters

    model : `MultiExitClassifier`
        Put into evaluation mode.
    data_loader : `DataLoader`
        Indexed, of instances with labels.
    device : `torch.device` or `int`
        Where the model is.
    description : `str`, optional
        Of the progress bar.

    # Returns

    logits : `np.ndarray`
        `(num_exits, num_instances, num_labels)`
    labels : `np.ndarray`
        `(num_instances,)`

    # Raises

    ConfigurationError
        If there are no instances, or some without label.
    """
    model.eval()
    logits: List[np.ndarray] = []
    labels: List[np.ndarray] = []
    with torch.no_grad():
        for batch in Tqdm.tqdm(data_loader, desc=description):
            if "label" not in batch:
                raise ConfigurationError("found instances without label: wanted labelled data")
            batch = move_to_device(batch, device)
            logits.append(model.all_exit_logits(batch["tokens"]).float().cpu().numpy())
            labels.append(batch["label"].cpu().numpy())
    if is_distributed():
        shares: List[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(shares, (logits, labels))
        logits = [batch for share in shares for batch in share[0]]
        labels = [batch for share in shares for batch in share[1]]
    if not labels:
        raise ConfigurationError("found no instances: wanted labelled data")
    return np.concatenate(logits, axis=1), np.concatenate(labels)


def curve_of(model: MultiExitClassifier, logits: np.ndarray, labels: np.ndarray) -> TradeoffCurve:
    """
    What each threshold gives, with the temperatures that the model has.

    # Parameters

    model : `MultiExitClassifier`
    logits, labels : `np.ndarray`
        From `gather_logits`.
    """
    confidences = model.exit_confidences(torch.from_numpy(logits)).numpy()
    return tradeoff_curve(confidences, logits.argmax(axis=-1) == labels, model.exit_costs)

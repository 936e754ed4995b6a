"""What the heads learn that give the probability that their exit is right."""

from typing import Sequence

import torch
import torch.nn.functional as F

from sledgehammer_allennlp.exits import ExitScores


def correctness_loss(scores: Sequence[ExitScores], label: torch.Tensor) -> torch.Tensor:
    """
    How far the heads of exits are from telling whether their exits are right: the sum over exits of
    the mean squared difference between `correctness` and 1 where they are right, 0 where they are
    wrong (Xin et al. 2021, "learning to exit").
    """
    losses = []
    for one in scores:
        logits, correctness = one.logits, one.correctness
        assert correctness is not None
        is_right = (logits.argmax(-1) == label).to(correctness.dtype)
        losses.append(F.mse_loss(correctness, is_right))
    return torch.stack(losses).sum()

"""What the comparison of a pair's texts adds to the logits of the exit over n-grams."""

from typing import Any, Dict

import torch
import torch.nn.functional as F
from torch import nn

from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.ngrams.pair_features import (
    PairFeatures,
    compare_pairs,
    group_sizes,
    without_autocast,
)

_MOST_BUCKETS = 2**17
_FEWEST_BUCKETS = 2**9
_TABLE_NUMBERS = 2**19


class PairClassifier(nn.Module):
    """
    A linear classifier over the features of `pair_features`, a part of an `NgramClassifier`. With
    c_g the count of a hashed feature, s_g its weight and x the numbers, it adds

        Σ_g c_g s_g w_g / sqrt(Σ_g c_g s_g²) + W x + b

    to the logits of pairs of which both texts have pieces, and nothing to others.

    # Parameters

    vectors : `torch.Tensor`
        `(num_pieces, num_dimensions)`, int8, see `piece_vectors`.
    frequent : `torch.Tensor`
        `(num_frequent,)`, int64, the ids of frequent pieces.
    num_labels : `int`
    num_buckets : `int`, optional (default = 2**17 for up to 3 labels, less for more)
        A power of two.
    """

    def __init__(
        self,
        vectors: torch.Tensor,
        frequent: torch.Tensor,
        num_labels: int,
        num_buckets: int = 0,
    ) -> None:
        super().__init__()
        num_buckets = num_buckets or default_num_buckets(num_labels)
        # Whole numbers are buffers: what logs training takes means and norms of all parameters.
        self.vectors: torch.Tensor
        self.register_buffer("vectors", vectors)
        self.frequent: torch.Tensor
        self.register_buffer("frequent", frequent)
        # Parameters, not buffers, for the reason that `NgramClassifier` has.
        self.table = _fixed(torch.zeros(num_buckets, num_labels + 1))  # s_g w_g, and s_g²
        self.weight = _fixed(torch.zeros(sum(group_sizes(vectors.size(1))), num_labels))
        self.bias = _fixed(torch.zeros(num_labels))

    @classmethod
    def like(cls, state: Dict[str, Any], prefix: str, num_labels: int) -> "PairClassifier":
        """
        One with the shapes of those weights of a state dict that begin with `prefix`.

        # Raises

        ValueError
            If they are not the weights of any with so many labels, or are larger than their data.
        """
        found = {
            name: state.get(prefix + name)
            for name in ("vectors", "frequent", "table", "weight", "bias")
        }
        tensors = {name: x for name, x in found.items() if isinstance(x, torch.Tensor)}
        ranks = {name: tensor.dim() for name, tensor in tensors.items()}
        if ranks != {"vectors": 2, "frequent": 1, "table": 2, "weight": 2, "bias": 1}:
            raise ValueError(
                f"the weights {prefix}* have the dimensions {ranks}: wanted vectors, table and "
                "weight of 2, frequent and bias of 1"
            )
        vectors, frequent, table = (tensors[name] for name in ("vectors", "frequent", "table"))
        num_buckets = len(table)
        if vectors.dtype != torch.int8 or frequent.dtype != torch.int64 or not len(vectors):
            raise ValueError(
                f"{prefix}vectors are {len(vectors)} of {vectors.dtype}, {prefix}frequent of "
                f"{frequent.dtype}: wanted some of torch.int8 and torch.int64"
            )
        if num_buckets < 2 or num_buckets & (num_buckets - 1):
            raise ValueError(f"{prefix}table has {num_buckets} rows: wanted a power of two")
        for name, tensor in tensors.items():
            if _has_shared_numbers(tensor):
                raise ValueError(
                    f"{prefix}{name} has the shape {tuple(tensor.shape)} and fewer numbers: wanted "
                    "one for each place"
                )
        numbers = sum(group_sizes(vectors.size(1)))
        shapes = {name: tuple(tensors[name].shape) for name in ("table", "weight", "bias")}
        wanted = {
            "table": (num_buckets, num_labels + 1),
            "weight": (numbers, num_labels),
            "bias": (num_labels,),
        }
        if shapes != wanted:
            raise ValueError(
                f"the weights {prefix}* have the shapes {shapes}: wanted {wanted}, for "
                f"{num_labels} labels"
            )
        return cls(torch.zeros_like(vectors), torch.zeros_like(frequent), num_labels, num_buckets)

    @property
    def num_buckets(self) -> int:
        """Of the hashed features."""
        return len(self.table)

    def compare(self, texts: TokenBatch, starts: torch.Tensor, marks: torch.Tensor) -> PairFeatures:
        """The features of texts on the device of the weights, see `compare_pairs`."""
        return compare_pairs(texts, starts, marks, self.vectors, self.frequent, self.num_buckets)

    def forward(self, texts: TokenBatch, starts: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
        """What is added to the logits, `(num_texts, num_labels)`."""
        buckets, numbers, is_pair = self.compare(texts, starts, marks)
        with without_autocast(self.weight.device.type):
            logits = numbers.to(self.weight.dtype) @ self.weight + self.bias
        if buckets.size(1):
            sums = F.embedding_bag(buckets, self.table, mode="sum")
            lengths = sums[:, -1:].clamp(min=torch.finfo(sums.dtype).tiny).sqrt()
            logits = logits + sums[:, :-1] / lengths
        return logits.masked_fill(~is_pair.unsqueeze(1), 0)


def default_num_buckets(num_labels: int) -> int:
    """2**17 for up to 3 labels, less for more: the table takes about 2 MB."""
    num_buckets = _MOST_BUCKETS
    while num_buckets > _FEWEST_BUCKETS and num_buckets * (num_labels + 1) > _TABLE_NUMBERS:
        num_buckets //= 2
    return num_buckets


def _has_shared_numbers(tensor: torch.Tensor) -> bool:
    """Whether a tensor is larger than its data, as one of a small file can be by its strides."""
    span = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride()))
    return tensor.numel() > span


def _fixed(values: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)

"""The exit before the embeddings: a linear classifier over n-grams of word pieces.

Much of what people classify needs no transformer. Features are the n-grams of a text's tokens,
each counted as often as it occurs and weighted by how rare and how telling it was in the training
data, the whole scaled to unit length; only token ids are needed. All weights are in one table, so
that the logits of a text are one sum over rows of it. How it is fitted: `fitting`.
"""

import warnings
from typing import Any, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from sledgehammer_allennlp.encoders.token_batch import TokenBatch, starts_of
from sledgehammer_allennlp.ngrams.features import ngram_buckets

MAX_N = 5

_MOST_BUCKETS = 2**20
_FEWEST_BUCKETS = 2**10
_TABLE_NUMBERS = 2**23


class NgramClassifier(nn.Module):
    """
    A linear classifier over hashed n-grams of token ids.

    With c_g the count of n-gram g in a text and s_g its weight, the logits are

        Σ_g c_g s_g w_g / sqrt(Σ_g c_g s_g²) + b

    where w_g is a vector of one number for each label. N-grams of which one was never seen in
    training count as nothing, unless they share a bucket with one that was.

    N-grams have no special tokens in them and do not go beyond the text, nor from one text of a
    pair to the other. In a pair each text has its own n-grams.

    Fitted by `fit_ngram_classifier`, never trained. Before, its logits are not numbers, which never
    counts as confident.

    # Parameters

    num_labels : `int`
    max_n : `int`, optional (default = `2`)
        The tokens of the longest n-grams, from 1 to 5.
    num_buckets : `int`, optional (default = by the number of labels, see `default_num_buckets`)
        A power of two. Each n-gram is hashed into one of them; the first is for what does not
        count.

    # Raises

    ValueError
        If `max_n` or `num_buckets` has a value that is not possible.
    """

    def __init__(self, num_labels: int, max_n: int = 2, num_buckets: Optional[int] = None) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.max_n = _check_max_n(max_n)
        self.num_buckets = _check_num_buckets(num_buckets) or default_num_buckets(num_labels)
        # In parameters, which distributed training does not send at every step as it does buffers.
        self.table = _fixed(torch.zeros(self.num_buckets, num_labels + 1))  # s_g w_g, and s_g²
        self.bias = _fixed(torch.zeros(num_labels))
        self.marks: torch.Tensor
        # The special tokens, whether there are pairs, and `max_n`, or 0 before it is fitted.
        self.register_buffer("marks", torch.tensor([-1, -1, 0, 0]))
        self._copies: Dict[torch.device, Tuple[torch.Tensor, ...]] = {}

    @property
    def is_fitted(self) -> bool:
        """Whether the weights were fitted, here or before they were read."""
        return bool(self.marks[3])

    def set_fitted(self, table: torch.Tensor, bias: torch.Tensor) -> None:
        """
        Takes fitted weights.

        # Parameters

        table : `torch.Tensor`
            `(num_buckets, num_labels + 1)`: s_g w_g, and s_g² in the last column.
        bias : `torch.Tensor`
            `(num_labels,)`
        """
        with torch.no_grad():
            self.table.copy_(table)
            self.table[0] = 0
            self.bias.copy_(bias)
            self.marks[3] = self.max_n
        self._copies = {}

    def set_special_tokens(self, first: int, separator: int, has_pairs: bool) -> None:
        """
        Sets what ends n-grams.

        # Parameters

        first, separator : `int`
            The special tokens that begin every text and end every text, or -1. The latter also
            stands between the texts of a pair.
        has_pairs : `bool`
            Whether what follows a separator is the second text of a pair.
        """
        self.marks[:3] = torch.tensor([first, separator, int(has_pairs)])
        self._copies = {}

    def forward(self, texts: TokenBatch) -> torch.Tensor:
        """
        The logits of every text, `(num_texts, num_labels)`, computed where the token ids are,
        wherever the weights are.
        """
        table, bias, marks = self._weights_on(texts.token_ids.device)
        if not marks[3]:
            if not self.training:
                message = "the n-gram exit was never fitted: no text will exit there"
                warnings.warn(message, stacklevel=2)
            return bias.new_full((len(texts), self.num_labels), float("nan"))
        starts = starts_of(texts.lengths).to(texts.token_ids.device)
        buckets = ngram_buckets(texts, starts, marks, self.max_n, self.num_buckets)
        sums = F.embedding_bag(buckets.flatten(), table, starts * self.max_n, mode="sum")
        lengths = sums[:, -1:].clamp(min=torch.finfo(sums.dtype).tiny).sqrt()
        return sums[:, :-1] / lengths + bias

    def buckets(self, texts: TokenBatch) -> torch.Tensor:
        """
        The buckets of the n-grams that end at each token, `(num_tokens, max_n)`, by ascending n;
        0 where there is none.
        """
        starts = starts_of(texts.lengths).to(texts.token_ids.device)
        return ngram_buckets(texts, starts, self.marks, self.max_n, self.num_buckets)

    def _weights_on(self, device: torch.device) -> Tuple[torch.Tensor, ...]:
        """
        The weights, or a copy of them: texts that exit here need not go to the device of the
        model.
        """
        weights = (self.table, self.bias, self.marks)
        if self.table.device == device:
            return weights
        copy = self._copies.get(device)
        if copy is None:
            copy = tuple(tensor.detach().to(device) for tensor in weights)
            self._copies[device] = copy
        return copy

    # Whatever changes the weights makes copies of them stale.

    def _apply(self, *args: Any, **kwargs: Any) -> "NgramClassifier":
        self._copies = {}
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._copies = {}
        if int(self.marks[3]) not in (0, self.max_n):
            errors: List[str] = args[-1]
            errors.append(
                f"the n-gram exit was fitted with max_n {int(self.marks[3])}, and is to be used "
                f"with max_n {self.max_n}"
            )

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_copies": {}}


def default_num_buckets(num_labels: int) -> int:
    """
    2**20 for up to 7 labels, less for more: the table has about 8 million numbers at most, unless
    there are more than 8,000 labels.
    """
    num_buckets = _MOST_BUCKETS
    while num_buckets > _FEWEST_BUCKETS and num_buckets * (num_labels + 1) > _TABLE_NUMBERS:
        num_buckets //= 2
    return num_buckets


def _fixed(values: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


def _check_max_n(max_n: Any) -> int:
    if not isinstance(max_n, int) or isinstance(max_n, bool) or not 1 <= max_n <= MAX_N:
        raise ValueError(
            f"embedding_exit's max_n is {max_n!r}: wanted an integer from 1 to {MAX_N}"
        )
    return max_n


def _check_num_buckets(num_buckets: Any) -> Optional[int]:
    if num_buckets is None:
        return None
    is_integer = isinstance(num_buckets, int) and not isinstance(num_buckets, bool)
    if not is_integer or not 2 <= num_buckets <= 2**31 or num_buckets & (num_buckets - 1):
        raise ValueError(
            f"embedding_exit's num_buckets is {num_buckets!r}: wanted a power of two from 2 to "
            "2147483648, or null for the default"
        )
    return num_buckets

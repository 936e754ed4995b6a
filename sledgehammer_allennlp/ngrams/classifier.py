"""The exit before the embeddings: a linear classifier over n-grams of word pieces.

Much of what people classify needs no transformer. Features are the n-grams of a text's tokens,
each counted as often as it occurs and weighted by how rare and how telling it was in the training
data, the whole scaled to unit length; only token ids are needed. All weights are in one table, so
that the logits of a text are one sum over rows of it. How it is fitted: `fitting`.
"""

import copy
import math
import warnings
from typing import Any, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from sledgehammer_allennlp.encoders.token_batch import TokenBatch, starts_of
from sledgehammer_allennlp.ngrams.features import ngram_buckets
from sledgehammer_allennlp.ngrams.pair_classifier import PairClassifier
from sledgehammer_allennlp.values import short_repr

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
    pair to the other. In a pair each text has its own n-grams. Where it was fitted to pairs, a
    `PairClassifier` that compares the texts adds to the logits.

    Fitted by `fit_ngram_classifier`, never trained. Before fitting, its logits are NaN, so that no
    instance exits there.

    # Parameters

    num_labels : `int`
    max_n : `int`, optional (default = `2`)
        The tokens of the longest n-grams, from 1 to 5.
    num_buckets : `int`, optional (default = by the number of labels, see `default_num_buckets`)
        A power of two. Each n-gram is hashed into one of them; the first is for what does not
        count.
    pairs : `bool`, optional (default = `True`)
        Whether the texts of pairs are compared, if it is fitted to pairs.

    # Raises

    ValueError
        If `max_n`, `num_buckets` or `pairs` has a value that is not possible.
    """

    def __init__(
        self,
        num_labels: int,
        max_n: int = 2,
        num_buckets: Optional[int] = None,
        pairs: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(pairs, bool):
            raise ValueError(f"embedding_exit's pairs is {pairs!r}: wanted true or false")
        self.num_labels = num_labels
        self.max_n = _check_max_n(max_n)
        self.num_buckets = _check_num_buckets(num_buckets) or default_num_buckets(num_labels)
        # Parameters, not buffers: distributed training broadcasts buffers at every step.
        self.table = _fixed(torch.zeros(self.num_buckets, num_labels + 1))  # s_g w_g, and s_g²
        self.bias = _fixed(torch.zeros(num_labels))
        self.marks: torch.Tensor
        # The special tokens, whether there are pairs, and `max_n`, or 0 before it is fitted.
        self.register_buffer("marks", torch.tensor([-1, -1, 0, 0]))
        self.min_seen_share = 0.0
        """
        Of a text of which a smaller share of n-grams was seen in the fit, the logits say little;
        kept with the weights. 0 until calibration sets it.
        """
        self.may_compare_pairs = pairs
        # Made when it is fitted, or when fitted weights are read: its size depends on them.
        self.pairs: Optional[PairClassifier] = None
        self._copies: Dict[torch.device, Tuple[torch.Tensor, ...]] = {}
        self._copies_of_pairs: Dict[torch.device, PairClassifier] = {}

    @property
    def is_fitted(self) -> bool:
        """Whether the weights were fitted, here or before they were read."""
        return bool(self.marks[3])

    def set_fitted(
        self, table: torch.Tensor, bias: torch.Tensor, pairs: Optional[PairClassifier] = None
    ) -> None:
        """
        Takes fitted weights.

        # Parameters

        table : `torch.Tensor`
            `(num_buckets, num_labels + 1)`: s_g w_g, and s_g² in the last column.
        bias : `torch.Tensor`
            `(num_labels,)`
        pairs : `PairClassifier`, optional (default = `None`)
            What compares the texts of pairs, if they are compared.
        """
        with torch.no_grad():
            self.table.copy_(table)
            self.table[0] = 0
            self.bias.copy_(bias)
            self.marks[3] = self.max_n
            self.min_seen_share = 0.0
            if pairs is not None:
                pairs.table[0] = 0
        self._set_pairs(pairs)

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
        self._forget_copies()

    def forward(self, texts: TokenBatch) -> torch.Tensor:
        """
        The logits of each of `texts`, `(num_texts, num_labels)`, computed where the token ids are,
        wherever the weights are.
        """
        return self.logits_and_seen_share(texts)[0]

    def logits_and_seen_share(
        self, texts: TokenBatch
    ) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        """
        The logits, and of each of `texts` the share of its n-grams that are in a bucket of one that
        was seen in the fit, `(num_texts,)`; 1 where a text has no n-grams. `None` before fitting.
        """
        table, bias, marks = self.weights_on(texts.token_ids.device)
        if not marks[3]:
            if not self.training:
                message = "the n-gram exit was never fitted: no text will exit there"
                warnings.warn(message, stacklevel=2)
            return bias.new_full((len(texts), self.num_labels), float("nan")), None
        starts = starts_of(texts.lengths).to(texts.token_ids.device)
        buckets = ngram_buckets(texts, starts, marks, self.max_n, self.num_buckets)
        sums = F.embedding_bag(buckets.flatten(), table, starts * self.max_n, mode="sum")
        lengths = sums[:, -1:].clamp(min=torch.finfo(sums.dtype).tiny).sqrt()
        logits = sums[:, :-1] / lengths + bias
        if self.pairs is not None:
            logits = logits + self.pairs_on(texts.token_ids.device)(texts, starts, marks)
        return logits, _seen_share(buckets, table, texts.lengths.to(starts.device))

    def buckets(self, texts: TokenBatch) -> torch.Tensor:
        """
        The buckets of the n-grams that end at each token of `texts`, `(num_tokens, max_n)`, by
        ascending n; 0 where there is none.
        """
        starts = starts_of(texts.lengths).to(texts.token_ids.device)
        return ngram_buckets(texts, starts, self.marks, self.max_n, self.num_buckets)

    def weights_on(self, device: torch.device) -> Tuple[torch.Tensor, ...]:
        """
        The weights on a `device`, or a copy of them: texts that exit here need not go to the device
        of the model.

        # Returns

        `Tuple[torch.Tensor, ...]`
            `(num_buckets, num_labels + 1)`, `(num_labels,)` and `(4,)`: `table`, `bias`, `marks`.
        """
        weights = (self.table, self.bias, self.marks)
        if self.table.device == device:
            return weights
        copy = self._copies.get(device)
        if copy is None:
            copy = tuple(tensor.detach().to(device) for tensor in weights)
            self._copies[device] = copy
        return copy

    def pairs_on(self, device: torch.device) -> PairClassifier:
        """The comparison of pairs on a `device`, or a copy of it, for the same reason."""
        assert self.pairs is not None
        if self.table.device == device:
            return self.pairs
        copied = self._copies_of_pairs.get(device)
        if copied is None:
            copied = copy.deepcopy(self.pairs).to(device)
            self._copies_of_pairs[device] = copied
        return copied

    # Not a buffer, which would be rounded when the model is cast.
    def get_extra_state(self) -> torch.Tensor:
        """`min_seen_share`, `()`."""
        return torch.tensor(self.min_seen_share, dtype=torch.float64)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """
        Takes `min_seen_share`.

        # Raises

        ValueError
            If it is not a number from 0 to 1.
        """
        try:
            share = float(state)
        except (TypeError, ValueError, RuntimeError):  # by versions of torch
            share = math.nan
        if not 0 <= share <= 1:
            raise ValueError(
                f"the n-gram exit's min_seen_share is {short_repr(state)}: wanted a share"
            )
        self.min_seen_share = share

    # Whatever changes the weights makes copies of them stale.

    def _forget_copies(self) -> None:
        self._copies = {}
        self._copies_of_pairs = {}

    def _set_pairs(self, pairs: Optional[PairClassifier]) -> None:
        self.pairs = None if pairs is None else pairs.to(self.table.device)
        self._forget_copies()

    def _apply(self, *args: Any, **kwargs: Any) -> "NgramClassifier":
        self._forget_copies()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        errors: List[str] = args[-1]
        if f"{prefix}table" in state_dict:
            # Weights may be from before there was such a share.
            state_dict.setdefault(f"{prefix}_extra_state", torch.zeros(()))
        has_pairs = any(name.startswith(f"{prefix}pairs.") for name in state_dict)
        if has_pairs and not self.may_compare_pairs:
            errors.append(
                "the n-gram exit was fitted with a comparison of pairs, and is to be used without: "
                "embedding_exit's pairs cannot be changed after training"
            )
        elif has_pairs:
            try:
                self._set_pairs(PairClassifier.like(state_dict, f"{prefix}pairs.", self.num_labels))
            except ValueError as error:
                errors.append(str(error))
        elif f"{prefix}table" in state_dict:
            self._set_pairs(None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._forget_copies()
        if int(self.marks[3]) not in (0, self.max_n):
            errors.append(
                f"the n-gram exit was fitted with max_n {int(self.marks[3])}, and is to be used "
                f"with max_n {self.max_n}"
            )

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_copies": {}, "_copies_of_pairs": {}}


def _seen_share(buckets: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """`(num_texts,)`, from the buckets of each token's n-grams, `(num_tokens, max_n)`."""
    is_ngram = buckets > 0
    # What was seen has a weight; the first bucket, of what is no n-gram, has none.
    is_seen = table[:, -1][buckets] > 0
    text = torch.arange(len(lengths), device=buckets.device).repeat_interleave(lengths)
    counts = torch.stack([is_seen.sum(1), is_ngram.sum(1)], dim=1).float()
    seen, total = counts.new_zeros(len(lengths), 2).index_add_(0, text, counts).unbind(1)
    return torch.where(total > 0, seen / total.clamp(min=1), torch.ones_like(seen))


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

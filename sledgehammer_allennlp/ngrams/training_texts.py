"""The labelled texts that the n-gram exit is fitted to: all, or a sample that fits into memory."""

from dataclasses import dataclass
from typing import List, Optional, Sequence

import numpy as np
import torch

from sledgehammer_allennlp.encoders.token_batch import (
    TokenBatch,
    positions_in_text,
    starts_of,
    token_indices,
)
from sledgehammer_allennlp.ngrams.features import is_second

MAX_TOKENS = 2**25
"""Of texts with more tokens a sample is kept, for which fitting takes about 3 GB (`max_n` 2)."""

_MAX_ANSWERS = 2**26
"""Texts times labels of the sample, of which scikit-learn keeps a table or two."""

_TEXTS_AT_ONCE = 4096


class TrainingTexts:
    """
    Labelled texts to fit to, as token ids: all of them, or if they are too many, a random sample.

    Each text gets a number from 0 to 1 that depends on its tokens and the seed alone. The sample
    has the texts with the lowest numbers. So it does not depend on the order in which texts come,
    nor on which worker sees them, and copies of a text are kept, or not, together.

    # Parameters

    num_labels : `int`
    seed : `int`
    max_tokens : `int`, optional (default = 2**25)
        The most tokens that are kept.
    """

    def __init__(self, num_labels: int, seed: int, max_tokens: int = MAX_TOKENS) -> None:
        self.num_of_label = np.zeros(num_labels, np.int64)
        """`(num_labels,)`, the texts of each label that were added."""
        self._num_labels = num_labels
        self._seed = seed
        self._max_tokens = max_tokens
        self._max_texts = _MAX_ANSWERS // num_labels
        self._share = 1.0
        self._num_tokens = 0
        self._num_texts = 0
        self._parts: List[LabeledTexts] = []

    @property
    def num_seen(self) -> int:
        """How many texts were added."""
        return int(self.num_of_label.sum())

    def add(self, texts: TokenBatch, labels: np.ndarray) -> None:
        """
        Adds texts and their labels, `(num_texts,)`.

        # Raises

        ValueError
            If a label is not one of the model's.
        """
        labels = np.asarray(labels)
        if len(labels) and not (labels.min() >= 0 and labels.max() < self._num_labels):
            raise ValueError(
                f"cannot fit the n-gram exit to labels from {labels.min()} to {labels.max()}: "
                f"wanted 0 to {self._num_labels - 1}, since the model has {self._num_labels} labels"
            )
        self.num_of_label += np.bincount(labels.astype(np.int64), minlength=self._num_labels)
        ids = texts.token_ids.cpu().numpy().astype(np.int32)
        lengths = texts.lengths.numpy().astype(np.int32)
        numbers = _numbers(ids, lengths, self._seed)
        self._keep(LabeledTexts(ids, lengths, labels, numbers, _typed_from(texts)))
        while self._num_tokens > self._max_tokens or self._num_texts > self._max_texts:
            self._share /= 2
            kept = LabeledTexts.concatenate(self._parts)
            self._parts, self._num_tokens, self._num_texts = [], 0, 0
            self._keep(kept)

    def _keep(self, texts: "LabeledTexts") -> None:
        texts = texts.below(self._share)
        self._parts.append(texts)
        self._num_tokens += len(texts.ids)
        self._num_texts += len(texts.labels)

    @staticmethod
    def of_all(samples: Sequence["TrainingTexts"]) -> "LabeledTexts":
        """What several workers kept, by ascending numbers."""
        share = min(sample._share for sample in samples)
        parts = [part for sample in samples for part in sample._parts]
        return LabeledTexts.concatenate(parts).below(share).in_order()


@dataclass(frozen=True)
class LabeledTexts:
    """
    Texts as token ids, their labels, their numbers from 0 to 1, and how many tokens each has before
    the first whose type id is not 0.
    """

    ids: np.ndarray  # (tokens,), text after text
    lengths: np.ndarray  # (texts,)
    labels: np.ndarray  # (texts,)
    numbers: np.ndarray  # (texts,)
    typed_from: np.ndarray  # (texts,), the length if all type ids are 0

    @classmethod
    def concatenate(cls, parts: Sequence["LabeledTexts"]) -> "LabeledTexts":
        """Several, one after the other."""
        nothing = np.zeros(0, dtype=np.int32)
        parts = [cls(nothing, nothing, nothing, nothing, nothing), *parts]
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.typed_from for part in parts]),
        )

    def below(self, share: float) -> "LabeledTexts":
        """Those with a number below `share`."""
        kept = self.numbers < share
        return self if kept.all() else self._select(kept, np.repeat(kept, self.lengths))

    def in_order(self) -> "LabeledTexts":
        """By ascending numbers; copies of a text by their labels."""
        order = np.lexsort((self.typed_from, self.labels, self.numbers))
        tokens = token_indices(as_int64(self.lengths), torch.from_numpy(order)).numpy()
        return self._select(order, tokens)

    def first(self, num_texts: int) -> "LabeledTexts":
        """The first of them, if there are so many."""
        if len(self.lengths) <= num_texts:
            return self
        return self._select(
            np.arange(num_texts), np.arange(self.lengths[:num_texts].sum(dtype=np.int64))
        )

    def _select(self, texts: np.ndarray, tokens: np.ndarray) -> "LabeledTexts":
        return LabeledTexts(
            self.ids[tokens],
            self.lengths[texts],
            self.labels[texts],
            self.numbers[texts],
            self.typed_from[texts],
        )

    def batches(self) -> List[TokenBatch]:
        """Some thousand texts at a time. Type ids are 0, and 1 from the first that was not 0 on."""
        batches = []
        begin = 0
        for first in range(0, len(self.lengths), _TEXTS_AT_ONCE):
            few = slice(first, first + _TEXTS_AT_ONCE)
            lengths, typed_from = as_int64(self.lengths[few]), as_int64(self.typed_from[few])
            end = begin + int(lengths.sum())
            is_typed = positions_in_text(lengths) >= typed_from.repeat_interleave(lengths)
            ids = torch.from_numpy(self.ids[begin:end])
            batches.append(TokenBatch(ids, is_typed.to(ids.dtype), lengths))
            begin = end
        return batches

    def numbers_of_first_texts(self, separator: int) -> np.ndarray:
        """
        A number from 0 to 1 for each pair, by a hash of the tokens of its first text,
        `(num_texts,)`.
        """
        parts = [np.zeros(0)]
        for texts in self.batches():
            is_first = ~is_second(texts, starts_of(texts.lengths), separator)
            ids, lengths = texts.token_ids.numpy(), texts.lengths.numpy()
            parts.append(_numbers(ids, lengths, 0, is_first.numpy()))
        return np.concatenate(parts)


def _typed_from(texts: TokenBatch) -> np.ndarray:
    """How many tokens each text has before the first whose type id is not 0, `(num_texts,)`."""
    positions = positions_in_text(texts.lengths)
    lengths = texts.lengths.repeat_interleave(texts.lengths)
    typed_from = torch.where(texts.type_ids.cpu() != 0, positions, lengths).numpy()
    starts = starts_of(texts.lengths).numpy()
    nothing = np.zeros(0, dtype=np.int32)
    return np.minimum.reduceat(typed_from, starts).astype(np.int32) if len(starts) else nothing


def _numbers(
    ids: np.ndarray, lengths: np.ndarray, seed: int, is_counted: Optional[np.ndarray] = None
) -> np.ndarray:
    """
    A number from 0 to 1 for each text, `(num_texts,)`, by a hash of its tokens, or of those that
    are counted.
    """
    if not len(lengths):
        return np.zeros(0)
    positions = positions_in_text(as_int64(lengths)).numpy().astype(np.uint64)
    starts = starts_of(as_int64(lengths)).numpy()
    of_tokens = _scrambled(ids.astype(np.uint64) + (positions << np.uint64(32)))
    if is_counted is not None:
        of_tokens = of_tokens * is_counted.astype(np.uint64)
    of_texts = _scrambled(np.add.reduceat(of_tokens, starts) + np.uint64(seed))
    return (of_texts >> np.uint64(11)) / 2.0**53


def as_int64(lengths: np.ndarray) -> torch.Tensor:
    """Lengths as `TokenBatch` has them."""
    return torch.from_numpy(lengths.astype(np.int64))


def _scrambled(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), modulo 2**64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))

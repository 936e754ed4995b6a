"""
The features of the n-gram exit: n-grams of token ids, hashed into buckets. (`one_text` has the same
for a text by itself.)
"""

from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from sledgehammer_allennlp.encoders.token_batch import TokenBatch

_MULTIPLIER = -0x61C8864680B583EB
"""2**64 divided by the golden ratio, as a signed number: multiplication by it spreads bits."""

Integers = TypeVar("Integers", torch.Tensor, np.ndarray)
"""Of 64 bits."""


def ngram_buckets(
    texts: TokenBatch, starts: torch.Tensor, marks: torch.Tensor, max_n: int, num_buckets: int
) -> torch.Tensor:
    """
    The buckets of the n-grams that end at each token.

    # Parameters

    texts : `TokenBatch`
    starts : `torch.Tensor`
        `(num_texts,)`, where the first token of each text lies, on the device of the token ids.
    marks : `torch.Tensor`
        `(4,)`: the special tokens that begin and end texts, or -1, and whether what follows the
        latter is the second text of a pair; the last number is not used here.
    max_n : `int`
        The tokens of the longest n-grams.
    num_buckets : `int`
        A power of two.

    # Returns

    `torch.Tensor`
        `(num_tokens, max_n)`, by ascending n; 0 where there is no n-gram.
    """
    ids = texts.token_ids.long()
    first, separator, has_pairs, _ = marks.tolist()
    is_word = (ids != first) & (ids != separator)
    follows = is_word.clone()
    follows[starts] = False
    if has_pairs:
        second = is_second(texts, starts, separator)
        ids = ids + second * 2**32
        follows &= second == _shifted(second)
    hashes, is_ngram = hashed(ids), is_word
    buckets = [bucket_of(hashes, num_buckets) * is_ngram]
    for _ in range(1, max_n):
        hashes = hashed(_shifted(hashes) + ids)
        is_ngram = _shifted(is_ngram) & follows
        buckets.append(bucket_of(hashes, num_buckets) * is_ngram)
    return torch.stack(buckets, dim=1)


def bucket_of(hashes: Integers, num_buckets: int) -> Integers:
    """The bucket of each hash, from 0 to `num_buckets` - 1, a power of two."""
    # The highest bits of a product depend on all bits of its factors.
    bits = num_buckets.bit_length() - 1
    return (hashes >> (64 - bits)) & (num_buckets - 1)


def is_second(texts: TokenBatch, starts: torch.Tensor, separator: int) -> torch.Tensor:
    """
    Whether a token is of the second text of a pair, `(num_tokens,)`: whether its type id, or that
    of a token before it, is not 0. In a text whose type ids are all 0, as some families have them,
    whether it has a separator before it, or is one.
    """
    lengths = texts.lengths.to(starts.device)
    begins = texts.type_ids != 0
    has_types = counted(begins, starts, lengths)[starts + lengths - 1] > 0
    if not has_types.all():
        is_separator = (texts.token_ids == separator) & ~has_types.repeat_interleave(lengths)
        begins = begins | is_separator
    return counted(begins, starts, lengths) > 0


def counted(is_counted: torch.Tensor, starts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """How many tokens are counted from the first of a text to each, `(num_tokens,)`."""
    counts = is_counted.cumsum(0)
    before = counts[starts] - is_counted[starts].long()
    return counts - before.repeat_interleave(lengths)


def _shifted(values: torch.Tensor) -> torch.Tensor:
    """The value of the token before, `(num_tokens,)`; 0 or false for the first."""
    return F.pad(values[:-1], (1, 0))


def hashed(values: Integers) -> Integers:
    """A hash of each number; products are taken modulo 2**64."""
    values = (values + 1) * _MULTIPLIER
    return (values ^ (values >> 32)) * _MULTIPLIER

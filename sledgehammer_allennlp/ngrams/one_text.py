"""The n-gram exit for one text or one pair, in NumPy.

Of so few numbers, calls of torch take most time.
"""

import math
from typing import List, NamedTuple, Optional

import numpy as np
import torch

from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.ngrams.classifier import NgramClassifier
from sledgehammer_allennlp.ngrams.features import bucket_of, hashed
from sledgehammer_allennlp.ngrams.one_pair import pair_logits

_TINY = float(np.finfo(np.float32).tiny)
_MOST_COSINES = 2048
"""
Between the pieces of two texts. With more, NumPy's products use threads of their own, which keep
the cores from others.
"""


class ScoresOfOne(NamedTuple):
    """As `NgramClassifier.logits_and_seen_share`, of one text."""

    logits: List[float]
    seen_share: float


def score_one_text(ngrams: NgramClassifier, text: TokenBatch) -> Optional[ScoresOfOne]:
    """
    The same as `NgramClassifier.logits_and_seen_share`, up to rounding; `None` of what takes the
    general way: weights that are not float32, what was never fitted, pairs of long texts, and
    a comparison of pairs that a hook wants to see.

    # Parameters

    ngrams : `NgramClassifier`
    text : `TokenBatch`
        Of one text, or one pair, on the CPU.
    """
    table, bias, marks = ngrams.weights_on(text.token_ids.device)
    first, separator, has_pairs, max_n = marks.tolist()
    if not max_n or table.dtype != torch.float32:
        return None
    pairs = None if ngrams.pairs is None else ngrams.pairs_on(text.token_ids.device)
    if pairs is not None and (not has_pairs or pairs._forward_hooks or pairs._forward_pre_hooks):
        return None
    ids = text.token_ids.numpy().astype(np.int64, copy=False)
    is_word = (ids != first) & (ids != separator)
    second = _is_second(text, ids == separator) if has_pairs else np.zeros(len(ids), bool)
    rows = table.detach().numpy()[_buckets(ids, is_word, second, max_n, ngrams.num_buckets)]
    *sums, squares = rows.sum(0).tolist()
    length = math.sqrt(max(squares, _TINY))
    logits = [value / length + b for value, b in zip(sums, bias.tolist())]
    if pairs is not None:
        of_first, of_second = ids[is_word & ~second], ids[is_word & second]
        if len(of_first) * len(of_second) > _MOST_COSINES:
            return None
        added = pair_logits(pairs, of_first, of_second).tolist()
        logits = [x + y for x, y in zip(logits, added)]
    num_seen = np.count_nonzero(rows[:, -1] > 0)
    return ScoresOfOne(logits, num_seen / len(rows) if len(rows) else 1.0)


def _is_second(text: TokenBatch, is_separator: np.ndarray) -> np.ndarray:
    """Which tokens are of the second text of a pair, `(num_tokens,)`; see `features.is_second`."""
    begins = text.type_ids.numpy() != 0
    return np.logical_or.accumulate(begins if begins.any() else is_separator)


def _buckets(
    ids: np.ndarray, is_word: np.ndarray, second: np.ndarray, max_n: int, num_buckets: int
) -> np.ndarray:
    """
    Of all n-grams of a text, or of each text of a pair, `(num_ngrams,)`; see
    `features.ngram_buckets`. `is_word` and `second`, `(num_tokens,)`, say what a token is.
    """
    ids = ids + second * 2**32
    follows = is_word[1:] & (second[1:] == second[:-1])
    hashes, ends_ngram = hashed(ids), is_word
    buckets = []
    for n in range(1, max_n + 1):
        if n > 1:
            # Of the n-gram that ends one token before, and this token.
            hashes = hashed(hashes[:-1] + ids[n - 1 :])
            ends_ngram = ends_ngram[:-1] & follows[n - 2 :]
        buckets.append(bucket_of(hashes[ends_ngram], num_buckets))
    together = np.concatenate(buckets)
    return together[together > 0]

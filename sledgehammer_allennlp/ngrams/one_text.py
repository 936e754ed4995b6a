"""The n-gram exit for a single text, in NumPy: of so few numbers, calls of torch take most time."""

import math
from typing import List, NamedTuple, Optional

import numpy as np
import torch

from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.ngrams.classifier import NgramClassifier
from sledgehammer_allennlp.ngrams.features import bucket_of, hashed

_TINY = float(np.finfo(np.float32).tiny)


class ScoresOfOne(NamedTuple):
    """As `NgramClassifier.logits_and_seen_share`, of one text."""

    logits: List[float]
    seen_share: float


def score_one_text(ngrams: NgramClassifier, text: TokenBatch) -> Optional[ScoresOfOne]:
    """
    The same as `NgramClassifier.logits_and_seen_share`, up to rounding; `None` of what takes the
    general way: pairs, weights that are not float32, and what was never fitted.

    # Parameters

    ngrams : `NgramClassifier`
    text : `TokenBatch`
        Of one text, on the CPU.
    """
    table, bias, marks = ngrams.weights_on(text.token_ids.device)
    first, separator, has_pairs, max_n = marks.tolist()
    if has_pairs or ngrams.pairs is not None or not max_n or table.dtype != torch.float32:
        return None
    rows = table.detach().numpy()[
        _buckets(text.token_ids.numpy(), first, separator, max_n, ngrams.num_buckets)
    ]
    *sums, squares = rows.sum(0).tolist()
    length = math.sqrt(max(squares, _TINY))
    logits = [value / length + b for value, b in zip(sums, bias.tolist())]
    num_seen = np.count_nonzero(rows[:, -1] > 0)
    return ScoresOfOne(logits, num_seen / len(rows) if len(rows) else 1.0)


def _buckets(
    ids: np.ndarray, first: int, separator: int, max_n: int, num_buckets: int
) -> np.ndarray:
    """Of all n-grams of a text, `(num_ngrams,)`; see `features.ngram_buckets`."""
    ids = ids.astype(np.int64, copy=False)
    is_word = (ids != first) & (ids != separator)
    hashes, ends_ngram = hashed(ids), is_word
    buckets = []
    for n in range(1, max_n + 1):
        if n > 1:
            # Of the n-gram that ends one token before, and this token.
            hashes = hashed(hashes[:-1] + ids[n - 1 :])
            ends_ngram = ends_ngram[:-1] & is_word[n - 1 :]
        buckets.append(bucket_of(hashes[ends_ngram], num_buckets))
    together = np.concatenate(buckets)
    return together[together > 0]

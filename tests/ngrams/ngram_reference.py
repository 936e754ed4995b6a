"""The n-gram classifier written out with Python's own numbers and lists, text by text."""

import math
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from hypothesis import strategies as st

from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.ngrams import NgramClassifier

FIRST, SEPARATOR = 1, 2

# Few words, so that n-grams occur again; 1 and 2 are special.
token_lists = st.lists(st.integers(0, 9), min_size=1, max_size=12)


def texts_of_lists(*token_ids: Sequence[int]) -> TokenBatch:
    return TokenBatch.from_lists(token_ids)


def random_classifier(
    num_labels: int = 3,
    max_n: int = 2,
    num_buckets: int = 4096,
    first: int = FIRST,
    separator: int = SEPARATOR,
    has_pairs: bool = False,
) -> NgramClassifier:
    """A classifier with random weights for every bucket."""
    generator = torch.Generator().manual_seed(5)
    classifier = NgramClassifier(num_labels, max_n, num_buckets)
    classifier.set_special_tokens(first, separator, has_pairs)
    table = torch.randn(num_buckets, num_labels + 1, generator=generator)
    table[:, -1] = table[:, -1] ** 2
    classifier.set_fitted(table, torch.randn(num_labels, generator=generator))
    return classifier


def ngrams_of(
    token_ids: Sequence[int],
    max_n: int,
    first: int,
    separator: int,
    has_pairs: bool,
    type_ids: Optional[Sequence[int]] = None,
) -> List[Tuple[int, Tuple[int, ...]]]:
    """Every n-gram of a text, and in which text of a pair it is, 0 or 1."""
    found = []
    side, words = 0, []  # the words since the last special token, or since the last text
    for token_id, side_of_token in zip(token_ids, sides_of(token_ids, separator, type_ids)):
        if token_id in (first, separator):
            words = []
            continue
        if has_pairs and side_of_token != side:
            side, words = side_of_token, []
        words.append(token_id)
        for n in range(1, min(max_n, len(words)) + 1):
            found.append((side, tuple(words[-n:])))
    return found


def sides_of(
    token_ids: Sequence[int], separator: int, type_ids: Optional[Sequence[int]] = None
) -> List[int]:
    """In which text of a pair each token is, 0 or 1: by type ids, where there are any."""
    begins = [type_id != 0 for type_id in type_ids or ()]
    if not any(begins):
        begins = [token_id == separator for token_id in token_ids]
    return [int(any(begins[: i + 1])) for i in range(len(token_ids))]


def bucket_of(side: int, ngram: Tuple[int, ...], num_buckets: int) -> int:
    """The hash, in integers of any size taken modulo 2**64."""
    modulus = 2**64

    def mixed(value: int) -> int:
        value = (value + 1) * 0x9E3779B97F4A7C15 % modulus
        signed = value - modulus if value >= modulus // 2 else value
        return (value ^ (signed >> 32) % modulus) * 0x9E3779B97F4A7C15 % modulus

    value = 0
    for n, token_id in enumerate(ngram):
        value = mixed((value if n else 0) + token_id + side * 2**32)
    return value * num_buckets // modulus


def plain_ngram_logits(
    classifier: NgramClassifier,
    texts: Sequence[Sequence[int]],
    has_pairs: bool = False,
    type_ids: Optional[Sequence[Sequence[int]]] = None,
) -> np.ndarray:
    """The formula in the docstring of `NgramClassifier`, `(num_texts, num_labels)`."""
    table = classifier.table.double().numpy()
    logits = []
    for text, types in zip(texts, type_ids or [None] * len(texts)):
        counts: Dict[int, int] = {}
        for side, ngram in ngrams_of(text, classifier.max_n, FIRST, SEPARATOR, has_pairs, types):
            bucket = bucket_of(side, ngram, classifier.num_buckets)
            counts[bucket] = counts.get(bucket, 0) + 1
        counts.pop(0, None)
        total = sum((count * table[bucket] for bucket, count in counts.items()), np.zeros(1))
        length = math.sqrt(total[-1]) if counts else 1.0
        weighted = total[:-1] if counts else np.zeros(classifier.num_labels)
        logits.append(weighted / length + classifier.bias.double().numpy())
    return np.stack(logits)

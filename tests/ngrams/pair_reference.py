"""The comparison of a pair's texts written out, piece by piece."""

import math
from typing import List, Optional, Sequence, Tuple

import numpy as np
import torch

from sledgehammer_allennlp.ngrams import NgramClassifier
from sledgehammer_allennlp.ngrams.pair_classifier import PairClassifier
from tests.ngrams.ngram_reference import FIRST, SEPARATOR, bucket_of, random_classifier, sides_of

MAX_PIECES = 512


def random_pair_classifier(
    num_labels: int = 3, num_pieces: int = 40, num_dimensions: int = 8
) -> NgramClassifier:
    """With random weights for n-grams and the comparison of pairs; pieces 3 to 5 are frequent."""
    generator = torch.Generator().manual_seed(6)
    vectors = torch.randint(-127, 128, (num_pieces, num_dimensions), generator=generator)
    vectors[11] = vectors[10]  # the same, under another number
    vectors[12] = 0
    pairs = PairClassifier(vectors.to(torch.int8), torch.tensor([3, 4, 5]), num_labels, 256)
    for values in (pairs.table, pairs.weight, pairs.bias):
        values.copy_(torch.randn(values.shape, generator=generator))
    pairs.table[:, -1] = pairs.table[:, -1] ** 2
    ngrams = random_classifier(num_labels, has_pairs=True)
    ngrams.set_fitted(ngrams.table, ngrams.bias, pairs)
    return ngrams


def pieces_of(
    token_ids: Sequence[int], type_ids: Optional[Sequence[int]] = None
) -> Tuple[List[int], List[int]]:
    """The pieces of the two texts."""
    texts: Tuple[List[int], List[int]] = ([], [])
    for token_id, side in zip(token_ids, sides_of(token_ids, SEPARATOR, type_ids)):
        if token_id not in (FIRST, SEPARATOR):
            texts[side].append(token_id)
    return texts[0][:MAX_PIECES], texts[1][:MAX_PIECES]


def plain_features(
    pairs: PairClassifier, first: Sequence[int], second: Sequence[int]
) -> Tuple[List[int], np.ndarray]:
    """The buckets and the numbers of a pair; none, if one of its texts has no pieces."""
    vectors = pairs.vectors.numpy().astype(np.int64)
    size = vectors.shape[1]
    if not first or not second:
        return [], np.zeros(2 * size + 20)

    def length(piece: int) -> np.float32:
        return max(np.sqrt(np.float32((vectors[piece] ** 2).sum())), np.float32(1))

    def cosine(
        one: int, other: int
    ) -> np.float32:  # in the precision in which it is put into tenths
        return np.float32(vectors[one] @ vectors[other]) / (length(one) * length(other))

    def best(piece: int, others: Sequence[int]) -> np.float32:
        return max(cosine(piece, other) for other in others)

    def mean_vector(text: Sequence[int]) -> np.ndarray:
        return np.mean([vectors[piece] / float(length(piece)) for piece in text], axis=0)

    def about(first: Sequence[int], second: Sequence[int]) -> List[float]:
        if not first or not second:
            return [0.0] * 10
        cosines = [float(best(piece, first)) for piece in second]
        kernels = [
            np.mean([math.exp(-((m - centre) ** 2) / 0.02) for m in cosines])
            for centre in (1, 0.9, 0.7, 0.5, 0.3, 0.1)
        ]
        one, other = mean_vector(first), mean_vector(second)
        lengths = np.linalg.norm(one) * np.linalg.norm(other)
        return [
            *kernels,
            np.mean(cosines),
            min(cosines),
            np.mean([float(best(piece, second)) for piece in first]),
            one @ other / lengths if lengths > 0 else 0.0,
        ]

    buckets, missing = [], []
    for piece in second:
        m = best(piece, first)
        tenths = 9 if m > np.float32(0.999) else min(max(math.floor(m * np.float32(10)), 0), 8)
        buckets.append(bucket_of(tenths, (piece,), pairs.num_buckets))
        missing.append((1 - float(m)) * vectors[piece] / float(length(piece)))
    frequent = pairs.frequent.tolist()
    rare = [[piece for piece in text if piece not in frequent] for text in (first, second)]
    numbers = [
        *np.sum(missing, axis=0),
        *np.max(missing, axis=0).clip(min=0),
        *about(*rare),
        *about(first, second),
    ]
    return buckets, np.array(numbers)


def plain_pair_logits(
    pairs: PairClassifier, first: Sequence[int], second: Sequence[int]
) -> np.ndarray:
    """The formula in the docstring of `PairClassifier`, `(num_labels,)`."""
    buckets, numbers = plain_features(pairs, first, second)
    if not first or not second:
        return np.zeros(len(pairs.bias))
    table = pairs.table.double().numpy()
    total = sum((table[bucket] for bucket in buckets if bucket), np.zeros(table.shape[1]))
    weighted = total[:-1] / math.sqrt(total[-1]) if total[-1] > 0 else total[:-1]
    return weighted + numbers @ pairs.weight.double().numpy() + pairs.bias.double().numpy()

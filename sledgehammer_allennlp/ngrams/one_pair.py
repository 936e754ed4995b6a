"""The comparison of a single pair's texts in NumPy, see `pair_features`."""

from typing import Tuple

import numpy as np

from sledgehammer_allennlp.ngrams.features import bucket_of, hashed
from sledgehammer_allennlp.ngrams.pair_classifier import PairClassifier
from sledgehammer_allennlp.ngrams.pair_features import CENTRES, MAX_PIECES, SAME, WIDTH

_CENTRES = np.array(CENTRES, np.float32)
_TINY = np.finfo(np.float32).tiny
_LEAST_LENGTH = np.float32(1e-8)
"""Of a mean vector, as in `torch.cosine_similarity`."""


def pair_logits(pairs: PairClassifier, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """
    What the classifier adds to the logits of a pair, `(num_labels,)`, zeros where a text is empty.

    # Parameters

    pairs : `PairClassifier`
        On the CPU, in float32.
    first, second : `np.ndarray`
        `(num_pieces,)`, int64: the pieces of each text, without special tokens.
    """
    weight, bias = pairs.weight.detach().numpy(), pairs.bias.detach().numpy()
    if not len(first) or not len(second):
        return np.zeros_like(bias)
    buckets, numbers = _features(pairs, first[:MAX_PIECES], second[:MAX_PIECES])
    *sums, squares = pairs.table.detach().numpy()[buckets].sum(0)
    logits: np.ndarray = numbers @ weight + bias + sums / np.sqrt(max(squares, _TINY))
    return logits


def _features(
    pairs: PairClassifier, first: np.ndarray, second: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """As `PairFeatures`: `(pieces of the second text,)` and `(num_numbers,)`."""
    vectors, other_vectors = (_vectors(pairs, ids) for ids in (first, second))
    lengths, other_lengths = (_lengths(x) for x in (vectors, other_vectors))
    cosines = (other_vectors @ vectors.T) / np.multiply.outer(other_lengths, lengths)
    units, other_units = vectors / lengths[:, None], other_vectors / other_lengths[:, None]
    frequent = pairs.frequent.numpy()
    is_rare, is_other_rare = (
        (ids[:, None] != frequent).all(1) for ids in (first, second)
    )  # (pieces,)
    of_rare = _about(cosines[is_other_rare][:, is_rare], units[is_rare], other_units[is_other_rare])
    best = cosines.max(1)
    missing = (1 - best)[:, None] * other_units
    numbers = [missing.sum(0), missing.max(0).clip(min=0)]
    numbers += [of_rare, _about(cosines, units, other_units)]
    tenths = np.floor(best * 10).clip(0, 8).astype(np.int64)
    tenths[best > SAME] = 9
    buckets = bucket_of(hashed(second + tenths * 2**32), pairs.num_buckets)
    return buckets[buckets > 0], np.concatenate(numbers)


def _vectors(pairs: PairClassifier, ids: np.ndarray) -> np.ndarray:
    """`(num_pieces, num_dimensions)`, of whole numbers."""
    table = pairs.vectors.numpy()
    return table[ids.clip(0, len(table) - 1)].astype(np.float32)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.sqrt((vectors * vectors).sum(1)).clip(min=1)
    return lengths


def _about(cosines: np.ndarray, units: np.ndarray, other_units: np.ndarray) -> np.ndarray:
    """
    The numbers about all best cosines of some pieces, `(num_centres + 4,)`.

    # Parameters

    cosines : `np.ndarray`
        `(pieces of the second text, pieces of the first)`
    units, other_units : `np.ndarray`
        `(pieces, num_dimensions)`, of the first text and of the second: their vectors of length 1.
    """
    if not cosines.size:
        return np.zeros(len(_CENTRES) + 4, np.float32)
    best = cosines.max(1)
    kernels = np.exp((best[:, None] - _CENTRES) ** 2 * np.float32(-0.5 / WIDTH**2)).mean(0)
    mean, other_mean = units.mean(0), other_units.mean(0)
    scale = max(np.sqrt(mean @ mean), _LEAST_LENGTH) * max(
        np.sqrt(other_mean @ other_mean), _LEAST_LENGTH
    )
    means = [best.mean(), best.min(), cosines.max(0).mean(), mean @ other_mean / scale]
    return np.concatenate([kernels, np.array(means, np.float32)])

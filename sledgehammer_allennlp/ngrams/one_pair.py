"""The comparison of the texts of a pair by itself, in NumPy; see `pair_features`."""

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
    summed = pairs.table.detach().numpy()[buckets].sum(0)
    logits: np.ndarray = numbers @ weight + bias + summed[:-1] / np.sqrt(max(summed[-1], _TINY))
    return logits


def _features(
    pairs: PairClassifier, first: np.ndarray, second: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """As `PairFeatures`: the buckets that are not 0, `(num_buckets,)`, and `(num_numbers,)`."""
    of_first, of_second = (_vectors(pairs, ids) for ids in (first, second))
    lengths, lengths_of_second = (_lengths(vectors) for vectors in (of_first, of_second))
    cosines = (of_second @ of_first.T) / np.multiply.outer(lengths_of_second, lengths)
    of_first /= lengths[:, None]
    of_second /= lengths_of_second[:, None]
    frequent = pairs.frequent.numpy()
    is_rare, is_rare_in_second = (~np.isin(ids, frequent) for ids in (first, second))
    about_rare = _about(
        cosines[is_rare_in_second][:, is_rare], of_first[is_rare], of_second[is_rare_in_second]
    )
    best = cosines.max(1)
    missing = (1 - best)[:, None] * of_second
    numbers = [missing.sum(0), missing.max(0).clip(min=0), about_rare]
    numbers.append(_about(cosines, of_first, of_second))
    tenths = np.floor(best * 10).clip(0, 8).astype(np.int64)
    tenths[best > SAME] = 9
    buckets = bucket_of(hashed(second + tenths * 2**32), pairs.num_buckets)
    return buckets[buckets > 0], np.concatenate(numbers)


def _vectors(pairs: PairClassifier, ids: np.ndarray) -> np.ndarray:
    """`(num_pieces, num_dimensions)`, of whole numbers."""
    table = pairs.vectors.numpy()
    return table[ids.clip(0, len(table) - 1)].astype(np.float32)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Of each vector, at least 1, `(num_pieces,)`."""
    lengths: np.ndarray = np.sqrt((vectors * vectors).sum(1)).clip(min=1)
    return lengths


def _about(cosines: np.ndarray, of_first: np.ndarray, of_second: np.ndarray) -> np.ndarray:
    """
    The numbers about all best cosines of some pieces, `(num_centres + 4,)`.

    # Parameters

    cosines : `np.ndarray`
        `(pieces of the second text, pieces of the first)`
    of_first, of_second : `np.ndarray`
        `(pieces, num_dimensions)`: the pieces' vectors of length 1.
    """
    if not cosines.size:
        return np.zeros(len(_CENTRES) + 4, np.float32)
    best = cosines.max(1)
    kernels = np.exp((best[:, None] - _CENTRES) ** 2 * np.float32(-0.5 / WIDTH**2)).mean(0)
    means = of_first.mean(0), of_second.mean(0)
    lengths = [max(np.sqrt(mean @ mean), _LEAST_LENGTH) for mean in means]
    cosine = means[0] @ means[1] / (lengths[0] * lengths[1])
    about_best = [best.mean(), best.min(), cosines.max(0).mean(), cosine]
    return np.concatenate([kernels, np.array(about_best, np.float32)])

"""The features of labelled texts in groups, each scaled by itself before the regression.

A group's scaling is learned from some of the texts, and gives features of about unit length to any.
"""

import logging
from typing import Protocol, Tuple

import numpy as np
from scipy import sparse
from scipy.special import rel_entr

logger = logging.getLogger(__name__)

_MAX_COEFFICIENTS = 2**22
"""Features times labels of a group that are fitted, of the most frequent: about 1 GB."""

_SMALLEST_DEVIATION = 1e-5


class FeatureGroup(Protocol):
    """Features of the same texts, `(num_texts, num_columns)`."""

    @property
    def num_columns(self) -> int:
        """How many features there are."""

    def scaling(self, texts: np.ndarray, labels: np.ndarray, num_labels: int) -> np.ndarray:
        """Learned from the texts with these numbers, and their labels, both `(num_learned,)`."""

    def features(self, texts: np.ndarray, scaling: np.ndarray) -> sparse.csr_matrix:
        """The scaled features of the texts with these numbers, `(num_wanted, num_columns)`."""


class CountedFeatures:
    """
    Hashed features that are counted. The weight of each is its inverse document frequency, times
    how telling it is of the label: the square root of the Kullback-Leibler divergence of the labels
    of texts that have it from those of all texts. Scaled features are weighted counts, divided so
    that each text's have unit length.

    # Parameters

    counts : `sparse.csr_matrix`
        `(num_texts, num_buckets)`; the first bucket is for what does not count. The most frequent
        features are kept, if they are too many.
    num_labels : `int`
    """

    def __init__(self, counts: sparse.csr_matrix, num_labels: int) -> None:
        num_texts_with = np.bincount(counts.indices, minlength=counts.shape[1])
        num_texts_with[0] = 0
        self.buckets = np.flatnonzero(num_texts_with)
        """Of each column, ascending."""
        most = max(_MAX_COEFFICIENTS // num_labels, 1)
        if len(self.buckets) > most:
            order = np.argsort(-num_texts_with[self.buckets], kind="stable")
            self.buckets = np.sort(self.buckets[order[:most]])
            logger.info("Fitting the %d most frequent of %d features", most, len(order))
        self._counts = counts[:, self.buckets]

    @property
    def num_columns(self) -> int:
        return len(self.buckets)

    def scaling(self, texts: np.ndarray, labels: np.ndarray, num_labels: int) -> np.ndarray:
        """The weight of each feature, `(num_columns,)`."""
        occurs = self._counts[texts]
        occurs.data = np.ones_like(occurs.data)
        num_texts = occurs.shape[0]
        is_label = sparse.csr_matrix(
            (np.ones(num_texts), labels, np.arange(num_texts + 1)), shape=(num_texts, num_labels)
        )
        with_label = np.asarray((occurs.T @ is_label).todense())  # (columns, labels)
        num_with = with_label.sum(1)
        idf = np.log((1 + num_texts) / (1 + num_with)) + 1  # as scikit-learn's TF-IDF has it
        prior = np.bincount(labels, minlength=num_labels) / num_texts
        # Smoothing by one text of average label: a single occurrence is weak evidence.
        given_feature = (with_label + prior) / (num_with + 1)[:, None]
        return idf * np.sqrt(rel_entr(given_feature, prior).sum(1).clip(min=0))

    def features(self, texts: np.ndarray, scaling: np.ndarray) -> sparse.csr_matrix:
        """c_g s_g, for each text divided by sqrt(Σ_g c_g s_g²)."""
        counts = self._counts[texts]
        lengths = np.sqrt(counts @ scaling**2)
        scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        counts.data = (
            counts.data * scaling[counts.indices] * np.repeat(scale, np.diff(counts.indptr))
        ).astype(np.float32)
        return counts

    def to_table(self, num_buckets: int, scaling: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """
        What the regression's `weights`, `(num_columns, num_labels)`, are for each bucket:
        `(num_buckets, num_labels + 1)`, of s_g w_g, and s_g².
        """
        table = np.zeros((num_buckets, weights.shape[1] + 1), dtype=np.float32)
        table[self.buckets, :-1] = scaling[:, None] * weights
        table[self.buckets, -1] = scaling**2
        return table


class StandardisedNumbers:
    """
    Numbers. Scaled ones have mean 0 and variance 1 / `num_columns`.

    # Parameters

    numbers : `np.ndarray`
        `(num_texts, num_columns)`, float32.
    has_numbers : `np.ndarray`
        `(num_texts,)`: whether a text has any. The scaled features of others are 0.
    """

    def __init__(self, numbers: np.ndarray, has_numbers: np.ndarray) -> None:
        self._numbers = numbers
        self._has_numbers = has_numbers

    @property
    def num_columns(self) -> int:
        return int(self._numbers.shape[1])

    def scaling(self, texts: np.ndarray, labels: np.ndarray, num_labels: int) -> np.ndarray:
        """The mean of each column, and what is multiplied by after, `(2, num_columns)`."""
        numbers = self._numbers[texts[self._has_numbers[texts]]]
        if not len(numbers):
            return np.zeros((2, self.num_columns))
        means = numbers.mean(0, dtype=np.float64)
        deviations = numbers.std(0, dtype=np.float64)
        is_constant = deviations < _SMALLEST_DEVIATION
        scales = 1 / np.where(is_constant, np.inf, deviations) / np.sqrt(self.num_columns)
        return np.stack([means, scales])

    def features(self, texts: np.ndarray, scaling: np.ndarray) -> sparse.csr_matrix:
        """Each row that has numbers has all columns."""
        means, scales = scaling.astype(np.float32)
        has_numbers = self._has_numbers[texts]
        values = (self._numbers[texts[has_numbers]] - means) * scales
        columns = np.tile(np.arange(self.num_columns, dtype=np.int32), len(values))
        ends = np.concatenate([[0], has_numbers.cumsum() * self.num_columns])
        shape = (len(texts), self.num_columns)
        return sparse.csr_matrix((values.ravel(), columns, ends), shape=shape)

    @staticmethod
    def to_linear(scaling: np.ndarray, weights: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """
        What the regression's `weights`, `(num_columns, num_labels)`, are for numbers that are not
        scaled: weights, and a bias, `(num_labels,)`.
        """
        means, scales = scaling
        weights = scales[:, None] * weights
        return weights, -means @ weights


def counts_of(buckets: np.ndarray, ends: np.ndarray, num_buckets: int) -> sparse.csr_matrix:
    """
    How often each bucket is in each text, `(num_texts, num_buckets)`.

    # Parameters

    buckets : `np.ndarray`
        Text after text.
    ends : `np.ndarray`
        `(num_texts,)`, where those of each text end.
    num_buckets : `int`
    """
    counts = sparse.csr_matrix(
        (
            np.ones(len(buckets), dtype=np.float32),
            buckets.astype(np.int32),
            np.concatenate([[0], ends]),
        ),
        shape=(len(ends), num_buckets),
    )
    counts.sum_duplicates()
    return counts

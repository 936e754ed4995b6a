"""Fitting the n-gram exit: a convex problem, solved once, before training.

The weight of an n-gram is its inverse document frequency, times how telling it is of the label: the
square root of the Kullback-Leibler divergence of the labels of texts that have it from those of all
texts. The rest is scikit-learn's logistic regression.
"""

import logging
import time
from dataclasses import dataclass
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from scipy import sparse
from scipy.special import rel_entr

from sledgehammer_allennlp.calibration import fit_temperature, negative_log_likelihood
from sledgehammer_allennlp.encoders.token_batch import TokenBatch, starts_of
from sledgehammer_allennlp.ngrams.classifier import NgramClassifier
from sledgehammer_allennlp.ngrams.training_texts import LabeledTexts, TrainingTexts, as_int64

logger = logging.getLogger(__name__)

_MAX_COEFFICIENTS = 2**22
"""N-grams times labels that are fitted, of the most frequent n-grams: about 1 GB."""

_STRENGTHS = (0.02, 0.06, 0.2, 0.6, 2.0, 6.0, 20.0, 60.0)
"""
The inverse strengths of regularisation that may be tried, scikit-learn's `C`: the middle one, and
in one direction from it as many as help.
"""

_MOST_TO_CHOOSE_BY = 20000
_HELD_OUT_SHARE = 0.2


@dataclass(frozen=True)
class NgramFit:
    """
    What came of a fit: to how many of the texts that were seen, with how many n-grams, the chosen
    `C`, and with it the accuracy on held-out training texts and their negative log-likelihood in
    nats after temperature; `None` where there were too few texts to hold any out.
    """

    num_seen: int
    num_texts: int
    num_ngrams: int
    strength: float
    held_out_accuracy: Optional[float]
    held_out_nll: Optional[float]
    seconds: float


def fit_ngram_classifier(classifier: NgramClassifier, samples: Sequence[TrainingTexts]) -> NgramFit:
    """
    Fits an n-gram classifier: weights of n-grams, and multinomial logistic regression with L2
    regularisation on them. The strength of regularisation is chosen by negative log-likelihood,
    after temperature, on held-out texts. The same texts and seed always give the same weights.

    # Parameters

    classifier : `NgramClassifier`
        Is changed.
    samples : `Sequence[TrainingTexts]`
        Of one worker or several, with one seed.

    # Raises

    ValueError
        If there are no texts.
    """
    begin = time.perf_counter()
    num_labels = classifier.num_labels
    texts = TrainingTexts.of_all(samples)
    labels = texts.labels
    num_seen = sum(sample.num_seen for sample in samples)
    if not len(labels):
        raise ValueError("cannot fit the n-gram exit: there are no training texts")
    if len(labels) < num_seen:
        logger.info("Fitting the n-gram exit to a sample of %d of %d texts", len(labels), num_seen)
    first, separator, has_pairs = _special_tokens(texts)
    classifier.set_special_tokens(first, separator, has_pairs)
    counts = sparse.vstack([_counts(classifier, batch) for batch in texts.batches()], format="csr")
    counts, buckets = _keep_known_ngrams(counts, num_labels)
    strength, accuracy, nll = _choose_strength(
        counts, labels, num_labels, *_split(texts, separator, has_pairs)
    )
    weights = _ngram_weights(counts, labels, num_labels)
    model = _Regression(num_labels)
    model.fit(_unit_length_features(counts, weights), labels, strength)
    table = np.zeros((classifier.num_buckets, num_labels + 1), dtype=np.float32)
    table[buckets, :-1] = weights[:, None] * model.coefficients
    table[buckets, -1] = weights**2
    classifier.set_fitted(torch.from_numpy(table), torch.from_numpy(model.bias))
    seconds = time.perf_counter() - begin
    return NgramFit(num_seen, len(labels), len(buckets), strength, accuracy, nll, seconds)


def _special_tokens(texts: LabeledTexts) -> Tuple[int, int, bool]:
    """
    The token that begins nearly every text and the one that ends nearly every text, or -1 and -1;
    and whether most texts have the latter inside, too, as pairs do.
    """
    starts = starts_of(as_int64(texts.lengths)).numpy()
    ends = starts + texts.lengths
    first, share_of_first = _most_frequent(texts.ids[starts])
    last, share_of_last = _most_frequent(texts.ids[ends - 1])
    if min(share_of_first, share_of_last) < 0.9:
        return -1, -1, False
    is_inside = texts.ids == last
    is_inside[ends - 1] = False
    has_inside = np.logical_or.reduceat(is_inside, starts)
    return first, last, bool(has_inside.mean() > 0.5)


def _most_frequent(ids: np.ndarray) -> Tuple[int, float]:
    found, counts = np.unique(ids, return_counts=True)
    return int(found[counts.argmax()]), counts.max() / len(ids)


def _counts(classifier: NgramClassifier, texts: TokenBatch) -> sparse.csr_matrix:
    """How often each n-gram is in each text, `(num_texts, num_buckets)`."""
    buckets = classifier.buckets(texts).flatten().numpy().astype(np.int32)
    ends = texts.lengths.cumsum(0).numpy() * classifier.max_n
    counts = sparse.csr_matrix(
        (np.ones(len(buckets), dtype=np.float32), buckets, np.concatenate([[0], ends])),
        shape=(len(texts), classifier.num_buckets),
    )
    counts.sum_duplicates()
    return counts


def _keep_known_ngrams(
    counts: sparse.csr_matrix, num_labels: int
) -> Tuple[sparse.csr_matrix, np.ndarray]:
    """
    The counts of the n-grams that occur, the most frequent of them if there are too many, and
    their buckets, `(num_ngrams,)`.
    """
    num_texts_with = np.bincount(counts.indices, minlength=counts.shape[1])
    num_texts_with[0] = 0
    buckets = np.flatnonzero(num_texts_with)
    most = max(_MAX_COEFFICIENTS // num_labels, 1)
    if len(buckets) > most:
        order = np.argsort(-num_texts_with[buckets], kind="stable")
        buckets = np.sort(buckets[order[:most]])
        logger.info("Fitting the %d most frequent of %d n-grams", most, len(order))
    return counts[:, buckets], buckets


def _ngram_weights(counts: sparse.csr_matrix, labels: np.ndarray, num_labels: int) -> np.ndarray:
    """The weight of each n-gram, `(num_ngrams,)`."""
    num_texts = counts.shape[0]
    occurs = counts.copy()
    occurs.data = np.ones_like(occurs.data)
    is_label = sparse.csr_matrix(
        (np.ones(num_texts), labels, np.arange(num_texts + 1)), shape=(num_texts, num_labels)
    )
    with_label = np.asarray((occurs.T @ is_label).todense())  # (ngrams, labels)
    num_with = with_label.sum(1)
    idf = np.log((1 + num_texts) / (1 + num_with)) + 1  # as scikit-learn's TF-IDF has it
    prior = np.bincount(labels, minlength=num_labels) / num_texts
    # Smoothing by one text of average label: a single occurrence is weak evidence.
    given_ngram = (with_label + prior) / (num_with + 1)[:, None]
    return idf * np.sqrt(rel_entr(given_ngram, prior).sum(1).clip(min=0))


def _unit_length_features(counts: sparse.csr_matrix, weights: np.ndarray) -> sparse.csr_matrix:
    """What the regression sees: c_g s_g, for each text divided by sqrt(Σ_g c_g s_g²)."""
    lengths = np.sqrt(counts @ weights**2)
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    scaled = counts.copy()
    scaled.data = (
        counts.data * weights[counts.indices] * np.repeat(scale, np.diff(counts.indptr))
    ).astype(np.float32)
    return scaled


def _split(texts: LabeledTexts, separator: int, has_pairs: bool) -> Tuple[np.ndarray, np.ndarray]:
    """
    Which texts the strength is chosen by: those to fit to, and those that are held out for it,
    about a fifth, or none if they are few. All pairs of one first text are on one side, because
    people write several second texts for it, one for each label; and so are copies of a text.
    """
    numbers = texts.numbers
    # In an order by a hash of the text. So every text has its share of those that are chosen.
    num_chosen = min(len(numbers), _MOST_TO_CHOOSE_BY)
    chosen = np.arange(num_chosen) * len(numbers) // num_chosen
    most = int(len(chosen) * _HELD_OUT_SHARE)
    is_held_out = np.zeros(len(chosen), dtype=bool)
    if has_pairs:
        is_held_out = _some_groups(texts.numbers_of_first_texts(separator)[chosen], most)
    if is_held_out.sum() < most / 2:  # a few first texts have nearly all pairs
        is_held_out = _some_groups(numbers[chosen], most)
    return chosen[~is_held_out], chosen[is_held_out]


def _some_groups(groups: np.ndarray, most: int) -> np.ndarray:
    """Whether each is of a random selection of groups that has `most` members, or somewhat less."""
    _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    is_taken = np.zeros(len(sizes), dtype=bool)
    for group, size in enumerate(sizes.tolist()):  # by ascending hash
        if size <= most:
            is_taken[group] = True
            most -= size
    return is_taken[members]


def _choose_strength(
    counts: sparse.csr_matrix,
    labels: np.ndarray,
    num_labels: int,
    kept: np.ndarray,
    held_out: np.ndarray,
) -> Tuple[float, Optional[float], Optional[float]]:
    """The strength that does best on held-out texts, accuracy and NLL there."""
    middle = len(_STRENGTHS) // 2
    if not len(held_out):
        return _STRENGTHS[middle], None, None
    weights = _ngram_weights(counts[kept], labels[kept], num_labels)
    inside, outside = (_unit_length_features(counts[part], weights) for part in (kept, held_out))
    model = _Regression(num_labels)

    def attempt(strength: float) -> _Attempt:
        model.fit(inside, labels[kept], strength)
        logits = model.logits(outside)
        temperature = fit_temperature(logits, labels[held_out])
        nll = negative_log_likelihood(logits, labels[held_out], temperature)
        accuracy = float((logits.argmax(1) == labels[held_out]).mean())
        logger.info(
            "n-gram exit with C = %g: held-out accuracy %.4f, NLL %.4f", strength, accuracy, nll
        )
        return _Attempt(nll, strength, accuracy)

    first = best = attempt(_STRENGTHS[middle])
    for strengths in (_STRENGTHS[middle + 1 :], _STRENGTHS[:middle][::-1]):
        if best is not first:
            break  # larger ones are better
        for strength in strengths:
            found = attempt(strength)
            if found.nll >= best.nll:
                break
            best = found
    return best.strength, best.accuracy, best.nll


class _Attempt(NamedTuple):
    nll: float
    strength: float
    accuracy: float


class _Regression:
    """
    scikit-learn's logistic regression, for any set of labels: what has not been seen gets no
    coefficients and a probability of about one in as many texts as there were.
    """

    def __init__(self, num_labels: int) -> None:
        from sklearn.linear_model import LogisticRegression

        self._num_labels = num_labels
        # The gradients of long sparse rows of unit length are small.
        self._model = LogisticRegression(warm_start=True, max_iter=500, tol=1e-5)

    def fit(self, features: sparse.csr_matrix, labels: np.ndarray, strength: float) -> None:
        num_texts, num_ngrams = features.shape
        seen = np.unique(labels)
        self.coefficients = np.zeros((num_ngrams, self._num_labels), dtype=np.float32)
        self.bias = np.full(self._num_labels, -np.log(num_texts + 1), dtype=np.float32)
        self.bias[seen] = 0
        if len(seen) == 1 or num_ngrams == 0:
            return
        self._model.C = strength
        self._model.fit(features, labels)
        coefficients, bias = self._model.coef_, self._model.intercept_
        if len(seen) == 2:  # of the second label, against the first
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            bias = np.concatenate([-bias, bias]) / 2
        self.coefficients[:, seen] = coefficients.T
        self.bias[seen] += bias

    def logits(self, features: sparse.csr_matrix) -> np.ndarray:
        return np.asarray(features @ self.coefficients + self.bias, dtype=np.float64)

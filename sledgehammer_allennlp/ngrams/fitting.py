"""Fitting the n-gram exit: a convex problem, solved once, before training.

The features and their weights are in `feature_groups`. The rest is scikit-learn's logistic
regression.
"""

import logging
import time
from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from scipy import sparse

from sledgehammer_allennlp.calibration import fit_temperature, negative_log_likelihood
from sledgehammer_allennlp.encoders.token_batch import TokenBatch, starts_of
from sledgehammer_allennlp.ngrams.classifier import NgramClassifier
from sledgehammer_allennlp.ngrams.feature_groups import (
    CountedFeatures,
    FeatureGroup,
    StandardisedNumbers,
    counts_of,
)
from sledgehammer_allennlp.ngrams.pair_classifier import PairClassifier
from sledgehammer_allennlp.ngrams.pair_features import group_sizes
from sledgehammer_allennlp.ngrams.piece_vectors import piece_vectors
from sledgehammer_allennlp.ngrams.training_texts import LabeledTexts, TrainingTexts, as_int64

logger = logging.getLogger(__name__)

_STRENGTHS = (0.02, 0.06, 0.2, 0.6, 2.0, 6.0, 20.0, 60.0)
"""
The inverse strengths of regularisation that may be tried, scikit-learn's `C`: the middle one, and
in one direction from it as many as help.
"""

_MOST_TO_CHOOSE_BY = 20000
_HELD_OUT_SHARE = 0.2

_MOST_PAIRS = 2**18
"""Pairs that are compared and fitted to: the numbers of a pair take about 4 kB in the fit."""

_NUM_FREQUENT = 60
"""The most frequent pieces, without which the pieces of pairs are compared once more."""


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


def fit_ngram_classifier(
    classifier: NgramClassifier,
    samples: Sequence[TrainingTexts],
    embeddings: Optional[torch.Tensor] = None,
    label_weights: Optional[np.ndarray] = None,
) -> NgramFit:
    """
    Fits an n-gram classifier: weights of n-grams, and multinomial logistic regression with L2
    regularisation on them, and on the comparison of the texts of pairs, if the texts are pairs. The
    strength of regularisation is chosen by negative log-likelihood, after temperature, on held-out
    texts. The same texts and seed always give the same weights.

    # Parameters

    classifier : `NgramClassifier`
        Is changed.
    samples : `Sequence[TrainingTexts]`
        Of one worker or several, with one seed.
    embeddings : `torch.Tensor`, optional (default = `None`)
        `(num_pieces, embedding_size)`, pretrained, of word pieces, by which the texts of pairs are
        compared; without it they are not.
    label_weights : `np.ndarray`, optional (default = `None`)
        `(num_labels,)`, how much a text of each label counts in the regression.

    # Raises

    ValueError
        If there are no texts.
    """
    begin = time.perf_counter()
    texts = TrainingTexts.of_all(samples)
    num_seen = sum(sample.num_seen for sample in samples)
    if not len(texts.labels):
        raise ValueError("cannot fit the n-gram exit: there are no training texts")
    first, separator, has_pairs = _special_tokens(texts)
    classifier.set_special_tokens(first, separator, has_pairs)
    pairs = None
    if has_pairs and classifier.may_compare_pairs and embeddings is not None:
        texts = texts.first(_MOST_PAIRS)
        frequent = _frequent_pieces(texts, first, separator)
        pairs = PairClassifier(piece_vectors(embeddings), frequent, classifier.num_labels)
    if len(texts.labels) < num_seen:
        logger.info(
            "Fitting the n-gram exit to a sample of %d of %d texts", len(texts.labels), num_seen
        )
    groups = _Groups.of(texts, classifier, pairs)
    parts = _split(texts, separator, has_pairs)
    model = _Regression(classifier.num_labels, label_weights)
    strength, accuracy, nll = _choose_strength(groups.all, texts.labels, model, *parts)
    groups.fit(
        classifier, pairs, texts.labels, _Regression(classifier.num_labels, label_weights), strength
    )
    seconds = time.perf_counter() - begin
    return NgramFit(
        num_seen, len(texts.labels), groups.ngrams.num_columns, strength, accuracy, nll, seconds
    )


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


def _frequent_pieces(texts: LabeledTexts, first: int, separator: int) -> torch.Tensor:
    """The most frequent pieces, `(num_frequent,)`, ascending."""
    pieces, counts = np.unique(texts.ids, return_counts=True)
    is_word = (pieces != first) & (pieces != separator)
    pieces, counts = pieces[is_word], counts[is_word]
    most = np.argsort(-counts, kind="stable")[:_NUM_FREQUENT]
    return as_int64(np.sort(pieces[most]))


class _Groups(NamedTuple):
    """The features of the training texts."""

    ngrams: CountedFeatures
    matches: Optional[CountedFeatures]
    """The hashed features of pairs, if they are compared."""
    numbers: List[StandardisedNumbers]
    """The numbers of pairs, if they are compared."""

    @classmethod
    def of(
        cls, texts: LabeledTexts, classifier: NgramClassifier, pairs: Optional[PairClassifier]
    ) -> "_Groups":
        """Of the n-grams, and of the comparison of pairs, if there is one."""
        num_labels = classifier.num_labels
        batches = texts.batches()
        counts = [_ngram_counts(classifier, batch) for batch in batches]
        ngrams = CountedFeatures(sparse.vstack(counts, format="csr"), num_labels)
        if pairs is None:
            return cls(ngrams, None, [])
        with torch.no_grad():
            compared = [
                pairs.compare(batch, starts_of(batch.lengths), classifier.marks.cpu())
                for batch in batches
            ]
        counts = [
            counts_of(
                buckets.flatten().numpy(),
                np.arange(1, len(buckets) + 1) * buckets.size(1),
                pairs.num_buckets,
            )
            for buckets, _, _ in compared
        ]
        numbers = np.concatenate([numbers.numpy() for _, numbers, _ in compared])
        is_pair = np.concatenate([is_pair.numpy() for _, _, is_pair in compared])
        ends = np.cumsum(group_sizes(pairs.vectors.size(1)))[:-1]
        return cls(
            ngrams,
            CountedFeatures(sparse.vstack(counts, format="csr"), num_labels),
            [StandardisedNumbers(part, is_pair) for part in np.split(numbers, ends, axis=1)],
        )

    @property
    def all(self) -> List[FeatureGroup]:
        """In the order of the regression's columns."""
        matches = [] if self.matches is None else [self.matches]
        return [self.ngrams, *matches, *self.numbers]

    def fit(
        self,
        classifier: NgramClassifier,
        pairs: Optional[PairClassifier],
        labels: np.ndarray,
        model: "_Regression",
        strength: float,
    ) -> None:
        """Fits to all texts, and gives the weights to the classifier."""
        everything = np.arange(len(labels))
        scaled = _Scaled(self.all, everything, labels, classifier.num_labels)
        model.fit(scaled.features(everything), labels, strength)
        ends = np.cumsum([group.num_columns for group in self.all])[:-1]
        parts = list(zip(scaled.scalings, np.split(model.coefficients, ends)))
        table = self.ngrams.to_table(classifier.num_buckets, *parts[0])
        if pairs is not None and self.matches is not None:
            with torch.no_grad():
                matches = self.matches.to_table(pairs.num_buckets, *parts[1])
                pairs.table.copy_(torch.from_numpy(matches))
                linear = [StandardisedNumbers.to_linear(*part) for part in parts[2:]]
                weight = np.concatenate([weight for weight, _ in linear])
                pairs.weight.copy_(torch.from_numpy(weight))
                pairs.bias.copy_(torch.from_numpy(sum(bias for _, bias in linear)))
        classifier.set_fitted(torch.from_numpy(table), torch.from_numpy(model.bias), pairs)


def _ngram_counts(classifier: NgramClassifier, texts: TokenBatch) -> sparse.csr_matrix:
    """How often each n-gram is in each text, `(num_texts, num_buckets)`."""
    buckets = classifier.buckets(texts).flatten().numpy()
    ends = texts.lengths.cumsum(0).numpy() * classifier.max_n
    return counts_of(buckets, ends, classifier.num_buckets)


class _Scaled:
    """Groups of features with a scaling that is learned from some texts."""

    def __init__(
        self, groups: List[FeatureGroup], texts: np.ndarray, labels: np.ndarray, num_labels: int
    ) -> None:
        self._groups = groups
        self.scalings = [group.scaling(texts, labels[texts], num_labels) for group in groups]

    def features(self, texts: np.ndarray) -> sparse.csr_matrix:
        """What the regression sees of texts, `(num_texts, num_columns)`."""
        parts = [group.features(texts, s) for group, s in zip(self._groups, self.scalings)]
        return parts[0] if len(parts) == 1 else sparse.hstack(parts, format="csr")


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
    groups: List[FeatureGroup],
    labels: np.ndarray,
    model: "_Regression",
    kept: np.ndarray,
    held_out: np.ndarray,
) -> Tuple[float, Optional[float], Optional[float]]:
    """The strength that does best on held-out texts, accuracy and NLL there."""
    middle = len(_STRENGTHS) // 2
    if not len(held_out):
        return _STRENGTHS[middle], None, None
    scaled = _Scaled(groups, kept, labels, model.num_labels)
    inside, outside = scaled.features(kept), scaled.features(held_out)

    def attempt(strength: float) -> _Attempt:
        model.fit(inside, labels[kept], strength)
        logits = model.logits(outside)
        # What is expected of texts as they are, not as they are weighted.
        logits = logits - np.log(model.label_weights)
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

    # Parameters

    num_labels : `int`
    label_weights : `np.ndarray`, optional
        `(num_labels,)`, how much a text of each label counts; by default 1.
    """

    def __init__(self, num_labels: int, label_weights: Optional[np.ndarray]) -> None:
        from sklearn.linear_model import LogisticRegression

        self.num_labels = num_labels
        self.label_weights = np.ones(num_labels) if label_weights is None else label_weights
        # The gradients of long sparse rows of unit length are small.
        self._model = LogisticRegression(warm_start=True, max_iter=500, tol=1e-5)

    def fit(self, features: sparse.csr_matrix, labels: np.ndarray, strength: float) -> None:
        num_texts, num_ngrams = features.shape
        seen = np.unique(labels)
        self.coefficients = np.zeros((num_ngrams, self.num_labels), dtype=np.float32)
        self.bias = np.full(self.num_labels, -np.log(num_texts + 1), dtype=np.float32)
        self.bias[seen] = 0
        if len(seen) == 1 or num_ngrams == 0:
            return
        self._model.C = strength
        self._model.fit(features, labels, sample_weight=self.label_weights[labels])
        coefficients, bias = self._model.coef_, self._model.intercept_
        if len(seen) == 2:  # of the second label, against the first
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            bias = np.concatenate([-bias, bias]) / 2
        self.coefficients[:, seen] = coefficients.T
        self.bias[seen] += bias

    def logits(self, features: sparse.csr_matrix) -> np.ndarray:
        return np.asarray(features @ self.coefficients + self.bias, dtype=np.float64)

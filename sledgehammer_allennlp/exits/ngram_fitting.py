"""Fitting the n-gram exit: a convex problem, solved once, before training.

The weight of an n-gram is its inverse document frequency, times how much it says of the label: the
square root of the Kullback-Leibler divergence of the labels of texts that have it from those of all
texts. The rest is scikit-learn's logistic regression.
"""

import logging
import time
from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from scipy import sparse
from scipy.special import rel_entr

from sledgehammer_allennlp.calibration import fit_temperature, negative_log_likelihood
from sledgehammer_allennlp.encoders.token_batch import TokenBatch, token_indices
from sledgehammer_allennlp.exits.ngrams import NgramClassifier

logger = logging.getLogger(__name__)

MAX_TOKENS = 2**25
"""Of texts with more tokens a sample is kept, for which fitting takes about 3 GB (`max_n` 2)."""

_MAX_COEFFICIENTS = 2**22
"""N-grams times labels that are fitted, of the most frequent n-grams: about 1 GB."""

_STRENGTHS = (2.0, 6.0, 20.0, 60.0)
"""The inverse strengths of regularisation that are tried, scikit-learn's `C`."""

_MOST_TO_CHOOSE_BY = 20000
_HELD_OUT_SHARE = 0.2
_TEXTS_AT_ONCE = 4096


class TrainingTexts:
    """
    Labelled texts to fit to, as token ids: all of them, or if they have too many tokens together,
    a random sample.

    # Parameters

    seed : `int`
        Decides which texts are in the sample.
    max_tokens : `int`, optional (default = 2**25)
        The most tokens that are kept.
    """

    def __init__(self, seed: int, max_tokens: int = MAX_TOKENS) -> None:
        self.num_seen = 0
        self._max_tokens = max_tokens
        self._random = np.random.default_rng(seed)
        self._share = 1.0
        self._num_tokens = 0
        self._batches: List[Tuple[TokenBatch, np.ndarray, np.ndarray]] = []

    def add(self, texts: TokenBatch, labels: np.ndarray) -> None:
        """Adds texts and their labels, `(num_texts,)`."""
        self.num_seen += len(texts)
        # A text is kept while its number is below a share that is halved whenever there are too
        # many, so that all texts ever seen have the same chance.
        numbers = self._random.random(len(texts))
        texts = TokenBatch(
            texts.token_ids.cpu().int(), texts.type_ids[:0].cpu(), texts.lengths.cpu()
        )
        self._keep([(texts, np.asarray(labels), numbers)])
        while self._num_tokens > self._max_tokens:
            self._share /= 2
            batches, self._batches, self._num_tokens = self._batches, [], 0
            self._keep(batches)

    def _keep(self, batches: List[Tuple[TokenBatch, np.ndarray, np.ndarray]]) -> None:
        for texts, labels, numbers in batches:
            kept = np.flatnonzero(numbers < self._share)
            if len(kept) < len(numbers):
                texts = _selected(texts, kept)
            if len(kept):
                self._batches.append((texts, labels[kept], numbers[kept]))
                self._num_tokens += texts.token_ids.numel()

    def together(self) -> Tuple[TokenBatch, np.ndarray]:
        """The texts that were kept, without type ids, and their labels, `(num_texts,)`."""
        if not self._batches:
            return TokenBatch.from_lists([]), np.zeros(0, dtype=np.int64)
        texts = [texts for texts, _, _ in self._batches]
        return (
            TokenBatch(
                torch.cat([batch.token_ids for batch in texts]),
                texts[0].type_ids,
                torch.cat([batch.lengths for batch in texts]),
            ),
            np.concatenate([labels for _, labels, _ in self._batches]),
        )


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
    classifier: NgramClassifier, samples: Sequence[TrainingTexts], seed: int
) -> NgramFit:
    """
    Fits an n-gram classifier: weights of n-grams, and multinomial logistic regression with L2
    regularisation on them. The strength of regularisation is chosen by negative log-likelihood,
    after temperature, on held-out texts. The same samples and seed always give the same weights.

    # Parameters

    classifier : `NgramClassifier`
        Is changed.
    samples : `Sequence[TrainingTexts]`
        Of one worker or several.
    seed : `int`
        Decides which texts are held out.

    # Raises

    ValueError
        If there are no texts.
    """
    begin = time.perf_counter()
    kept = [sample.together() for sample in samples]
    texts = [batch for batch, labels in kept if len(labels)]
    labels = np.concatenate([labels for _, labels in kept])
    if not len(labels):
        raise ValueError("cannot fit the n-gram exit: there are no training texts")
    classifier.set_special_tokens(*_special_tokens(texts))
    counts = sparse.vstack([_counts(classifier, batch) for batch in texts], format="csr")
    num_seen = sum(sample.num_seen for sample in samples)
    if len(labels) < num_seen:
        logger.info("Fitting the n-gram exit to %d of %d texts, by chance", len(labels), num_seen)
    counts, buckets = _of_known_ngrams(counts, classifier.num_labels)
    strength, accuracy, nll = _choose(
        counts, labels, classifier.num_labels, np.random.default_rng(seed)
    )
    weights = _weights(counts, labels, classifier.num_labels)
    model = _Regression(classifier.num_labels)
    model.fit(_scaled(counts, weights), labels, strength)
    table = np.zeros((classifier.num_buckets, classifier.num_labels + 1), dtype=np.float32)
    table[buckets, :-1] = weights[:, None] * model.coefficients
    table[buckets, -1] = weights**2
    classifier.set_fitted(torch.from_numpy(table), torch.from_numpy(model.bias))
    seconds = time.perf_counter() - begin
    return NgramFit(num_seen, len(labels), len(buckets), strength, accuracy, nll, seconds)


def _selected(texts: TokenBatch, kept: np.ndarray) -> TokenBatch:
    chosen = torch.from_numpy(kept)
    tokens = token_indices(texts.lengths, chosen)
    return TokenBatch(texts.token_ids[tokens], texts.type_ids, texts.lengths[chosen])


def _special_tokens(batches: List[TokenBatch]) -> Tuple[int, int, bool]:
    """
    The token that begins every text and the one that ends every text, or -1; and whether most
    texts have the latter inside, too, as pairs do.
    """
    ends = [batch.lengths.cumsum(0) for batch in batches]
    firsts = torch.cat([batch.token_ids[end - batch.lengths] for batch, end in zip(batches, ends)])
    lasts = torch.cat([batch.token_ids[end - 1] for batch, end in zip(batches, ends)])
    first = int(firsts[0]) if bool((firsts == firsts[0]).all()) else -1
    last = int(lasts[0]) if bool((lasts == lasts[0]).all()) else -1
    num_inside = sum(int((batch.token_ids == last).sum()) for batch in batches) - len(lasts)
    return first, last, num_inside * 2 > len(lasts)


def _counts(classifier: NgramClassifier, texts: TokenBatch) -> sparse.csr_matrix:
    """How often each n-gram is in each text, `(num_texts, num_buckets)`."""
    return sparse.vstack([_counts_of_few(classifier, few) for few in _pieces(texts)], format="csr")


def _pieces(texts: TokenBatch) -> Iterator[TokenBatch]:
    sizes = [int(lengths.sum()) for lengths in texts.lengths.split(_TEXTS_AT_ONCE)]
    for ids, lengths in zip(texts.token_ids.split(sizes), texts.lengths.split(_TEXTS_AT_ONCE)):
        yield TokenBatch(ids.long(), texts.type_ids, lengths)


def _counts_of_few(classifier: NgramClassifier, texts: TokenBatch) -> sparse.csr_matrix:
    buckets = classifier.buckets(texts).flatten().numpy().astype(np.int32)
    ends = texts.lengths.cumsum(0).numpy() * classifier.max_n
    counts = sparse.csr_matrix(
        (np.ones(len(buckets), dtype=np.float32), buckets, np.concatenate([[0], ends])),
        shape=(len(texts), classifier.num_buckets),
    )
    counts.sum_duplicates()
    return counts


def _of_known_ngrams(
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


def _weights(counts: sparse.csr_matrix, labels: np.ndarray, num_labels: int) -> np.ndarray:
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
    # One text more, of average label: a single occurrence says little.
    given_ngram = (with_label + prior) / (num_with + 1)[:, None]
    return idf * np.sqrt(rel_entr(given_ngram, prior).sum(1).clip(min=0))


def _scaled(counts: sparse.csr_matrix, weights: np.ndarray) -> sparse.csr_matrix:
    """What the regression sees: weighted counts, each text's divided by Σ_g c_g s_g²."""
    lengths = np.sqrt(counts @ weights**2)
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    scaled = counts.copy()
    scaled.data = (
        counts.data * weights[counts.indices] * np.repeat(scale, np.diff(counts.indptr))
    ).astype(np.float32)
    return scaled


def _choose(
    counts: sparse.csr_matrix, labels: np.ndarray, num_labels: int, random: np.random.Generator
) -> Tuple[float, Optional[float], Optional[float]]:
    """The strength that does best on held-out texts, accuracy and NLL there."""
    order = random.permutation(len(labels))[:_MOST_TO_CHOOSE_BY]
    num_held_out = int(len(order) * _HELD_OUT_SHARE)
    if not num_held_out:
        return _STRENGTHS[len(_STRENGTHS) // 2], None, None
    held_out, kept = order[:num_held_out], order[num_held_out:]
    weights = _weights(counts[kept], labels[kept], num_labels)
    inside, outside = (_scaled(counts[part], weights) for part in (kept, held_out))
    model = _Regression(num_labels)
    results: List[Tuple[float, float, float]] = []
    for strength in _STRENGTHS:
        model.fit(inside, labels[kept], strength)
        logits = model.logits(outside)
        temperature = fit_temperature(logits, labels[held_out])
        nll = negative_log_likelihood(logits, labels[held_out], temperature)
        accuracy = float((logits.argmax(1) == labels[held_out]).mean())
        logger.info(
            "n-gram exit with C = %g: held-out accuracy %.4f, NLL %.4f", strength, accuracy, nll
        )
        results.append((nll, strength, accuracy))
    nll, strength, accuracy = min(results)
    return strength, accuracy, nll


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
        if len(seen) == 1:
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

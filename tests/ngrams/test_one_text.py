"""One text in NumPy: the formula written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.ngrams import NgramClassifier
from sledgehammer_allennlp.ngrams.one_text import score_one_text
from tests.ngrams.ngram_reference import (
    FIRST,
    SEPARATOR,
    bucket_of,
    ngrams_of,
    plain_ngram_logits,
    random_classifier,
    texts_of_lists,
    token_lists,
)


@settings(max_examples=150, deadline=None)
@given(text=token_lists, max_n=st.integers(1, 5), num_buckets=st.sampled_from([2, 64, 2**16]))
def test_logits_are_the_formula_written_out(text, max_n, num_buckets):
    classifier = random_classifier(max_n=max_n, num_buckets=num_buckets)
    found = score_one_text(classifier, texts_of_lists(text))
    wanted = plain_ngram_logits(classifier, [text])
    np.testing.assert_allclose([found.logits], wanted, atol=1e-4, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(text=token_lists, max_n=st.integers(1, 5), seed=st.integers(0, 5))
def test_the_share_of_seen_ngrams_is_counted_one_by_one(text, max_n, seed):
    num_buckets = 2**16
    classifier = random_classifier(max_n=max_n, num_buckets=num_buckets)
    torch.manual_seed(seed)
    with torch.no_grad():
        classifier.table[torch.rand(num_buckets) < 0.5] = 0
    ngrams = ngrams_of(text, max_n, FIRST, SEPARATOR, has_pairs=False)
    buckets = [bucket_of(side, ngram, num_buckets) for side, ngram in ngrams]
    are_seen = [bool(classifier.table[bucket, -1] > 0) for bucket in buckets if bucket]
    wanted = sum(are_seen) / len(are_seen) if are_seen else 1.0
    found = score_one_text(classifier, texts_of_lists(text))
    assert np.float32(found.seen_share) == np.float32(wanted)


def _fitted_to_pairs() -> NgramClassifier:
    return random_classifier(has_pairs=True)


def _of_doubles() -> NgramClassifier:
    return random_classifier().double()


@pytest.mark.parametrize("make", [_fitted_to_pairs, _of_doubles, lambda: NgramClassifier(3)])
def test_what_is_unusual_is_left_to_the_general_way(make):
    assert score_one_text(make(), texts_of_lists([1, 4, 5, 2])) is None

"""One text in NumPy: the formula written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.encoders import TokenBatch
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
from tests.ngrams.pair_reference import pieces_of, plain_pair_logits, random_pair_classifier

COMPARING = random_pair_classifier()


def _with_types(text):
    types = st.lists(st.integers(0, 1), min_size=len(text), max_size=len(text))
    return st.tuples(st.just(text), st.none() | types)


texts_with_types = token_lists.flatmap(_with_types)


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


@settings(max_examples=150, deadline=None)
@given(typed=texts_with_types, max_n=st.integers(1, 5))
def test_each_text_of_a_pair_has_its_own_ngrams(typed, max_n):
    text, types = typed
    classifier = random_classifier(max_n=max_n, has_pairs=True)
    found = score_one_text(classifier, TokenBatch.from_lists([text], types and [types]))
    wanted = plain_ngram_logits(classifier, [text], True, [types])
    np.testing.assert_allclose([found.logits], wanted, atol=1e-4, rtol=1e-4)


@settings(max_examples=150, deadline=None)
@given(typed=texts_with_types)
def test_the_comparison_of_a_pair_is_the_formula_written_out(typed):
    text, types = typed
    found = score_one_text(COMPARING, TokenBatch.from_lists([text], types and [types]))
    wanted = plain_ngram_logits(COMPARING, [text], True, [types])
    wanted += plain_pair_logits(COMPARING.pairs, *pieces_of(text, types))
    np.testing.assert_allclose([found.logits], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "pair",
    [
        [1, *[6, 7] * 256, 8, 2, 6, 7, 9, 2],  # more pieces than count
        [1, 6, -7, 2, 7, -3, 2],
        [1, 6, 7],  # one text, without a separator
        [1, 6, 10**6, 2, 7, 10**6, 8, 2],  # beyond the vocabulary
        [1, 12, 2, 12, 2],  # a vector of zeros
        [1, 3, 4, 2, 5, 3, 2],  # frequent pieces alone
    ],
)
def test_unusual_pairs_are_scored_as_in_batches(pair):
    batch = texts_of_lists(pair)
    wanted, seen_share = COMPARING.logits_and_seen_share(batch)
    found = score_one_text(COMPARING, batch)
    np.testing.assert_allclose([found.logits], wanted.numpy(), atol=1e-4, rtol=1e-4)
    assert np.float32(found.seen_share) == seen_share.numpy()


def _of_doubles() -> NgramClassifier:
    return random_classifier().double()


def _with_a_hook() -> NgramClassifier:
    classifier = random_pair_classifier()
    classifier.pairs.register_forward_hook(lambda *_: None)
    return classifier


def _of_weights_made_by_hand() -> NgramClassifier:
    classifier = random_pair_classifier()
    classifier.marks[2] = 0  # fitted to single texts, and compares pairs
    return classifier


def test_pairs_of_long_texts_are_left_to_the_general_way():
    first = [6, 7] * 32
    for second, is_scored in ([8] * 32, True), ([8] * 33, False):
        text = texts_of_lists([1, *first, 2, *second, 2])
        assert (score_one_text(COMPARING, text) is not None) == is_scored


@pytest.mark.parametrize(
    "make",
    [_of_doubles, lambda: NgramClassifier(3), _with_a_hook, _of_weights_made_by_hand],
)
def test_what_is_unusual_is_left_to_the_general_way(make):
    assert score_one_text(make(), texts_of_lists([1, 4, 5, 2])) is None

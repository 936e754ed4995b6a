import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.ngrams import NgramClassifier
from sledgehammer_allennlp.ngrams.classifier import default_num_buckets
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
@given(
    batch=st.lists(token_lists, min_size=1, max_size=6),
    max_n=st.integers(1, 5),
    num_buckets=st.sampled_from([2, 64, 2**16]),
    has_pairs=st.booleans(),
)
def test_logits_are_those_of_the_formula_written_out(batch, max_n, num_buckets, has_pairs):
    classifier = random_classifier(max_n=max_n, num_buckets=num_buckets, has_pairs=has_pairs)
    logits = classifier(texts_of_lists(*batch))
    wanted = plain_ngram_logits(classifier, batch, has_pairs)
    np.testing.assert_allclose(logits.numpy(), wanted, atol=1e-4, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(
    batch=st.lists(st.tuples(token_lists, st.integers(0, 13)), min_size=1, max_size=6),
    has_pairs=st.booleans(),
)
def test_type_ids_say_where_a_second_text_begins(batch, has_pairs):
    """Where a text has any; each text of a batch by itself."""
    classifier = random_classifier(has_pairs=has_pairs)
    token_ids = [text for text, _ in batch]
    type_ids = [[int(i >= begin) for i in range(len(text))] for text, begin in batch]
    logits = classifier(TokenBatch.from_lists(token_ids, type_ids))
    wanted = plain_ngram_logits(classifier, token_ids, has_pairs, type_ids)
    np.testing.assert_allclose(logits.numpy(), wanted, atol=1e-4, rtol=1e-4)


def test_a_separator_typed_into_a_first_text_moves_no_word_to_the_second():
    classifier = random_classifier(has_pairs=True)
    typed = [FIRST, 5, SEPARATOR, 6, SEPARATOR, 7, SEPARATOR]
    one = classifier(TokenBatch.from_lists([typed], [[0, 0, 0, 0, 0, 1, 1]]))
    words = {(side, ngram) for side, ngram in [(0, (5,)), (0, (6,)), (1, (7,))]}
    found = set(ngrams_of(typed, 2, FIRST, SEPARATOR, True, [0, 0, 0, 0, 0, 1, 1]))
    assert found == words
    assert not torch.allclose(one, classifier(texts_of_lists(typed)))


@settings(max_examples=100, deadline=None)
@given(text=token_lists, max_n=st.integers(1, 4), has_pairs=st.booleans())
def test_buckets_are_those_of_each_ngram_of_the_text(text, max_n, has_pairs):
    classifier = random_classifier(max_n=max_n, num_buckets=2**20, has_pairs=has_pairs)
    found = classifier.buckets(texts_of_lists(text)).flatten().tolist()
    ngrams = ngrams_of(text, max_n, FIRST, SEPARATOR, has_pairs)
    wanted = [bucket_of(side, ngram, 2**20) for side, ngram in ngrams]
    assert sorted(bucket for bucket in found if bucket) == sorted(b for b in wanted if b)


@settings(max_examples=50, deadline=None)
@given(batch=st.lists(token_lists, min_size=2, max_size=6), data=st.data())
def test_an_answer_does_not_depend_on_the_batch_or_its_order(batch, data):
    classifier = random_classifier()
    together = classifier(texts_of_lists(*batch))
    order = data.draw(st.permutations(range(len(batch))))
    shuffled = classifier(texts_of_lists(*(batch[i] for i in order)))
    assert torch.equal(shuffled, together[list(order)])
    for row, text in enumerate(batch):
        assert torch.equal(classifier(texts_of_lists(text))[0], together[row])


@pytest.mark.parametrize("has_pairs", [True, False])
def test_each_text_of_a_pair_has_its_own_ngrams(has_pairs):
    classifier = random_classifier(has_pairs=has_pairs)
    one = texts_of_lists([FIRST, 5, 6, SEPARATOR, 7, 8, SEPARATOR])
    other = texts_of_lists([FIRST, 7, 8, SEPARATOR, 5, 6, SEPARATOR])
    assert torch.allclose(classifier(one), classifier(other)) == (not has_pairs)
    # No n-gram is of words of both.
    apart = texts_of_lists([FIRST, 5, 6, SEPARATOR, SEPARATOR, 7, 8, SEPARATOR])
    assert torch.equal(classifier(one), classifier(apart))


def test_two_separators_between_texts_are_as_one():
    classifier = random_classifier(has_pairs=True)
    one = texts_of_lists([FIRST, 5, SEPARATOR, 7, SEPARATOR])
    two = texts_of_lists([FIRST, 5, SEPARATOR, SEPARATOR, 7, SEPARATOR])
    assert torch.equal(classifier(one), classifier(two))


def test_ngrams_do_not_go_from_one_text_to_the_next_where_there_are_no_special_tokens():
    classifier = random_classifier(first=-1, separator=-1)
    together = classifier(texts_of_lists([5, 6], [7, 8]))
    assert torch.equal(together[0], classifier(texts_of_lists([5, 6]))[0])
    assert torch.equal(together[1], classifier(texts_of_lists([7, 8]))[0])


def test_ngrams_that_were_never_seen_count_as_nothing():
    classifier = NgramClassifier(2, max_n=1, num_buckets=2**20)
    classifier.set_special_tokens(FIRST, SEPARATOR, False)
    table = torch.zeros(2**20, 3)
    seen = bucket_of(0, (5,), 2**20)
    table[seen] = torch.tensor([2.0, -2.0, 4.0])
    classifier.set_fitted(table, torch.tensor([0.5, 0.0]))
    alone = classifier(texts_of_lists([FIRST, 5, SEPARATOR]))
    assert alone.tolist() == [[1.5, -1.0]]
    assert torch.equal(classifier(texts_of_lists([FIRST, 5, 6, 7, SEPARATOR])), alone)
    assert classifier(texts_of_lists([FIRST, 6, SEPARATOR], [])).tolist() == [[0.5, 0.0]] * 2


def test_before_it_is_fitted_it_says_so_and_has_no_answer():
    classifier = NgramClassifier(3)
    assert not classifier.is_fitted
    assert classifier.train()(texts_of_lists([3, 4, 5])).isnan().all()
    with pytest.warns(UserWarning, match="the n-gram exit was never fitted"):
        assert classifier.eval()(texts_of_lists([3, 4, 5])).isnan().all()


def test_the_state_has_all_that_was_fitted_and_nothing_is_trained():
    classifier = random_classifier(has_pairs=True)
    copied = NgramClassifier(3, num_buckets=4096)
    copied.load_state_dict(copy.deepcopy(classifier.state_dict()))
    text = texts_of_lists([FIRST, 5, 6, SEPARATOR, 7, 8, SEPARATOR])
    assert copied.is_fitted
    assert torch.equal(copied(text), classifier(text))
    assert not any(parameter.requires_grad for parameter in classifier.parameters())


@pytest.mark.parametrize(
    "change",
    [
        lambda classifier: classifier.set_fitted(classifier.table * 2, classifier.bias),
        lambda classifier: classifier.set_special_tokens(7, 8, True),
        lambda classifier: classifier.load_state_dict(random_classifier().state_dict()),
        lambda classifier: classifier.double(),
        copy.deepcopy,
    ],
)
def test_weights_elsewhere_are_copied_once_to_where_the_texts_are(change):
    classifier = random_classifier()
    elsewhere = torch.device("meta")
    copied = classifier.weights_on(elsewhere)
    assert [tensor.device for tensor in copied] == [elsewhere] * 3
    assert classifier.weights_on(elsewhere)[0] is copied[0]
    changed = change(classifier)
    changed = changed if isinstance(changed, NgramClassifier) else classifier
    assert changed.weights_on(elsewhere)[0] is not copied[0]
    assert changed.weights_on(torch.device("cpu"))[0] is changed.table


def test_weights_are_refused_for_ngrams_of_another_length():
    state = random_classifier(max_n=2).state_dict()
    with pytest.raises(RuntimeError, match="fitted with max_n 2, and is to be used with max_n 3"):
        random_classifier(max_n=3).load_state_dict(state)
    unfitted = NgramClassifier(3, num_buckets=4096).state_dict()
    random_classifier(max_n=3).load_state_dict(unfitted)


def test_ids_of_32_bits_give_the_same_answers():
    texts = texts_of_lists([5, 6, 7], [8, 9])
    short = TokenBatch(texts.token_ids.int(), texts.type_ids.int(), texts.lengths)
    assert torch.equal(random_classifier()(short), random_classifier()(texts))


def test_computes_in_the_precision_of_its_weights():
    classifier = random_classifier().double()
    logits = classifier(texts_of_lists([5, 6, 7], [8]))
    assert logits.dtype == torch.float64
    wanted = plain_ngram_logits(classifier, [[5, 6, 7], [8]])
    np.testing.assert_allclose(logits.numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("num_labels", [1, 2, 7, 8, 100, 1000])
def test_the_default_table_has_about_eight_million_numbers_at_most(num_labels):
    num_buckets = default_num_buckets(num_labels)
    assert num_buckets & (num_buckets - 1) == 0
    assert num_buckets * (num_labels + 1) <= 2**23
    assert NgramClassifier(num_labels).table.shape == (num_buckets, num_labels + 1)


@pytest.mark.parametrize("max_n", [0, 6, 1.5, "2", True, None])
def test_an_impossible_max_n_is_refused(max_n):
    with pytest.raises(ValueError, match=r"max_n is .*: wanted an integer from 1 to 5"):
        NgramClassifier(2, max_n=max_n)


@pytest.mark.parametrize("num_buckets", [0, 1, 3, 1000, -4, 2**32, 4.0, "4", True])
def test_an_impossible_number_of_buckets_is_refused(num_buckets):
    with pytest.raises(ValueError, match=r"num_buckets is .*: wanted a power of two"):
        NgramClassifier(2, num_buckets=num_buckets)


def test_a_batch_of_nothing_has_no_answers():
    nothing = torch.zeros(0, dtype=torch.long)
    assert random_classifier()(TokenBatch(nothing, nothing, nothing)).shape == (0, 3)


@settings(max_examples=60, deadline=None)
@given(batch=st.lists(token_lists, min_size=1, max_size=6), has_pairs=st.booleans(), data=st.data())
def test_the_share_of_seen_ngrams_is_counted_text_by_text(batch, has_pairs, data):
    classifier = random_classifier(has_pairs=has_pairs)
    bucket = partial(bucket_of, num_buckets=classifier.num_buckets)
    # What is hashed into the first bucket counts as no n-gram.
    ngrams = [
        [one for one in ngrams_of(text, 2, FIRST, SEPARATOR, has_pairs) if bucket(*one) > 0]
        for text in batch
    ]
    everything = sorted({one for of_text in ngrams for one in of_text})
    unseen = data.draw(st.sets(st.sampled_from(everything))) if everything else set()
    buckets = {one: bucket(*one) for one in everything}
    never = {buckets[one] for one in unseen}
    with torch.no_grad():
        classifier.table[:, -1] = 1
        classifier.table[0] = 0
        classifier.table[list(never)] = 0
    _, shares = classifier.logits_and_seen_share(texts_of_lists(*batch))
    wanted = [
        np.mean([buckets[one] not in never for one in of_text]) if of_text else 1.0
        for of_text in ngrams
    ]
    np.testing.assert_allclose(shares.numpy(), wanted, atol=1e-6)


def test_what_was_seen_in_the_fit_is_known():
    pytest.importorskip("sklearn")
    from tests.ngrams.test_fitting import fitted, made_texts

    seen, labels = made_texts(200)
    classifier = fitted(seen, labels)
    _, shares = classifier.logits_and_seen_share(texts_of_lists(*seen))
    assert (shares == 1).all()
    foreign = [[FIRST, *(word + 1000 for word in text[1:-1]), SEPARATOR] for text in seen]
    _, shares = classifier.logits_and_seen_share(texts_of_lists(*foreign))
    assert shares.mean() < 0.05  # buckets are shared by chance


def test_the_least_share_is_kept_with_the_weights_and_older_weights_have_none():
    classifier = random_classifier()
    classifier.min_seen_share = 0.37
    state = classifier.state_dict()
    other = NgramClassifier(3, 2, 4096)
    other.load_state_dict(state)
    assert other.min_seen_share == 0.37
    other.load_state_dict({name: value for name, value in state.items() if name[0] != "_"})
    assert other.min_seen_share == 0
    for wrong in (torch.tensor(1.5), torch.tensor(float("nan")), "much", torch.zeros(2)):
        with pytest.raises(ValueError, match="min_seen_share is .*: wanted a share"):
            other.set_extra_state(wrong)
    classifier.set_fitted(classifier.table.clone(), classifier.bias.clone())
    assert classifier.min_seen_share == 0  # of another fit

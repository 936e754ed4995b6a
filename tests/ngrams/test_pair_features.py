"""The comparison of the two texts of a pair, at the exit over n-grams."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.encoders.token_batch import starts_of
from sledgehammer_allennlp.ngrams import NgramClassifier, pair_features
from sledgehammer_allennlp.ngrams.pair_classifier import PairClassifier, default_num_buckets
from tests.ngrams.ngram_reference import (
    FIRST,
    SEPARATOR,
    plain_ngram_logits,
    random_classifier,
    texts_of_lists,
)
from tests.ngrams.pair_reference import (
    pieces_of,
    plain_features,
    plain_pair_logits,
    random_pair_classifier,
)

CLASSIFIER = random_pair_classifier()
PAIRS = CLASSIFIER.pairs

words = st.lists(st.integers(3, 14), max_size=7)
pair_lists = st.lists(st.tuples(words, words), min_size=1, max_size=7)


def as_batch(pairs, with_types: bool = False) -> TokenBatch:
    texts = [[FIRST, *one, SEPARATOR, *other, SEPARATOR] for one, other in pairs]
    types = [[0] * (len(one) + 2) + [1] * (len(other) + 1) for one, other in pairs]
    return TokenBatch.from_lists(texts, types if with_types else None)


def features_of(batch: TokenBatch) -> pair_features.PairFeatures:
    return PAIRS.compare(batch, starts_of(batch.lengths), CLASSIFIER.marks)


@settings(max_examples=40, deadline=None)
@given(pairs=pair_lists, with_types=st.booleans())
def test_features_are_those_of_each_pair_written_out(pairs, with_types):
    found = features_of(as_batch(pairs, with_types))
    assert found.is_pair.tolist() == [bool(one and other) for one, other in pairs]
    for row, (one, other) in enumerate(pairs):
        buckets, numbers = plain_features(PAIRS, one, other)
        assert found.buckets[row].tolist()[: len(buckets)] == buckets
        assert not found.buckets[row, len(buckets) :].any()
        np.testing.assert_allclose(found.numbers[row].numpy(), numbers, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(pairs=pair_lists, with_types=st.booleans())
def test_logits_are_those_of_ngrams_and_of_the_comparison_written_out(pairs, with_types):
    batch = as_batch(pairs, with_types)
    token_ids = [text.tolist() for text in batch.token_ids.split(batch.lengths.tolist())]
    wanted = plain_ngram_logits(CLASSIFIER, token_ids, has_pairs=True)
    wanted += np.stack([plain_pair_logits(PAIRS, one, other) for one, other in pairs])
    np.testing.assert_allclose(CLASSIFIER(batch).numpy(), wanted, atol=1e-4, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(pairs=pair_lists, data=st.data(), at_once=st.sampled_from([1, 100, 2**18]))
def test_an_answer_does_not_depend_on_the_batch_its_order_or_what_is_compared_at_once(
    pairs, data, at_once
):
    together = features_of(as_batch(pairs))
    order = data.draw(st.permutations(range(len(pairs))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_features, "_NUMBERS_AT_ONCE", {"cpu": at_once})
        shuffled = features_of(as_batch([pairs[i] for i in order]))
    alone = [features_of(as_batch([pair])) for pair in pairs]
    assert torch.equal(shuffled.buckets, together.buckets[order])
    torch.testing.assert_close(shuffled.numbers, together.numbers[order], atol=1e-6, rtol=1e-5)
    for row, one in enumerate(alone):
        length = one.buckets.size(1)
        assert torch.equal(one.buckets[0], together.buckets[row, :length])
        torch.testing.assert_close(one.numbers[0], together.numbers[row], atol=1e-6, rtol=1e-5)


def test_pieces_with_the_same_vector_match_as_well_as_the_same_piece():
    same, other = (features_of(as_batch([([10], [piece])])).numbers for piece in (10, 11))
    assert torch.equal(same, other)
    assert same[0, 16:].tolist() == pytest.approx(
        [np.exp(-((1 - c) ** 2) / 0.02) for c in (1, 0.9, 0.7, 0.5, 0.3, 0.1)] + [1] * 4
        + [np.exp(-((1 - c) ** 2) / 0.02) for c in (1, 0.9, 0.7, 0.5, 0.3, 0.1)] + [1] * 4
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        [FIRST, 6, 7, SEPARATOR],  # a single text
        [FIRST, 6, 7, SEPARATOR, SEPARATOR],
        [FIRST, SEPARATOR, 6, 7, SEPARATOR],
        [FIRST, SEPARATOR, SEPARATOR],
        [FIRST],
        [],
    ],
)
def test_what_is_no_pair_has_the_logits_of_its_ngrams(text):
    without = random_classifier(has_pairs=True)
    assert torch.equal(CLASSIFIER(texts_of_lists(text)), without(texts_of_lists(text)))
    both = CLASSIFIER(texts_of_lists(text, [FIRST, 6, SEPARATOR, 7, SEPARATOR]))
    assert torch.equal(both[0], without(texts_of_lists(text))[0])


def test_weights_that_are_no_numbers_spoil_pairs_only():
    spoilt = copy.deepcopy(CLASSIFIER)
    spoilt.pairs.weight.fill_(float("nan"))
    found = spoilt(texts_of_lists([FIRST, 6, 7, SEPARATOR], [FIRST, 6, SEPARATOR, 7, SEPARATOR]))
    assert torch.equal(found[0], CLASSIFIER(texts_of_lists([FIRST, 6, 7, SEPARATOR]))[0])
    assert found[1].isnan().all()


def test_a_batch_of_nothing_has_no_answers():
    nothing = torch.zeros(0, dtype=torch.long)
    assert CLASSIFIER(TokenBatch(nothing, nothing, nothing)).shape == (0, 3)


def test_pieces_of_a_very_long_text_beyond_the_first_ones_do_not_count():
    start = [6, 7] * 256
    batch = as_batch([([*start, 8], [*start, 9]), (start, start), ([6] * 3000, [6])])
    found = features_of(batch)
    assert torch.equal(found.numbers[0], found.numbers[1])
    assert torch.equal(found.buckets[0], found.buckets[1])
    assert found.buckets.shape == (3, 512)
    one, other = pieces_of(batch.token_ids[-3004:].tolist())
    wanted = plain_features(PAIRS, one[:5], other)[1]
    np.testing.assert_allclose(found.numbers[2].numpy(), wanted, atol=1e-5)


def test_type_ids_say_which_text_a_piece_is_of():
    text = [FIRST, 6, SEPARATOR, 7, SEPARATOR, 8, SEPARATOR]
    found = features_of(TokenBatch.from_lists([text], [[0, 0, 0, 0, 0, 1, 1]]))
    np.testing.assert_allclose(
        found.numbers[0].numpy(), plain_features(PAIRS, [6, 7], [8])[1], atol=1e-5
    )


def test_ids_beyond_the_vocabulary_are_answered():
    assert CLASSIFIER(as_batch([([6, 10**6], [7, 10**6, 8])])).isfinite().all()


def test_autocast_changes_no_feature_and_no_logit():
    batch = as_batch([([6, 7, 8], [9, 10]), ([3, 4], [5])])
    wanted, logits = features_of(batch), CLASSIFIER(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = features_of(batch)
        assert torch.equal(CLASSIFIER(batch), logits)
    assert torch.equal(found.numbers, wanted.numbers)
    assert torch.equal(found.buckets, wanted.buckets)


def test_computes_in_the_precision_of_its_weights():
    classifier = copy.deepcopy(CLASSIFIER).double()
    logits = classifier(as_batch([([6, 7], [8])]))
    assert logits.dtype == torch.float64
    assert classifier.pairs.vectors.dtype == torch.int8


def test_the_state_has_all_that_was_fitted_whether_there_was_a_comparison_before_or_not():
    batch = as_batch([([6, 7], [8, 9])])
    state = CLASSIFIER.state_dict()
    for other in (NgramClassifier(3, num_buckets=4096), random_pair_classifier(num_pieces=20)):
        other.load_state_dict(copy.deepcopy(state))
        assert torch.equal(other(batch), CLASSIFIER(batch))
        assert not any(parameter.requires_grad for parameter in other.parameters())
    # Weights from before there was a comparison, or of data without pairs.
    without = random_classifier(has_pairs=True)
    other.load_state_dict(without.state_dict())
    assert other.pairs is None
    assert torch.equal(other(batch), without(batch))


def test_weights_with_a_comparison_are_refused_where_there_is_to_be_none():
    without = NgramClassifier(3, num_buckets=4096, pairs=False)
    with pytest.raises(RuntimeError, match="pairs cannot be changed after training"):
        without.load_state_dict(CLASSIFIER.state_dict())
    without.load_state_dict(random_classifier().state_dict())


@pytest.mark.parametrize(
    "name, change",
    [
        ("vectors", lambda x: x.float()),
        ("vectors", lambda x: x[0]),
        ("vectors", lambda x: x[:0]),
        ("frequent", lambda x: x.float()),
        ("table", lambda x: x[:100]),
        ("weight", lambda x: x[:5]),
        ("bias", lambda x: x[:2]),
        ("bias", lambda x: None),
        ("vectors", lambda x: x[:1, :1].expand(10**12, 8)),
        ("table", lambda x: x.as_strided((512, 512), (1, 1))),
        ("frequent", lambda x: x[:1].expand(10**12)),
    ],
)
def test_weights_of_other_shapes_are_refused(name, change):
    state = {**CLASSIFIER.state_dict()}
    state[f"pairs.{name}"] = change(state[f"pairs.{name}"])
    if state[f"pairs.{name}"] is None:
        del state[f"pairs.{name}"]
    with pytest.raises(RuntimeError, match="pairs"):
        NgramClassifier(3, num_buckets=4096).load_state_dict(state)


@pytest.mark.parametrize("num_labels", [1, 2])
def test_a_comparison_of_another_number_of_labels_is_refused(num_labels):
    other = random_pair_classifier(num_labels=num_labels).pairs.state_dict()
    state = {**CLASSIFIER.state_dict(), **{f"pairs.{name}": x for name, x in other.items()}}
    with pytest.raises(RuntimeError, match="wanted .* for 3 labels"):
        NgramClassifier(3, num_buckets=4096).load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.set_fitted(x.table, x.bias, x.pairs),
        lambda x: x.load_state_dict(random_pair_classifier().state_dict()),
        lambda x: x.float(),
        copy.deepcopy,
    ],
)
def test_the_comparison_is_copied_once_to_where_the_texts_are(change):
    classifier = random_pair_classifier()
    elsewhere = torch.device("meta")
    copied = classifier.pairs_on(elsewhere)
    assert {tensor.device for tensor in copied.state_dict().values()} == {elsewhere}
    assert classifier.pairs_on(elsewhere) is copied
    assert classifier.pairs.table.device.type == "cpu"
    changed = change(classifier)
    changed = changed if isinstance(changed, NgramClassifier) else classifier
    assert changed.pairs_on(elsewhere) is not copied
    assert changed.pairs_on(torch.device("cpu")) is changed.pairs


@pytest.mark.parametrize("num_labels", [1, 2, 3, 10, 1000])
def test_the_default_table_takes_about_two_megabytes_at_most(num_labels):
    num_buckets = default_num_buckets(num_labels)
    assert num_buckets & (num_buckets - 1) == 0
    assert num_buckets * (num_labels + 1) <= max(2**19, 2**9 * (num_labels + 1))
    vectors = torch.ones(4, 2, dtype=torch.int8)
    assert PairClassifier(vectors, torch.tensor([1]), num_labels).num_buckets == num_buckets


@pytest.mark.parametrize("pairs", [1, None, "yes"])
def test_an_impossible_setting_is_refused(pairs):
    with pytest.raises(ValueError, match="pairs is .*: wanted true or false"):
        NgramClassifier(2, pairs=pairs)

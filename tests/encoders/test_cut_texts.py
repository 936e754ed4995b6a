"""Counts of cut texts, against how many tokens the library gives without truncation."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizerFast

from sledgehammer_allennlp.encoders import tokenizing
from sledgehammer_allennlp.encoders.cut_texts import CutTexts
from sledgehammer_allennlp.encoders.tokenizing import tokenize
from tests.threads import in_threads


class UsersTokenizer(BertTokenizerFast):
    """Which is called itself."""


@pytest.fixture(scope="module", params=["fast", "slow", "bytes", "own"])
def tokenizer(request):
    if request.param == "bytes":
        return AutoTokenizer.from_pretrained(request.getfixturevalue("tiny_roberta"))
    tiny_bert = request.getfixturevalue("tiny_bert")
    if request.param == "own":
        return UsersTokenizer.from_pretrained(tiny_bert)
    return AutoTokenizer.from_pretrained(tiny_bert, use_fast=request.param == "fast")


words = st.sampled_from(["good", "film", "qzx", "é", "[SEP]", "</s>", ""])
texts = st.lists(words, max_size=24).map(" ".join)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(texts, texts), min_size=1, max_size=6),
    st.booleans(),
    st.integers(6, 20),
    st.integers(0, 4),
)
def test_those_are_counted_that_have_more_tokens(tokenizer, pairs, is_pair, max_length, fewer):
    first, second = map(list, zip(*pairs))
    second = second if is_pair else None
    whole = tokenizer(first, second)["input_ids"]
    cut = CutTexts(max_length - fewer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizing, "_CHARACTERS_PER_TOKEN", 1)  # so that long texts are cut first
        patch.setattr(tokenizing, "_FAR_MORE", 1)
        tokenize(tokenizer, first, second, max_length, cut)
        tokenize(tokenizer, first, second, max_length, cut)
    assert cut.num_texts == 2 * len(pairs)
    assert cut.num_cut == 2 * sum(len(ids) > max_length - fewer for ids in whole)


def test_what_is_said_has_both_numbers_and_nothing_is_said_of_none(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    cut = CutTexts(8)
    tokenize(tokenizer, ["good " * 6], None, 8, cut)
    assert cut.sentence() is None
    tokenize(tokenizer, ["good " * 7], None, 8, cut)
    assert cut.sentence().startswith("1 of 2 texts was cut to 8 word pieces")
    cut.add(1998, 1199)
    assert cut.sentence().startswith("1,200 of 2,000 texts were cut to 8 word pieces")


def test_threads_count_together():
    cut = CutTexts(8)
    in_threads(lambda thread: [cut.add(2, 1) for _ in range(2000)])
    assert (cut.num_texts, cut.num_cut) == (2 * cut.num_cut, cut.num_cut)
    assert cut.num_cut % 2000 == 0 and cut.num_cut > 2000

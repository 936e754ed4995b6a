"""Token ids against calls of the tokenizers, whichever way they are made."""

import json
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer, BertTokenizerFast, PreTrainedTokenizerFast

from sledgehammer_allennlp.encoders.tokenizing import tokenize
from tests.encoders.test_tokenizing import by_the_library, ids_of

IS_OLD = not hasattr(Tokenizer, "encode_special_tokens")
"""Of the tokenizers library: without a way to split special tokens."""

short_texts = st.lists(
    st.lists(st.sampled_from(["good", "bad", "[SEP]", "</s>", "'s", "\u3000", "é", " "])).map(
        "".join
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    texts=short_texts,
    in_pairs=st.booleans(),
    max_length=st.integers(5, 30),
    side=st.sampled_from(["left", "right"]),
    before=st.fixed_dictionaries(
        {"max_length": st.integers(4, 40), "padding": st.sampled_from(["max_length", False])},
        optional={} if IS_OLD else {"split_special_tokens": st.booleans()},
    ),
)
def test_tokens_are_those_of_a_call_of_the_tokenizer_whatever_it_was_called_for_before(
    tokenizer, texts, in_pairs, max_length, side, before
):
    second_texts = texts[::-1] if in_pairs else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "truncation_side", side)
        wanted = by_the_library(tokenizer, texts, second_texts, max_length)
        tokenizer(["good film"], truncation=True, **before)
        found = tokenize(tokenizer, texts, second_texts, max_length)
    assert ids_of(found) == wanted["input_ids"]
    assert found.type_ids.tolist() == list(chain.from_iterable(wanted["token_type_ids"]))


def test_the_library_is_called_itself_where_calls_do_no_more(tokenizer, monkeypatch):
    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", None)
    assert tokenize(tokenizer, ["good"], ["bad"]).lengths.numel() == 1


@pytest.mark.parametrize("post_processor", [None, "as it is"])
def test_second_texts_have_type_ids_of_their_own(tiny_bert, post_processor):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    if post_processor is None:
        settings = json.loads(tokenizer.backend_tokenizer.to_str())
        library = Tokenizer.from_str(json.dumps({**settings, "post_processor": None}))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=library)
    found = tokenize(tokenizer, ["good"], ["bad"], 20)
    wanted = by_the_library(tokenizer, ["good"], ["bad"], 20)
    assert ids_of(found) == wanted["input_ids"]
    assert [found.type_ids.tolist()] == wanted["token_type_ids"]
    assert found.type_ids.max() == 1


def test_a_tokenizer_that_is_written_in_python_is_called_itself(tiny_bert):
    tokenizer = BertTokenizer(str(tiny_bert / "vocab.txt"), model_max_length=int(1e30))
    texts = ["good " * 60, "bad"]
    for max_length in (None, 9):
        found = tokenize(tokenizer, texts, None, max_length)
        assert found.lengths.tolist() == [62 if max_length is None else 9, 3]


def test_without_a_limit_nothing_is_cut(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert, model_max_length=int(1e30))
    assert tokenize(tokenizer, ["good " * 700], None, 10).lengths.tolist() == [10]
    assert tokenize(tokenizer, ["good " * 700]).lengths.tolist() == [702]
    assert tokenize(tokenizer, ["good " * 700], ["bad"]).lengths.tolist() == [704]


@pytest.mark.skipif(IS_OLD, reason="this version cannot split special tokens")
def test_a_tokenizer_that_splits_special_tokens_does_so(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert, split_special_tokens=True)
    wanted = by_the_library(tokenizer, ["good [SEP] day"], None, 20)["input_ids"]
    assert len(wanted[0]) > 5
    assert ids_of(tokenize(tokenizer, ["good [SEP] day"], None, 20)) == wanted


def test_a_users_own_tokenizer_class_is_called_itself_whatever_it_changes(tiny_bert, monkeypatch):
    class Unchanged(BertTokenizerFast):
        pass

    call, calls = PreTrainedTokenizerFast.__call__, []
    tokenizer = Unchanged.from_pretrained(tiny_bert)
    monkeypatch.setattr(
        PreTrainedTokenizerFast,
        "__call__",
        lambda *args, **kw: calls.append(args) or call(*args, **kw),
    )
    assert tokenize(tokenizer, ["good"]).lengths.tolist() == [3]
    assert len(calls) == 1


def test_a_users_own_call_is_taken(tiny_bert):
    plain = AutoTokenizer.from_pretrained(tiny_bert)

    class Shouting(type(plain)):
        def __call__(self, texts, second_texts=None, **settings):
            return super().__call__([text + " good" for text in texts], second_texts, **settings)

    found = tokenize(Shouting.from_pretrained(tiny_bert), ["bad"], None, 20)
    assert ids_of(found) == by_the_library(plain, ["bad good"], None, 20)["input_ids"]

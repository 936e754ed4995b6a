from itertools import chain

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from sledgehammer_allennlp.encoders import tokenizing
from sledgehammer_allennlp.encoders.tokenizing import tokenize
from tests.threads import in_threads

IS_OLD = not hasattr(Tokenizer, "encode_special_tokens")
"""Of the tokenizers library: without a way to split special tokens."""


@pytest.fixture(scope="module", params=["tiny_bert", "tiny_roberta"])
def tokenizer(request):
    return AutoTokenizer.from_pretrained(request.getfixturevalue(request.param))


def by_the_library(tokenizer, texts, second_texts, max_length):
    return tokenizer(
        texts,
        second_texts,
        truncation="longest_first",
        max_length=max_length,
        return_token_type_ids=True,
    )


def ids_of(batch):
    return [ids.tolist() for ids in batch.token_ids.split(batch.lengths.tolist())]


pieces = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        ["good", "    ", " \n ", "\x1c ", "\u3000", " \u0301", "[SEP]", "<mask> ", "'s", "\ud800"]
    ),
)
texts = st.lists(pieces, min_size=5, max_size=60).map(" ".join)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts, st.integers(3, 20))
@example("!!\x1c next good bad film " * 9, 5)
@example("good   \n   bad " * 9, 5)
@example("a" * 150 + " good" * 30, 9)  # one token, of which a beginning has many
def test_a_long_text_that_is_cut_first_has_the_librarys_tokens(tokenizer, text, max_length):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizing, "_CHARACTERS_PER_TOKEN", 1)
        patch.setattr(tokenizing, "_FAR_MORE", 1)
        found = tokenize(tokenizer, [text, "good"], None, max_length)
        pair = tokenize(tokenizer, [text], ["good day"], 8)
    # As tokenizers that take lone surrogates read them.
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    wanted = by_the_library(tokenizer, [text, "good"], None, max_length)
    assert ids_of(found) == wanted["input_ids"]
    assert ids_of(pair) == by_the_library(tokenizer, [text], ["good day"], 8)["input_ids"]


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
        library = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        library.post_processor = None
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


def test_a_tokenizer_that_splits_special_tokens_does_so(tiny_bert):
    try:
        tokenizer = AutoTokenizer.from_pretrained(tiny_bert, split_special_tokens=True)
        wanted = by_the_library(tokenizer, ["good [SEP] day"], None, 20)["input_ids"]
        assert len(wanted[0]) > 5
    except TypeError:
        pytest.skip("this version has no such setting")
    assert ids_of(tokenize(tokenizer, ["good [SEP] day"], None, 20)) == wanted


def test_a_users_own_tokenizer_class_is_called_itself(tiny_bert):
    plain = AutoTokenizer.from_pretrained(tiny_bert)

    class Shouting(type(plain)):
        def __call__(self, texts, second_texts=None, **settings):
            return super().__call__([text + " good" for text in texts], second_texts, **settings)

    found = tokenize(Shouting.from_pretrained(tiny_bert), ["bad"], None, 20)
    assert ids_of(found) == by_the_library(plain, ["bad good"], None, 20)["input_ids"]


def test_as_many_second_texts_as_first_ones_are_wanted(tokenizer):
    with pytest.raises(ValueError, match="found 2 texts and 1 second texts: wanted as many"):
        tokenize(tokenizer, ["good", "bad"], ["day"])


def test_lone_surrogates_are_read_as_by_older_tokenizers(tokenizer):
    texts = ["good \ud800 day", "\udfff\ud83d", "x\udc80"]
    try:
        wanted = by_the_library(tokenizer, texts, None, 60)["input_ids"]
    except TypeError:
        pytest.skip("this tokenizer takes no lone surrogates")
    assert ids_of(tokenize(tokenizer, texts, None, 60)) == wanted


def counted(tokenizer, monkeypatch):
    """
    The number of characters that a tokenizer is given from now on. (What has a call of its own is
    called.)
    """
    lengths = []
    call = type(tokenizer).__call__

    def counting(self, texts, second_texts=None, **settings):
        for given_ in (texts, second_texts or []):
            lengths.extend([len(given_)] if isinstance(given_, str) else map(len, given_))
        return call(self, texts, second_texts, **settings)

    monkeypatch.setattr(type(tokenizer), "__call__", counting)
    return lengths


@pytest.mark.parametrize("in_pairs", [False, True])
def test_megabytes_are_not_tokenised_for_a_few_tokens(tokenizer, monkeypatch, in_pairs):
    text = "good film " * 1_000_000
    lengths = counted(tokenizer, monkeypatch)
    batch = tokenize(tokenizer, [text], [text] if in_pairs else None, 64)
    assert batch.lengths.tolist() == [64]
    assert sum(lengths) <= 2 * 2 * 32 * 64


def test_words_that_give_few_tokens_are_taken_until_there_are_enough(tiny_bert, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    text = ("\0" * 500 + " good ") * 200  # of which the tokenizer leaves the word alone
    lengths = counted(tokenizer, monkeypatch)
    (ids,) = ids_of(tokenize(tokenizer, [text], None, 20))
    assert len(ids) == 20
    assert max(lengths) < len(text) / 2
    assert ids == by_the_library(tokenizer, [text], None, 20)["input_ids"][0]


def test_a_token_with_a_space_in_it_is_not_cut(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.add_tokens(["good" + " film" * 500])
    text = "good" + " film" * 500 + " bad" * 1000
    (ids,) = ids_of(tokenize(tokenizer, [text], None, 20))
    assert ids == by_the_library(tokenizer, [text], None, 20)["input_ids"][0]
    assert len(set(ids)) == 4  # that token, "bad" and the special ones


def test_threads_that_truncate_differently_share_a_tokenizer(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    lengths = [*range(1, 60), 400]
    texts = ["good " * num_words for num_words in lengths]

    def work(thread: int) -> list:
        return [tokenize(tokenizer, texts, max_length=10 + thread).lengths for _ in range(10)]

    for thread, found in enumerate(in_threads(work)):
        wanted = [min(num_words + 2, 10 + thread) for num_words in lengths]
        assert [of_call.tolist() for of_call in found] == [wanted] * 10


def test_threads_with_stock_readers_share_a_tokenizer(tiny_bert):
    pytest.importorskip("allennlp")
    from sledgehammer_allennlp.data.pretrained_transformer import ArchivedTransformerTokenizer

    text = "good " * 60

    def work(thread: int) -> list:
        found = []
        for _ in range(10):  # AllenNLP has one tokenizer of a name, however often it is asked for
            tokenizer = ArchivedTransformerTokenizer(str(tiny_bert), max_length=10 + thread)
            found += [len(tokenizer.tokenize(text)) for _ in range(10)]
        return found

    for thread, found in enumerate(in_threads(work)):
        assert found == [10 + thread] * 100


def test_of_a_long_text_that_is_cut_on_the_left_the_end_is_kept(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert, truncation_side="left")
    text = "good " * 20_000 + "very bad"
    (ids,) = ids_of(tokenize(tokenizer, [text], max_length=6))
    assert ids == by_the_library(tokenizer, [text], None, 6)["input_ids"][0]
    wanted = ["[CLS]", "good", "good", "very", "bad", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(ids) == wanted

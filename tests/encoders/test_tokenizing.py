import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from sledgehammer_allennlp.encoders import tokenizing
from sledgehammer_allennlp.encoders.tokenizing import tokenize
from tests.threads import in_threads


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

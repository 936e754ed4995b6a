"""Which tokens are in which text of a pair, with real tokenizers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sledgehammer_allennlp.encoders.tokenizing import tokenize
from sledgehammer_allennlp.encoders.truncation import truncate_to_positions
from sledgehammer_allennlp.exits import ExitClassifiers, build_encoder_and_exits
from sledgehammer_allennlp.exits.pair_texts import PairTexts, special_tokens_of

VOCABULARY = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefgh"]


def robertas_tokenizer() -> PreTrainedTokenizerFast:
    """Without type ids, and with two separators between the texts of a pair."""
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=64,
    )


@pytest.fixture(scope="module", params=["bert", "roberta"])
def tokenizer(request, tiny_bert):
    if request.param == "roberta":
        return robertas_tokenizer()
    return AutoTokenizer.from_pretrained(tiny_bert)


def texts_found(tokenizer, texts, second_texts=None, max_length=None, max_positions=None):
    """The words of each text of each pair."""
    pair_texts = PairTexts()
    pair_texts.set_special_tokens(special_tokens_of(tokenizer))
    batch = tokenize(tokenizer, texts, second_texts, max_length)
    if max_positions is not None:
        batch = truncate_to_positions(batch, max_positions)
    sides = pair_texts(batch)
    words = tokenizer.convert_ids_to_tokens(batch.token_ids.tolist())
    found = []
    start = 0
    for length in batch.lengths.tolist():
        own = range(start, start + length)
        found.append(tuple(" ".join(words[i] for i in own if sides[i] == side) for side in (1, 2)))
        start += length
    return found


def test_each_word_is_in_its_text(tokenizer):
    texts, second_texts = ["a b c", "", "d", ""], ["d e", "f g", "", ""]
    found = texts_found(tokenizer, texts, second_texts)
    assert found == list(zip(texts, second_texts))


def test_a_single_text_is_a_first_text(tokenizer):
    assert texts_found(tokenizer, ["a b", ""]) == [("a b", ""), ("", "")]


def test_truncated_pairs_keep_their_texts_apart(tokenizer):
    texts, second_texts = ["a b c d e f g h"], ["a b c"]
    specials = tokenizer.num_special_tokens_to_add(pair=True)
    for limit in ({"max_length": 5 + specials}, {"max_positions": 5 + specials}):
        ((first, second),) = texts_found(tokenizer, texts, second_texts, **limit)
        assert len(first.split()) + len(second.split()) == 5
        assert "a b c d".startswith(first) and "a b c".startswith(second)
        assert first and second


def test_a_separator_in_a_text_moves_no_word_where_there_are_type_ids(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    texts = ["a [SEP] b", "[SEP] a", "a [SEP]", "a [SEP] [SEP] b", "[CLS] a"]
    found = texts_found(tokenizer, texts, ["c [SEP] d"] * 5)
    assert found == [("a b", "c d"), ("a", "c d"), ("a", "c d"), ("a b", "c d"), ("a", "c d")]
    assert texts_found(tokenizer, texts[:1]) == [("a b", "")]


def test_without_type_ids_a_single_separator_in_a_text_moves_no_word():
    texts, second_texts = ["a </s> b", "a </s>"], ["c </s> d", "</s> </s> c"]
    found = texts_found(robertas_tokenizer(), texts, second_texts)
    assert found == [("a b", "c d"), ("a", "c")]
    assert texts_found(robertas_tokenizer(), ["a </s> b"]) == [("a b", "")]


_words = st.lists(st.sampled_from("abcdefgh"), max_size=6).map(" ".join)


@given(st.lists(st.tuples(_words, _words), min_size=1, max_size=5))
def test_pairs_are_as_in_company_with_no_type_ids(pairs):
    texts, second_texts = map(list, zip(*pairs))
    assert texts_found(robertas_tokenizer(), texts, second_texts) == pairs


def test_what_a_tokenizer_adds_is_found(tiny_bert, tiny_roberta):
    assert special_tokens_of(AutoTokenizer.from_pretrained(tiny_bert)) == (2, 3, 1, True)
    assert special_tokens_of(AutoTokenizer.from_pretrained(tiny_roberta)) == (0, 2, 2, False)
    assert special_tokens_of(robertas_tokenizer()) == (0, 2, 2, False)


def test_special_tokens_are_in_the_weights_and_only_with_an_alignment(tiny_bert):
    _, exits = build_encoder_and_exits(tiny_bert, 2, alignment=4)
    assert exits.state_dict()["pair_texts.special_tokens"].tolist() == [2, 3, 1, 1]
    _, loaded = build_encoder_and_exits(tiny_bert, 2, alignment=4, load_weights=False)
    loaded.load_state_dict(exits.state_dict())
    assert loaded.pair_texts.special_tokens.tolist() == [2, 3, 1, 1]
    _, without = build_encoder_and_exits(tiny_bert, 2)
    names = set(without.state_dict())
    assert not any("pair_texts" in name or "alignment" in name for name in names)


def test_a_model_without_its_tokenizer_is_refused(tiny_bert, tmp_path):
    for file in tiny_bert.iterdir():
        if "tokenizer" not in file.name and "vocab" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    build_encoder_and_exits(tmp_path, 2)
    with pytest.raises(ValueError, match="^cannot read the tokenizer of transformer_model '"):
        build_encoder_and_exits(tmp_path, 2, alignment=4)


@pytest.mark.parametrize("num_between", [-1, 0, 10**12])
def test_weights_that_no_tokenizer_gave_are_refused(num_between):
    exits = ExitClassifiers([0], 8, 2, "mean", 0.0, alignment=4)
    state = exits.state_dict()
    state["pair_texts.special_tokens"] = torch.tensor([1, 2, num_between, 0])
    with pytest.raises(RuntimeError, match=f"say that {num_between} separators stand between"):
        exits.load_state_dict(state)

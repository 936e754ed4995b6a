"""AllenNLP's own classes get their tokenizers of every transformers library that is supported."""

from pathlib import Path

import pytest
from allennlp.data import Token, Vocabulary
from allennlp.data.data_loaders.data_collator import LanguageModelingDataCollator
from allennlp.data.token_indexers import PretrainedTransformerMismatchedIndexer
from allennlp.data.tokenizers import PretrainedTransformerTokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

TEXT, SECOND = "the film was good , indeed xyz", "a day"


@pytest.fixture(scope="module", params=["tiny_bert", "tiny_roberta"])
def model(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def own(model: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of the transformers library."""
    return AutoTokenizer.from_pretrained(model)


@pytest.mark.parametrize("add_special_tokens", [True, False])
def test_a_stock_tokenizer_adds_special_tokens_where_it_is_to(model, own, add_special_tokens):
    stock = PretrainedTransformerTokenizer(str(model), add_special_tokens=add_special_tokens)
    wanted = own(TEXT, add_special_tokens=add_special_tokens)["input_ids"]
    assert [token.text_id for token in stock.tokenize(TEXT)] == wanted


def test_a_stock_tokenizer_joins_pairs_as_the_library_does(model, own):
    stock = PretrainedTransformerTokenizer(str(model), add_special_tokens=False)
    found = stock.add_special_tokens(stock.tokenize(TEXT), stock.tokenize(SECOND))
    wanted = own(TEXT, SECOND, return_token_type_ids=True)
    assert [token.text_id for token in found] == wanted["input_ids"]
    assert [token.type_id for token in found] == wanted["token_type_ids"]


def test_stock_tokenizers_of_a_model_do_not_truncate_for_each_other(model, own):
    short = PretrainedTransformerTokenizer(str(model), max_length=4)
    whole = PretrainedTransformerTokenizer(str(model))
    bare = PretrainedTransformerTokenizer(str(model), add_special_tokens=False)
    for _ in range(2):
        assert len(short.tokenize(TEXT)) == 4
        assert [token.text_id for token in whole.tokenize(TEXT)] == own(TEXT)["input_ids"]
        wanted = own(TEXT, add_special_tokens=False)["input_ids"]
        assert [token.text_id for token in bare.tokenize(TEXT)] == wanted


def test_a_stock_indexer_of_words_gives_the_librarys_pieces(model, own):
    indexer = PretrainedTransformerMismatchedIndexer(str(model))
    words = ["the", "film", "xyz"]
    found = indexer.tokens_to_indices([Token(word) for word in words], Vocabulary())
    pieces = [own(word, add_special_tokens=False)["input_ids"] for word in words]
    wanted = own.build_inputs_with_special_tokens([one for word in pieces for one in word])
    assert found["token_ids"] == wanted


def test_a_stock_vocabulary_is_the_tokenizers(model, own):
    vocabulary = Vocabulary.from_pretrained_transformer(str(model))
    assert vocabulary.get_token_to_index_vocabulary("tokens") == own.get_vocab()


def test_a_stock_collator_masks_with_the_tokenizers_mask(model, own):
    collator = LanguageModelingDataCollator(str(model))
    assert collator._collator.tokenizer.mask_token_id == own.mask_token_id

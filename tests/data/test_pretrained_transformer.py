from pathlib import Path

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import TokenIndexer, Tokenizer
from allennlp.data.token_indexers import PretrainedTransformerIndexer
from allennlp.data.tokenizers import PretrainedTransformerTokenizer, Token
from transformers import AutoTokenizer

from sledgehammer_allennlp.encoders.archived_files import archived_folder
from tests.languages import save_tiny_xlm_roberta


def test_they_stand_in_for_allennlps_own(tiny_bert: Path):
    params = {"type": "pretrained_transformer", "model_name": str(tiny_bert)}
    tokenizer = Tokenizer.from_params(Params(dict(params)))
    indexer = TokenIndexer.from_params(Params(dict(params)))
    assert isinstance(tokenizer, PretrainedTransformerTokenizer)
    assert isinstance(indexer, PretrainedTransformerIndexer)
    stock = PretrainedTransformerTokenizer(str(tiny_bert))
    text = "the film was good , indeed xyz"
    assert tokenizer.tokenize(text) == stock.tokenize(text)


def test_files_are_kept_when_training_starts_but_not_in_a_finished_folder(
    tiny_bert: Path, tmp_path: Path
):
    def build(serialization_dir: Path) -> Path:
        params = Params({"type": "pretrained_transformer", "model_name": str(tiny_bert)})
        Tokenizer.from_params(params, serialization_dir=str(serialization_dir))
        return archived_folder(str(tiny_bert), serialization_dir)

    assert build(tmp_path / "new").is_dir()
    finished = tmp_path / "finished"
    finished.mkdir()
    (finished / "weights.th").touch()
    assert not build(finished).exists()


def test_special_tokens_are_found_where_letters_are_several_pieces(tmp_path: Path):
    """In a vocabulary of scripts without spaces, of which "a" and "1" are no words."""
    pretrained = save_tiny_xlm_roberta(tmp_path / "xlm-r")
    library = AutoTokenizer.from_pretrained(pretrained)
    for text in ("a", "b", "1", "2"):
        assert library.encode(text, add_special_tokens=False)[0] == library.encode("a")[1]
    params = {"type": "pretrained_transformer", "model_name": str(pretrained)}
    tokenizer = Tokenizer.from_params(Params(dict(params)))
    indexer = TokenIndexer.from_params(Params(dict(params)))
    for made in (tokenizer, indexer._allennlp_tokenizer):
        wrapped = made.add_special_tokens(*([Token("x", text_id=9)] for _ in range(2)))
        assert [token.text_id for token in wrapped] == [0, 9, 2, 2, 9, 2]
        assert [token.text_id for token in made.single_sequence_end_tokens] == [2]


def test_a_model_that_is_not_there_is_named(tmp_path: Path):
    params = Params({"type": "pretrained_transformer", "model_name": "/no/such/folder"})
    with pytest.raises(ConfigurationError, match="model_name '/no/such/folder': wanted"):
        Tokenizer.from_params(params, serialization_dir=str(tmp_path))

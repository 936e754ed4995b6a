from pathlib import Path

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import TokenIndexer, Tokenizer
from allennlp.data.token_indexers import PretrainedTransformerIndexer
from allennlp.data.tokenizers import PretrainedTransformerTokenizer

from sledgehammer_allennlp.encoders.archived_files import archived_folder


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


def test_a_model_that_is_not_there_is_named(tmp_path: Path):
    params = Params({"type": "pretrained_transformer", "model_name": "/no/such/folder"})
    with pytest.raises(ConfigurationError, match="model_name '/no/such/folder': wanted"):
        Tokenizer.from_params(params, serialization_dir=str(tmp_path))

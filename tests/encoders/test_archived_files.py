from pathlib import Path

import pytest
import transformers
from transformers import AutoConfig, AutoTokenizer

from sledgehammer_allennlp.encoders import archived_files
from sledgehammer_allennlp.encoders.archived_files import (
    archived_folder,
    find_config,
    find_tokenizer,
    is_trained,
    keep_config,
    keep_tokenizer,
)
from sledgehammer_allennlp.encoders.loading import load_config
from sledgehammer_allennlp.encoders.tokenizing import load_tokenizer
from tests.tiny import tiny_transformer


def test_a_kept_tokenizer_is_found_and_tokenizes_alike(tiny_bert: Path, tmp_path: Path):
    name = str(tiny_bert)
    assert find_tokenizer(name, tmp_path) == find_tokenizer(name, None) == name
    keep_tokenizer(name, tmp_path)
    found = find_tokenizer(name, tmp_path)
    assert Path(found).parent.parent == tmp_path / "vocabulary"
    text = "the film was Bad , indeed xyz"
    assert AutoTokenizer.from_pretrained(found)(text) == AutoTokenizer.from_pretrained(name)(text)
    assert [path.name for path in Path(found).parent.iterdir()] == [Path(found).name]


@pytest.mark.skipif(
    transformers.__version__ >= "5", reason="makes a tokenizer for a folder that has none"
)
def test_a_kept_configuration_is_found_without_a_tokenizer(tmp_path: Path):
    transformer = tiny_transformer("bert")
    transformer.save_pretrained(tmp_path / "model")
    name = str(tmp_path / "model")
    keep_tokenizer(name, tmp_path / "run")
    assert find_config(name, tmp_path / "run") == name
    keep_config(name, tmp_path / "run", transformer.config)
    found = find_config(name, tmp_path / "run")
    assert AutoConfig.from_pretrained(found).hidden_size == 32
    assert find_tokenizer(name, tmp_path / "run") == name


def test_models_with_the_same_last_name_are_kept_apart(tmp_path: Path):
    assert archived_folder("a/bert", tmp_path) != archived_folder("b/bert", tmp_path)


def test_a_folder_with_weights_is_trained(tmp_path: Path):
    assert not is_trained(tmp_path)
    (tmp_path / "best.th").touch()
    assert is_trained(tmp_path)


@pytest.mark.parametrize(
    "name, is_said", [("here/bert-bsae", True), ("./bert", True), ("elsewhere/bert", False)]
)
def test_a_folder_that_is_missing_is_said_once_before_the_hub_is_asked(
    name, is_said, tmp_path, monkeypatch
):
    said = []
    monkeypatch.setattr(
        archived_files.logger, "warning", lambda text, *parts: said.append(text % parts)
    )
    monkeypatch.setattr(archived_files, "_said_missing", set())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    for load in (load_config, load_tokenizer):
        with pytest.raises(ValueError, match="cannot read the"):
            load(name)
    keep_tokenizer(name, tmp_path)
    wanted = f"There is no folder '{name}': the Hugging Face hub is asked for a model of this name"
    assert said == [wanted] * is_said

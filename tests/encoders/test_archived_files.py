from pathlib import Path

from transformers import AutoTokenizer

from sledgehammer_allennlp.encoders.archived_files import (
    archived_folder,
    find_transformer_files,
    keep_transformer_files,
)
from tests.tiny import tiny_transformer


def test_kept_files_are_found_and_tokenize_alike(tiny_bert: Path, tmp_path: Path):
    assert find_transformer_files(str(tiny_bert), tmp_path) == str(tiny_bert)
    keep_transformer_files(str(tiny_bert), tmp_path)
    found = find_transformer_files(str(tiny_bert), tmp_path)
    assert Path(found).parent.parent == tmp_path / "vocabulary"
    assert not list(Path(found).glob("*.safetensors")) and not list(Path(found).glob("*.bin"))
    text = "the film was Bad , indeed xyz"
    assert AutoTokenizer.from_pretrained(found)(text) == AutoTokenizer.from_pretrained(tiny_bert)(
        text
    )


def test_models_with_the_same_last_name_are_kept_apart(tmp_path: Path):
    assert archived_folder("a/bert", tmp_path) != archived_folder("b/bert", tmp_path)


def test_a_model_without_tokenizer_is_kept_without(tmp_path: Path):
    tiny_transformer("bert").save_pretrained(tmp_path / "model")
    keep_transformer_files(str(tmp_path / "model"), tmp_path / "run")
    kept = Path(find_transformer_files(str(tmp_path / "model"), tmp_path / "run"))
    assert (kept / "config.json").exists()
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]

"""Whatever an archive has in place of what is wanted, check and loading say so in our words."""

import json
import shutil

import pytest
import torch

from sledgehammer_allennlp.archives.contents import read_json
from sledgehammer_allennlp.archives.model_sizes import check_model_sizes
from sledgehammer_allennlp.archives.safety_checks import check_contents
from tests.archives.test_limits import END, attributes, header, write
from tests.archives.test_names import loaders


def _text(name, content):
    return lambda hostile: (hostile.folder / name).write_bytes(content)


def _config(*keys_and_value):
    return lambda hostile: hostile.change(*keys_and_value)


def _pretrained(file="config.json", **settings):
    return lambda hostile: hostile.change_pretrained(file, **settings)


def _meta_is_a_folder(hostile):
    (hostile.folder / "meta.json").unlink()
    (hostile.folder / "meta.json").mkdir()


def _config_is_a_folder(hostile):
    (hostile.folder / "config.json").unlink()
    (hostile.folder / "config.json").mkdir()


def _vocabulary_is_a_folder(hostile):
    (hostile.transformers / "vocab.txt").unlink()
    (hostile.transformers / "vocab.txt").mkdir()


def _key_twice(hostile):
    text = (hostile.folder / "config.json").read_text()
    (hostile.folder / "config.json").write_text(text.rstrip().rstrip("}") + ', "model": {}}')


def _many_labels(hostile):
    with open(hostile.folder / "vocabulary" / "labels.txt", "a") as labels:
        labels.writelines(f"{number}\n" for number in range(2_000_000))


REFUSED = {
    "meta is a list": (_text("meta.json", b"[1]"), "meta.json is a list: wanted a dictionary"),
    "meta is a number": (_text("meta.json", b"5"), "meta.json is a int: wanted a dictionary"),
    "meta is a folder": (_meta_is_a_folder, "meta.json"),
    "meta of something else": (_text("meta.json", b'{"a": 1}'), "its meta.json has {'a': 1}: want"),
    "meta of a number": (_text("meta.json", b'{"version": 2}'), "its meta.json has {'version': 2}"),
    "vocab.txt is a folder": (_vocabulary_is_a_folder, "its vocab.txt of the pretrained model is"),
    "a key twice": (_key_twice, "It has the key 'model' twice: wanted it once"),
    "NaN": (_text("config.json", b'{"model": NaN}'), "It has the number NaN"),
    "no JSON": (_text("config.json", b"\xff\xfe"), "config.json is not plain JSON"),
    "config is a folder": (_config_is_a_folder, "config.json"),
    "nested": (_config("trainer", json.loads("[" * 150 + "]" * 150)), "nested more than 100 times"),
    "model is a number": (_config("model", 5), "config key model is 5: wanted a dictionary"),
    "reader is a list": (_config("dataset_reader", []), "config key dataset_reader is []: wanted"),
    "tokenizer is text": (_config("dataset_reader", "tokenizer", "pretrained_transformer"), ""),
    "token beyond": (
        lambda hostile: (hostile.transformers / "added_tokens.json").write_text('{"new": 75}'),
        "the token id 75, and the model 75 embeddings",
    ),
    "hidden size": (_pretrained(hidden_size=10**9), "its config asks for"),
    "vocabulary": (_pretrained(vocab_size=10**9), "numbers in embeddings, and its weights have"),
    "positions": (_pretrained(max_position_embeddings=10**9), "numbers in embeddings"),
    "feed-forward": (_pretrained(intermediate_size=10**10), "numbers in a layer"),
    "layers": (_pretrained(num_hidden_layers=10**6), "1000000 layers: wanted at most 500"),
    "negative": (_pretrained(hidden_size=-32), "hidden_size with -32: wanted a number from 1"),
    "negative layers": (_pretrained(num_hidden_layers=-4), "num_hidden_layers with -4: wanted a n"),
    "nested tasks": (
        _pretrained(task_specific_params=json.loads("[" * 150 + "]" * 150)),
        "nested more than 100 times",
    ),
    "no number": (_pretrained(num_hidden_layers="4"), "num_hidden_layers with '4': wanted a num"),
    "no fraction": (_pretrained(layer_norm_eps="x"), "layer_norm_eps with 'x': wanted a number"),
    "no name": (_pretrained(hidden_act=["gelu"]), "hidden_act with ['gelu']: wanted a text"),
    "zero heads": (_pretrained(num_attention_heads=0), "num_attention_heads with 0: wanted"),
    "huge": (_pretrained(hidden_size=10**4000), "wanted the weights of this config"),
    "labels": (_config("model", "num_labels", 10**12), "32000000000000 numbers in labels"),
    "names of labels": (_many_labels, "64000064 numbers in labels"),
    "alignment": (_config("model", "alignment", 10**9), "numbers in alignments"),
    "features": (_config("model", "token_features", 10**9), "numbers in token features"),
    "features of exits": (
        _config("model", "token_features", 4096),
        f"{4 * 4096 * (3 * 32 + 2 * 4096)} numbers in token features",
    ),
    "n-grams": (
        _config("model", "embedding_exit", {"type": "ngrams", "num_buckets": 2**31}),
        "numbers in n-grams",
    ),
    "attention": (
        _pretrained(attn_implementation="some/kernel"),
        "attn_implementation with 'some/kernel', for which a program may be fetched",
    ),
    "quantization": (
        _pretrained(quantization_config={"quant_method": "x"}),
        "quantization_config with {'quant_method': 'x'}, which names code to run",
    ),
}


@pytest.mark.parametrize("way", ["plain", "allennlp"])
@pytest.mark.parametrize("name", REFUSED)
def test_check_and_loading_refuse_it_in_our_words(hostile, way, name):
    change, message = REFUSED[name]
    check, load = loaders()[way]
    change(hostile)
    problems = check(hostile.folder).problems
    assert any(message in problem for problem in problems), problems
    assert all("wanted" in problem or "has no" in problem for problem in problems)
    errors = pytest.importorskip("allennlp.common.checks").ConfigurationError
    with pytest.raises((ValueError, errors)) as refused:
        load(hostile.folder)
    assert type(refused.value) in (ValueError, errors)
    assert message in str(refused.value) and len(str(refused.value)) < 5000


@pytest.mark.parametrize("way", ["plain", "allennlp"])
@pytest.mark.parametrize(
    "change",
    [
        _pretrained(hidden_act="none"),
        _pretrained(hidden_size=33),
        _pretrained(num_attention_heads=10**9),
        _pretrained(layer_norm_eps="x"),
        _pretrained(hidden_dropout_prob=[2]),
        _pretrained(pad_token_id=10**6),
        _pretrained("tokenizer_config.json", padding_side=5),
        _pretrained("tokenizer_config.json", do_lower_case={"a": 1}, tokenizer_class=None),
        _pretrained("special_tokens_map.json", unk_token=5),
        _text("vocabulary/labels.txt", b"\xff\xfe\x00"),
        _config("model", "label_namespace", "none"),
        _config("model", "exit_layers", {"a": 1}),
        _config("model", "num_labels", -1),
        _config("model", "num_labels", "2"),
        _config("model", "dropout", "x"),
        _config("model", "confidence", ["x"]),
        _config("dataset_reader", "tokenizer", "max_length", "x"),
        _config("dataset_reader", "tokenizer", "model_name", 5),
        _config("dataset_reader", "type", ["labeled_tsv"]),
        lambda hostile: shutil.rmtree(hostile.folder / "vocabulary"),
        lambda hostile: torch.save([1, 2], hostile.folder / "best.th"),
        lambda hostile: torch.save({"a": torch.ones(1)}, hostile.folder / "best.th"),
        lambda hostile: torch.save({5: torch.ones(1)}, hostile.folder / "best.th"),
    ],
)
def test_what_only_loading_can_find_ends_in_our_words_too(hostile, way, change):
    check, load = loaders()[way]
    change(hostile)
    assert isinstance(check(hostile.folder).problems, list)
    errors = pytest.importorskip("allennlp.common.checks").ConfigurationError
    try:
        load(hostile.folder)
    except (ValueError, errors) as refused:
        assert type(refused) in (ValueError, errors)
        assert "wanted" in str(refused) or "archive" in str(refused)


@pytest.mark.parametrize("name", ["a" * 300, "é" * 150, "/".join("a" * 3000)])
def test_names_that_no_system_takes_are_refused_by_extraction(tmp_path, name):
    check, load = loaders()["plain"]
    content = attributes(b"path=" + name.encode()) + header() + END
    archive = write(tmp_path / "a.tar.gz", content)
    (problem,) = check(archive).problems
    assert "is too long for a name" in problem or "is in too many folders" in problem
    assert len(problem) < 700
    with pytest.raises(ValueError, match="wanted a name inside of the archive"):
        load(archive)


def test_sizes_are_compared_with_the_weights():
    large = {"model_type": "bert", "hidden_size": 1024, "num_hidden_layers": 24}
    assert check_model_sizes(large, {}, 100_000_000) == []
    (problem,) = check_model_sizes(large, {}, 20_000_000)
    assert (
        "its config asks for 31780864 numbers in embeddings, and its weights have 20,0" in problem
    )
    albert = {**large, "model_type": "albert", "embedding_size": 128, "intermediate_size": 4096}
    assert check_model_sizes(albert, {}, 20_000_000) == []
    assert check_model_sizes({**albert, "num_hidden_groups": 400}, {}, 20_000_000) != []
    # Its exits share nothing.
    features = {"exit_layers": "all", "token_features": 1024}
    (problem,) = check_model_sizes(albert, features, 20_000_000)
    assert "numbers in token features" in problem
    assert check_model_sizes(albert, {**features, "exit_layers": [3]}, 20_000_000) == []
    assert check_model_sizes({"model_type": "distilbert"}, {}, 90_000_000) == []


@pytest.mark.parametrize(
    "hostile",
    [
        {"model_type": "bert", "intermediate_size": 10**6},  # hidden_size is the library's 768 then
        {"model_type": "bert", "embedding_size": 1, "vocab_size": 10**6},  # which BERT has not
        {"model_type": "bert", "num_hidden_groups": 1, "num_hidden_layers": 500},
        {"model_type": "distilbert", "dim": 10**6},
        {"model_type": "distilbert", "dim": 8, "hidden_size": 10**6},  # another name of the library
        {"model_type": "distilbert", "hidden_dim": 10**6},
        {"model_type": "electra", "vocab_size": 10**6},
        {"model_type": "bert", "type_vocab_size": 10**6},
        {"model_type": "deberta-v2", "position_buckets": 10**6},
        {"model_type": "deberta-v2", "max_relative_positions": 10**6},
        {"model_type": "mpnet", "relative_attention_num_buckets": 10**6},
    ],
)
def test_what_the_library_takes_counts_not_what_stands_in_the_config(hostile):
    problems = check_model_sizes(hostile, {}, 20_000_000)
    assert problems and all("numbers in" in problem for problem in problems)


@pytest.mark.parametrize(
    "hostile",
    [
        {"model_type": "deberta-v2", "position_buckets": "256"},
        {"model_type": "deberta-v2", "conv_kernel_size": [3]},
        {"model_type": "mpnet", "relative_attention_num_buckets": 1.5},
        {"model_type": "bert", "type_vocab_size": "two"},
    ],
)
def test_sizes_of_every_family_are_whole_numbers(hostile):
    key = list(hostile)[1]
    problems = check_model_sizes(hostile, {}, 10**9)
    assert any(f"the key {key} with" in one or "as its library" in one for one in problems)


def test_a_vocabulary_that_is_too_large_is_refused(tmp_path, monkeypatch):
    from sledgehammer_allennlp.archives import safety_checks

    monkeypatch.setattr(safety_checks, "MAX_VOCABULARY_BYTES", 10)
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "labels.txt").write_text("a" * 11)
    (problem,) = check_contents(tmp_path, {})
    assert problem == "its vocabulary/labels.txt has 11 bytes: wanted at most 10"


def test_json_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    from sledgehammer_allennlp.archives import contents

    monkeypatch.setattr(contents, "MAX_JSON_BYTES", 10)
    (tmp_path / "config.json").write_text("[" * 11)
    with pytest.raises(ValueError, match="It has 11 bytes: wanted 10"):
        read_json(tmp_path / "config.json")

from pathlib import Path

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Vocabulary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from sledgehammer_allennlp.data import LabeledTsvReader


def make_reader(pretrained: Path, max_length=None, **settings) -> LabeledTsvReader:
    tokenizer = {"type": "pretrained_transformer", "model_name": str(pretrained)}
    tokenizer["max_length"] = max_length
    params = Params({"type": "labeled_tsv", "tokenizer": tokenizer, **settings})
    return DatasetReader.from_params(params)


@pytest.fixture(scope="module")
def reader(tiny_bert):
    return make_reader(tiny_bert)


def write(folder: Path, content) -> str:
    path = folder / "data.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def read(reader, folder: Path, content):
    return list(reader.read(write(folder, content)))


def ids_of(instance):
    return [token.text_id for token in instance["tokens"]]


@pytest.mark.parametrize("tokenizer_name", ["tiny_bert", "tiny_roberta"])
def test_sentences_and_pairs_become_the_tokenizers_ids_and_types(tokenizer_name, request, tmp_path):
    pretrained = request.getfixturevalue(tokenizer_name)
    reader = make_reader(pretrained)
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    (single,) = read(reader, tmp_path, "pos\tthe film was good\n")
    assert ids_of(single) == tokenizer("the film was good")["input_ids"]
    assert single["label"].label == "pos"
    (pair,) = read(reader, tmp_path, "neg\tthe film was good\tit was bad\n")
    wanted = tokenizer("the film was good", "it was bad", return_token_type_ids=True)
    assert ids_of(pair) == wanted["input_ids"]
    assert [token.type_id for token in pair["tokens"]] == wanted["token_type_ids"]


def test_indexed_instances_have_what_the_model_takes(reader, tmp_path):
    instances = read(reader, tmp_path, "pos\tthe film was good\n")
    instances[0].index_fields(Vocabulary.from_instances(instances))
    tensors = instances[0].as_tensor_dict()
    assert sorted(tensors) == ["label", "metadata", "tokens"]
    assert tensors["metadata"] == {"line": 1, "gold_label": "pos"}
    assert sorted(tensors["tokens"]["tokens"]) == ["mask", "token_ids", "type_ids"]


def test_add_special_tokens_false_changes_nothing(tiny_bert, reader, tmp_path):
    tokenizer = {
        "type": "pretrained_transformer",
        "model_name": str(tiny_bert),
        "add_special_tokens": False,
    }
    other = DatasetReader.from_params(Params({"type": "labeled_tsv", "tokenizer": tokenizer}))
    line = "neg\tthe film was good\tit was bad\n"
    assert ids_of(read(other, tmp_path, line)[0]) == ids_of(read(reader, tmp_path, line)[0])


@pytest.mark.parametrize("second", ["", "\tvery bad"])
def test_long_texts_are_truncated_the_longer_first(tiny_bert, tmp_path, second):
    text = "good " * 500
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    for max_length, limit in ((9, 9), (None, 64)):
        reader = make_reader(tiny_bert, max_length)
        (instance,) = read(reader, tmp_path, f"pos\t{text}{second}\n")
        assert len(ids_of(instance)) == limit
        if second:
            kept = tokenizer.convert_ids_to_tokens(ids_of(instance))
            assert kept[-3:] == ["very", "bad", "[SEP]"]


def test_text_is_kept_as_it_is_but_for_line_ends(reader, tmp_path):
    instances = read(reader, tmp_path, "﻿a\tone\r\nb\ttwo  three\n\n\n".encode())
    assert [instance["label"].label for instance in instances] == ["a", "b"]


def test_another_encoding_can_be_chosen(tiny_bert, tmp_path):
    reader = make_reader(tiny_bert, encoding="utf-16")
    (instance,) = read(reader, tmp_path, "größe\tgood\n".encode("utf-16"))
    assert instance["label"].label == "größe"


def test_an_unknown_encoding_is_refused(tiny_bert):
    with pytest.raises(ConfigurationError, match="encoding is 'utf-99'"):
        make_reader(tiny_bert, encoding="utf-99")


@pytest.mark.parametrize("encoding", ["utf-8", "utf8", "UTF_8"])
def test_a_byte_order_mark_is_not_text(tiny_bert, tmp_path, encoding):
    (instance,) = read(make_reader(tiny_bert, encoding=encoding), tmp_path, "\ufeffpos\tgood\n")
    assert instance["label"].label == "pos"


@pytest.mark.parametrize(
    "content, message",
    [
        ("Label\tsentence\npos\tgood\n", "line 1: found a header"),
        ("pos\tgood\nbad film\n", "line 2: found 1 tab-separated column: wanted label<TAB>text"),
        ("a\tb\tc\td\n", "line 1: found 4 tab-separated columns: wanted label<TAB>text"),
        ("pos\tgood\nneg\tbad\tfilm\n", "line 2: found 3 .* but 2 in the lines before"),
        ("pos\tgood\nneg\t \n", "line 2: the text is empty"),
        ("pos\tgood\t\n", "line 1: the second text is empty"),
        ("\tgood\n", "line 1: the label is empty"),
        ("pos\tgood\n\nneg\tbad\n", "line 2: the line is blank"),
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("pos\tgood\nneg\tna\u00efve\n".encode("latin-1"), "line 2: the bytes are not utf-8"),
        (b"pos\tgood\n" * 5000 + b"neg\tna\xefve\n", "line 5001: the bytes are not utf-8"),
    ],
)
def test_a_bad_file_is_refused_with_file_and_line(reader, tmp_path, content, message):
    with pytest.raises(ValueError, match=f"data.tsv.*{message}"):
        read(reader, tmp_path, content)


def test_a_label_that_training_never_saw_is_named_with_file_and_line(reader, tmp_path):
    vocab = Vocabulary.from_instances(read(reader, tmp_path, "pos\tgood\nneg\tbad\n"))
    instances = read(reader, tmp_path, "pos\tgood\nso-so\tbad\n")
    instances[0].index_fields(vocab)
    with pytest.raises(
        ValueError, match="data.tsv, line 2: label 'so-so' .*wanted one of neg, pos"
    ):
        instances[1].index_fields(vocab)


def test_another_tokenizer_needs_indexers():
    with pytest.raises(ConfigurationError, match="needs token_indexers"):
        DatasetReader.from_params(Params({"type": "labeled_tsv", "tokenizer": "whitespace"}))


def test_max_instances_is_honoured(tiny_bert, tmp_path):
    reader = make_reader(tiny_bert, max_instances=3)
    assert len(read(reader, tmp_path, "pos\tgood\n" * 10)) == 3


# No tab or line end inside; a blank column is an error, tested above.
columns = st.text(
    st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1, max_size=30
).filter(lambda text: text.strip() and "\ufeff" not in text)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(columns, columns), min_size=1, max_size=8))
def test_every_line_becomes_an_instance_in_order(reader, tmp_path, rows):
    instances = read(reader, tmp_path, "".join(f"{label}\t{text}\n" for label, text in rows))
    assert [i["label"].label for i in instances] == [label.strip() for label, _ in rows]
    wanted = [reader.text_to_instance(text) for _, text in rows]
    assert [ids_of(i) for i in instances] == [ids_of(i) for i in wanted]


@pytest.mark.parametrize("second_text", ["", "\tit was a day"])
def test_exit_layers_are_read_from_the_second_column(tiny_bert, tmp_path, second_text):
    reader = make_reader(tiny_bert, with_exit_layers=True)
    content = f"pos\t-1\tthe film was good{second_text}\nneg\t 3 \tbad{second_text}\n"
    instances = read(reader, tmp_path, content)
    plain = read(make_reader(tiny_bert), tmp_path, f"pos\tthe film was good{second_text}\n")
    assert ids_of(instances[0]) == ids_of(plain[0])
    assert [instance["label"].label for instance in instances] == ["pos", "neg"]
    vocab = Vocabulary.from_instances(instances)
    layers = []
    for instance in instances:
        instance.index_fields(vocab)
        layers.append(instance.as_tensor_dict()["exit_layer"].item())
    assert layers == [-1, 3]
    assert "exit_layer" not in plain[0].fields


@pytest.mark.parametrize(
    "content, message",
    [
        ("pos\t0\tgood\npos\tgood\n", "line 2: found 'good' in the second column: wanted the la"),
        ("pos\t1.5\tgood\n", "line 1: found '1.5' in the second column"),
        ("pos\n", "line 1: found nothing in the second column"),
        ("pos\t1\n", "line 1: found 1 tab-separated column"),
        ("pos\t1\t \n", "line 1: the text is empty"),
        ("", "the file is empty: wanted label<TAB>layer<TAB>text"),
    ],
)
def test_a_bad_line_with_exit_layers_is_refused(tiny_bert, tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read(make_reader(tiny_bert, with_exit_layers=True), tmp_path, content)

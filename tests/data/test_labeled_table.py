"""Tables of labelled texts give the instances that the same texts in lines give."""

import csv
import gc
import json

import pytest

pytest.importorskip("fsspec")
pa = pytest.importorskip("pyarrow")

import pyarrow.parquet as pq
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance
from allennlp.data.data_loaders import MultiProcessDataLoader

from sledgehammer_allennlp import load_archived_classifier
from tests.tiny import tiny_experiment

ROWS = [
    {"id": 1, "label": "pos", "text": "the film was good", "other": "it was a day"},
    {"id": 2, "label": "neg", "text": "this book was bad", "other": "a day"},
    {"id": 3, "label": "pos", "text": 'good , "very" good', "other": "a film, a day"},
]


def make_reader(pretrained, kind="labeled_table", **settings) -> DatasetReader:
    tokenizer = {"type": "pretrained_transformer", "model_name": str(pretrained)}
    return DatasetReader.from_params(Params({"type": kind, "tokenizer": tokenizer, **settings}))


def write(folder, format_):
    path = folder / f"in.{format_}"
    if format_ == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif format_ == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif format_ == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]))
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        lines = ["\t".join(map(str, row.values())) for row in ROWS]
        path.write_text("\n".join(["\t".join(ROWS[0]), *lines]))
    return str(path)


def as_dict(instance):
    fields = {name: field for name, field in instance.fields.items() if name != "metadata"}
    tokens = [(token.text, token.text_id, token.type_id) for token in fields["tokens"]]
    return tokens, fields["label"].label


@pytest.mark.parametrize("second", [None, "other"])
@pytest.mark.parametrize("format_", ["jsonl", "csv", "tsv", "parquet"])
def test_a_table_gives_what_lines_give(tiny_bert, tmp_path, format_, second):
    columns = ["label", "text"] + ([second] if second else [])
    (tmp_path / "lines.tsv").write_text(
        "".join("\t".join(row[name] for name in columns) + "\n" for row in ROWS)
    )
    wanted = make_reader(tiny_bert, "labeled_tsv").read(str(tmp_path / "lines.tsv"))
    reader = make_reader(tiny_bert, second_text_column=second)
    found = list(reader.read(write(tmp_path, format_)))
    assert list(map(as_dict, found)) == list(map(as_dict, wanted))
    has_header = format_ in ("csv", "tsv")
    assert [instance["metadata"]["line"] for instance in found] == [
        number + has_header for number in (1, 2, 3)
    ]


def test_labels_that_are_numbers_are_taken_as_they_are_written(tiny_bert, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a", "y": 10}\n\n{"text": "b", "y": 0}\n')
    found = list(make_reader(tiny_bert, label_column="y").read(str(path)))
    assert [instance["label"].label for instance in found] == ["10", "0"]
    assert [instance["metadata"]["line"] for instance in found] == [1, 3]


@pytest.mark.parametrize(
    "lines, message",
    [
        ('{"text": "a"}', "there is no column 'label' in the first 1,000 rows: found 'text'"),
        ('{"text": "a", "label": "x"}\n{"text": "b"}', "row 2: the label is None: wanted a string"),
        ('{"text": "a", "label": " "}', "row 1: the label is ' '"),
        ('{"text": "a", "label": 0.5}', "row 1: the label is 0.5"),
        ('{"text": " ", "label": "x"}', "row 1: the text is empty"),
        ('{"text": "a", "label": "x"}\nno', "row 2: it is not JSON"),
        ("", "the input has no rows"),
    ],
)
def test_a_bad_row_is_named(tiny_bert, tmp_path, lines, message):
    path = tmp_path / "in.jsonl"
    path.write_text(lines)
    with pytest.raises(ValueError, match=message):
        list(make_reader(tiny_bert).read(str(path)))


def test_another_format_is_refused(tiny_bert):
    with pytest.raises(ConfigurationError, match="format is 'xls': wanted 'jsonl'"):
        make_reader(tiny_bert, format="xls")


def test_a_model_trained_on_tables_is_loaded_without_allennlp(tiny_bert, tmp_path):
    from allennlp.commands.train import train_model

    path = write(tmp_path, "csv")
    config = tiny_experiment(str(tiny_bert), {"train": path, "dev": path})
    config["dataset_reader"]["type"] = "labeled_table"
    config["trainer"]["num_epochs"] = 1
    train_model(Params(config), str(tmp_path / "run"))
    classifier = load_archived_classifier(tmp_path / "run")
    assert classifier.predict(["the film was good"])[0]["label"] in ("pos", "neg")


def num_instances():
    return sum(type(one) is Instance for one in gc.get_objects())


@pytest.mark.parametrize("kind, separator", [("labeled_table", ","), ("labeled_tsv", "\t")])
def test_a_loader_with_a_limit_reads_one_instance_after_the_other(
    tiny_bert, tmp_path, kind, separator
):
    path = tmp_path / ("in.csv" if kind == "labeled_table" else "in.tsv")
    header = f"label{separator}text\n" if kind == "labeled_table" else ""
    path.write_text(header + f"pos{separator}good\n" * 2000 + f"pos{separator}\n")
    reader = make_reader(tiny_bert, kind)
    loader = MultiProcessDataLoader(reader, str(path), batch_size=8, max_instances_in_memory=16)
    before = num_instances()
    instances = loader.iter_instances()
    for _ in range(2000):
        assert next(instances)["label"].label == "pos"
    assert num_instances() <= before + 1
    with pytest.raises(ValueError, match="the text is empty"):  # The last, not read before.
        next(instances)

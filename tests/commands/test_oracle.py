import json
import shlex
import tarfile
from pathlib import Path

import pytest
import torch
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.common.checks import ConfigurationError
from allennlp.models import load_archive


def rows_of(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("data", ["dev", "pairs"])
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_model_leaves_at_the_cheapest_exit_that_is_right(
    trained, tsv, tmp_path, allennlp_command, capsys, data, threshold
):
    output = tmp_path / "oracle.tsv"
    allennlp_command("oracle", trained["archive"], tsv[data], "--output-file", output)
    printed = capsys.readouterr().out
    assert f"Written to {output}" in printed and "exits up to layer" in printed
    rows = rows_of(output)
    lines = Path(tsv[data]).read_text(encoding="utf-8").splitlines()
    assert ["\t".join([label, *texts]) for label, _, *texts in rows] == lines

    # By the model's own answers, text by text.
    archive = load_archive(trained["archive"])
    model = archive.model.eval()
    layers = []
    for instance in archive.dataset_reader.read(tsv[data]):
        instance.index_fields(model.vocab)
        tokens = {
            key: tensor.unsqueeze(0)
            for key, tensor in instance.as_tensor_dict()["tokens"]["tokens"].items()
        }
        with torch.no_grad():
            logits = model.all_exit_logits({"tokens": tokens})[:, 0]
        right = (logits.argmax(-1) == instance["label"]._label_id).tolist()
        layers.append(next((x for x, is_right in zip(model.exit_layers, right) if is_right), -1))
    assert [int(row[1]) for row in rows] == layers

    predictions = tmp_path / "predictions.jsonl"
    metrics = evaluate_from_archive(
        trained["archive"],
        str(output),
        predictions_output_file=str(predictions),
        cmd_overrides=json.dumps(
            {
                "dataset_reader.with_exit_layers": True,
                "model.confidence_threshold": threshold,
                "evaluation": {"batch_serializer": "instances"},
            }
        ),
    )
    assert metrics["average_exit_layer"] == pytest.approx(sum(layers) / len(layers))
    assert f"accuracy {metrics['accuracy']:.4f} instead of" in printed
    records = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [record["exit_layer"] for record in records] == layers
    assert [record["line"] for record in records] == list(range(1, len(lines) + 1))
    assert [record["gold_label"] for record in records] == [row[0] for row in rows]
    share = sum(record["label"] == record["gold_label"] for record in records) / len(records)
    assert share == pytest.approx(metrics["accuracy"])


def printed_overrides(printed):
    command = printed[printed.index("--overrides ") :].split("\n")[0]
    return json.loads(shlex.split(command)[1])


def test_the_printed_overrides_give_what_the_oracle_promises(
    trained, tmp_path, allennlp_command, capsys
):
    # A config with a reader of its own for validation, of files in another encoding.
    with tarfile.open(trained["archive"]) as tar:
        tar.extractall(tmp_path / "run", filter="data")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["validation_dataset_reader"] = {**config["dataset_reader"], "encoding": "latin-1"}
    path.write_text(json.dumps(config))
    data, output = tmp_path / "data.tsv", tmp_path / "oracle.tsv"
    lines = "pos\tthe film was très good\nneg\tthis book was très bad\npos\ta good day\n"
    data.write_bytes(lines.encode("latin-1"))
    given = json.dumps({"model.ensemble": "reached"})
    arguments = [tmp_path / "run", data, "--output-file", output, "--overrides", given]
    allennlp_command("oracle", *arguments)
    printed = capsys.readouterr().out
    overrides = printed_overrides(printed)
    assert overrides == {
        "model.ensemble": "reached",
        "validation_dataset_reader.with_exit_layers": True,
    }
    assert "très" in output.read_bytes().decode("latin-1")
    found = evaluate_from_archive(
        str(tmp_path / "run"), str(output), cmd_overrides=json.dumps(overrides)
    )
    assert f"accuracy {found['accuracy']:.4f} instead of" in printed


def test_a_layer_without_an_exit_is_refused(trained, tmp_path):
    data = tmp_path / "data.tsv"
    data.write_text("pos\t1\tthe film was good\npos\t0\tthe film was good\n")
    with pytest.raises(ConfigurationError, match=r"exit layers \[1\], .*in \[-1, 0, 2, 3\]"):
        evaluate_from_archive(
            trained["archive"],
            str(data),
            cmd_overrides='{"dataset_reader.with_exit_layers": true}',
        )


def test_a_reader_of_other_files_is_refused(trained, tsv, tmp_path, allennlp_command, tiny_bert):
    reader = {
        "type": "text_classification_json",
        "tokenizer": {"type": "pretrained_transformer", "model_name": str(tiny_bert)},
    }
    with pytest.raises(ConfigurationError, match="JsonReader: wanted labeled_tsv"):
        allennlp_command(
            "oracle",
            trained["archive"],
            tsv["dev"],
            "--output-file",
            tmp_path / "oracle.tsv",
            "--overrides",
            json.dumps({"dataset_reader": reader}),
        )


def test_an_output_file_that_is_a_folder_is_refused(trained, tsv, tmp_path, allennlp_command):
    with pytest.raises(ConfigurationError, match="a folder: wanted a file"):
        allennlp_command("oracle", trained["archive"], tsv["dev"], "--output-file", tmp_path)

"""What the subcommands are given is used, or refused in words of ours."""

import argparse
import gzip
import json
import os

import pytest
from allennlp.common.checks import ConfigurationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.commands.labelled_data import overrides_in
from sledgehammer_allennlp.engine.exit_rule import check_threshold


@pytest.mark.parametrize(
    "overrides, message",
    [
        ("{", "wanted a JSON object"),
        ("3", "--overrides is '3': wanted a JSON object"),
        ("[]", "wanted a JSON object"),
        ("null", "wanted a JSON object"),
        ("[" * 10_000, "wanted a JSON object"),
        ('{"a": 1, "a": 2}', "wanted a JSON object.*duplicate field"),
        ('{"model": 3}', "does not load with --overrides .*wanted what its config takes"),
        ('{"model.no": {"no": 1}}', "Extra parameters passed to MultiExitClassifier: {'no'"),
        ('{"dataset_reader": null}', "does not load with --overrides"),
        ('{"model.confidence_threshold": 1e308}', "confidence_threshold is 10.*wanted a number"),
        ('{"model.exit_layers": {"a": 1}}', "exit_layers"),
    ],
    ids=lambda value: value[:30],
)
@pytest.mark.parametrize("command", ["calibrate", "oracle"])
def test_hostile_overrides_are_refused(
    trained, tsv, tmp_path, allennlp_command, command, overrides, message
):
    output = {
        "calibrate": ["--output-archive", tmp_path / "new.tar.gz", "--max-accuracy-drop", "0.1"],
        "oracle": ["--output-file", tmp_path / "oracle.tsv"],
    }[command]
    with pytest.raises(ConfigurationError, match=message) as raised:
        allennlp_command(command, trained["archive"], tsv["dev"], *output, "--overrides", overrides)
    assert len(str(raised.value)) < 2000
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(st.characters(exclude_characters="\0"), max_size=20))
def test_any_text_is_an_object_of_overrides_or_refused(text):
    try:
        assert isinstance(overrides_in(argparse.Namespace(overrides=text)), dict)
    except ConfigurationError as error:
        assert "wanted a JSON object" in str(error)


@pytest.mark.parametrize("command", ["tradeoff", "oracle"])
def test_data_that_is_no_text_file_is_refused(trained, tmp_path, allennlp_command, command):
    output = {"tradeoff": "--output-dir", "oracle": "--output-file"}[command]
    compressed, fifo = tmp_path / "data.tsv.gz", tmp_path / "pipe"
    compressed.write_bytes(gzip.compress(b"pos\tgood\n"))
    os.mkfifo(fifo)
    for data, message in (
        (compressed, "data.tsv.gz, line 1: the bytes are not utf-8"),
        (fifo, "a pipe or a device: wanted a file"),
        (tmp_path, "a folder: wanted a file"),
        (tmp_path / "missing.tsv", "cannot read .*missing.tsv': wanted a file"),
    ):
        with pytest.raises(ValueError, match=message):
            allennlp_command(command, trained["archive"], data, output, tmp_path / "output")


@pytest.mark.parametrize("threshold", ["nan", "inf", "-inf", "1e999", "-0.1", "1.0000001"])
def test_a_threshold_that_cannot_be_is_refused(trained, tsv, tmp_path, allennlp_command, threshold):
    arguments = [trained["archive"], tsv["dev"], "--output-dir", tmp_path / "results"]
    with pytest.raises(ConfigurationError, match="confidence_threshold is .*wanted a number"):
        allennlp_command("tradeoff", *arguments, f"--measure={threshold}")
    for option, message in (
        ("--max-accuracy-drop", "accuracy drop is"),
        ("--target-speedup", "target speed-up is"),
        ("--confidence-level", "confidence level is"),
    ):
        if (option, threshold) != ("--target-speedup", "1.0000001"):
            with pytest.raises(ConfigurationError, match=f"{message}.*wanted"):
                allennlp_command("tradeoff", *arguments, f"{option}={threshold}")


def test_an_integer_too_large_to_be_written_is_no_threshold():
    with pytest.raises(ValueError, match="confidence_threshold is an integer of very many digits"):
        check_threshold(10**10_000)
    with pytest.raises(ValueError, match="confidence_threshold is 10*"):
        check_threshold(10**400)


def test_texts_of_special_tokens_go_through_the_commands(
    trained, tmp_path, allennlp_command, capsys
):
    lines = ["pos\t[PAD] [PAD]\n", "neg\t[SEP] [CLS] \0 \U0010ffff \u2028\n", "pos\t\ufffd\n"] * 3
    (tmp_path / "data.tsv").write_bytes("".join(lines).encode())
    output = tmp_path / "oracle.tsv"
    allennlp_command("oracle", trained["archive"], tmp_path / "data.tsv", "--output-file", output)
    written = output.read_bytes().decode().split("\n")
    assert [line.split("\t")[2] for line in written[:-1]] == [
        line[:-1].split("\t")[1] for line in lines
    ]
    folder = tmp_path / "tradeoff"
    allennlp_command("tradeoff", trained["archive"], tmp_path / "data.tsv", "--output-dir", folder)
    json.loads((folder / "tradeoff.json").read_text())

"""`python -m sledgehammer_allennlp new-config`, from the command line to a trained archive."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from sledgehammer_allennlp import __version__
from sledgehammer_allennlp.__main__ import main
from sledgehammer_allennlp.configs import SETTINGS_FILE, command
from tests.configs.test_data_summary import write
from tests.tiny import tiny_transformer

ROOT = Path(__file__).parents[2]
TRAIN = [("it's good", "the film was good"), ('"bad"', "this book was very bad")] * 10
DEV = [("it's good", "her song was good"), ('"bad"', "a day was bad")]


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_bert) -> Path:
    """The working folder, with `my data/{train,dev}.tsv`, and a model in `model`."""
    (tmp_path / "my data").mkdir()
    write(tmp_path / "my data" / "train.tsv", TRAIN)
    write(tmp_path / "my data" / "dev.tsv", DEV)
    (tmp_path / "model").symlink_to(tiny_bert)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new_config(*more: str, config="mine.jsonnet", **changed: str) -> int:
    given = {"train": "my data/train.tsv", "dev": "my data/dev.tsv", "model": "model", **changed}
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    return main(["new-config", config, *options, *more])


def made(folder: Path) -> set:
    return {path.name for path in folder.iterdir()} - {"my data", "model"}


@pytest.mark.parametrize("text, is_warned_of", [("the film was good", False), ("映画 good", True)])
def test_a_model_that_lacks_the_script_of_the_texts_is_warned_of(
    folder, capsys, text, is_warned_of
):
    write(folder / "my data" / "train.tsv", [*TRAIN, *[("it's good", text)] * 5])
    assert new_config() == 0
    out = " ".join(capsys.readouterr().out.split())
    # 10 of 105 pieces.
    warning = "Warning: model: 9.5% of the word pieces are [UNK], unknown to the tokenizer, for"
    assert (warning in out) == is_warned_of
    written = (folder / "mine.jsonnet").read_text(encoding="utf-8")
    assert ("9.5% of the word pieces" in written) == is_warned_of


def test_a_config_is_written_that_trains_and_whose_archive_predicts(folder, capsys):
    pytest.importorskip("allennlp")
    from allennlp.commands.train import train_model
    from allennlp.common import Params
    from allennlp.predictors import Predictor

    assert new_config() == 0
    out = capsys.readouterr().out
    assert 'my data/train.tsv: 20 single texts, 2 labels: 10 "it\'s good", 10 \'"bad"\'.' in out
    assert "Warning: my data/dev.tsv: 2 texts are few to calibrate" in out
    assert "num_epochs: 20\nThat is 20 training steps, 1 an epoch.\n" in out
    assert "  allennlp train mine.jsonnet -s runs/mine --include-package sledge" in out
    assert made(folder) == {"mine.jsonnet", "multi_exit.libsonnet"}
    params = Params.from_file("mine.jsonnet", params_overrides={"trainer.num_epochs": 1})
    config = params.as_dict(quiet=True)
    assert config["train_data_path"] == "my data/train.tsv"
    assert config["model"]["transformer_model"] == "model"
    assert config["model"]["exit_layers"] == "all"  # of four layers
    assert config["dataset_reader"]["tokenizer"]["max_length"] == 64  # the model's
    assert config["data_loader"]["batch_sampler"]["batch_size"] == 32
    train_model(params, "runs/mine")
    predictor = Predictor.from_path("runs/mine/model.tar.gz")
    assert predictor.predict_json({"sentence": "good"})["label"] in ("it's good", '"bad"')


def test_of_a_table_the_config_names_the_columns_and_trains(folder, capsys):
    pytest.importorskip("allennlp")
    from allennlp.commands.train import train_model
    from allennlp.common import Params

    for name, rows in (("train", TRAIN), ("dev", DEV)):
        lines = [
            f"{number},{text},{5 if 'good' in label else 1}"
            for number, (label, text) in enumerate(rows)
        ]
        (folder / f"{name}.csv").write_text("\n".join(["id,review,stars", *lines]) + "\n")
    columns = ["--text-column", "review", "--label-column", "stars"]
    assert new_config(*columns, train="train.csv", dev="dev.csv") == 0
    assert "train.csv: 20 single texts, 2 labels: 10 '5', 10 '1'." in capsys.readouterr().out
    params = Params.from_file("mine.jsonnet", params_overrides={"trainer.num_epochs": 1})
    reader = params.as_dict(quiet=True)["dataset_reader"]
    assert reader["type"] == "labeled_table"
    assert (reader["text_column"], reader["label_column"]) == ("review", "stars")
    assert "second_text_column" not in reader
    assert reader["tokenizer"]["max_length"] == 64  # the model's
    train_model(params, "runs/mine")
    assert (folder / "runs/mine/model.tar.gz").exists()


@pytest.mark.parametrize(
    "options, wanted",
    [
        ([], "If it is a table, name its columns: --text-column and --label-column"),
        (["--text-column", "text"], "no column 'text': found 'id', 'review', 'stars' "),
        (["--label-column", "stars"], "'stars'. If it has another name: --text-column COLUMN "),
        (["--text-column", "review"], "'stars'. If it has another name: --label-column COLUMN "),
        (
            ["--text-column", "review", "--label-column", "stars"],
            "train.csv, row 3: the label is '': wanted",
        ),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(folder, capsys, options, wanted):
    pytest.importorskip("pyarrow")
    (folder / "train.csv").write_text("id,review,stars\n1,good,5\n2,bad,\n")
    assert new_config(*options, train="train.csv") == 2
    assert wanted in " ".join(capsys.readouterr().err.split()) + " "
    assert made(folder) == {"train.csv"}


def test_all_settings_come_along_with_their_defaults(folder):
    _jsonnet = pytest.importorskip("_jsonnet")
    assert new_config() == 0
    config = json.loads(_jsonnet.evaluate_file("mine.jsonnet"))
    source = f"(import {json.dumps(str(SETTINGS_FILE))}) + {{ dataset:: 'x', num_epochs:: 20 }}"
    shipped = json.loads(_jsonnet.evaluate_snippet("shipped", source))
    assert config.keys() == shipped.keys()
    assert config["trainer"] == shipped["trainer"]


def test_the_paths_are_of_the_working_folder(folder, capsys):
    (folder / "configs").mkdir()
    assert new_config(config="configs/my own.jsonnet") == 0
    command_line = "allennlp train 'configs/my own.jsonnet' -s 'runs/my own' --include-package"
    text = (folder / "configs" / "my own.jsonnet").read_text()
    assert command_line in text and command_line in capsys.readouterr().out
    assert "training is started, .., seen from that of this file" in " ".join(
        text.replace("//", "").split()
    )
    assert str(folder) not in text
    assert (folder / "configs" / "multi_exit.libsonnet").exists()


def test_the_library_has_a_head_that_says_where_it_is_from(folder):
    assert new_config() == 0
    found = (folder / "multi_exit.libsonnet").read_text()
    assert found.startswith("// Copied by new-config from sledgehammer_allennlp ")
    assert found.endswith(SETTINGS_FILE.read_text())


@pytest.mark.parametrize("change", [lambda t: t, lambda t: t.replace(__version__, "0.0.9", 1)])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_same_library_is_left_alone(folder, change, end, capsys):
    assert new_config() == 0
    settings = folder / "multi_exit.libsonnet"
    settings.write_bytes(change(settings.read_text()).replace("\n", end).encode())
    before = settings.read_bytes()
    assert new_config(config="other.jsonnet") == 0
    assert settings.read_bytes() == before
    assert "multi_exit.libsonnet, as it was" in capsys.readouterr().out


def test_other_settings_are_replaced_by_force_alone(folder, capsys):
    settings = folder / "multi_exit.libsonnet"
    settings.write_text("{ mine: 1 }")
    assert new_config() == 2
    error = capsys.readouterr().err
    assert "'multi_exit.libsonnet' is there and has other settings" in error
    assert "--force to replace it" in error
    assert settings.read_text() == "{ mine: 1 }" and made(folder) == {settings.name}
    assert new_config("--force") == 0
    assert "num_epochs:: 2" in settings.read_text()


def test_a_config_that_is_there_is_replaced_by_force_alone(folder, capsys):
    (folder / "mine.jsonnet").write_text("{}")
    assert new_config() == 2
    assert "'mine.jsonnet' is there: wanted another name, or --force" in capsys.readouterr().err
    assert made(folder) == {"mine.jsonnet"}
    assert new_config("--force") == 0
    assert "transformer_model" in (folder / "mine.jsonnet").read_text()


@pytest.mark.parametrize(
    "data, content, message",
    [
        ("train", b"good\tx\nbad\n", "my data/train.tsv, line 2: found 1 tab-separated column"),
        ("train", b"good\tx\nbad\t\xff\n", "my data/train.tsv, line 2: the bytes are not utf-8"),
        ("train", b"good\tx\n", "my data/train.tsv: found one label only, 'good', in 1 text"),
        ("train", b"", "my data/train.tsv: the file is empty"),
        ("dev", b"", "my data/dev.tsv: the file is empty"),
        ("dev", b"label\ttext\n", "my data/dev.tsv, line 1: found a header"),
        ("dev", b"other\tx\n", "my data/dev.tsv, line 1: the label 'other' does not stand in"),
        ("dev", b'"bad"\tx\ty\n', "my data/dev.tsv, line 1: found pairs, but single texts"),
    ],
)
def test_bad_data_are_named_and_nothing_is_written(folder, data, content, message, capsys):
    (folder / "my data" / f"{data}.tsv").write_bytes(content)
    assert new_config() == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"new-config: error: {message}")
    assert captured.out == "" and made(folder) == set()


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"train": "none.tsv"}, "cannot read 'none.tsv': wanted a file of label<TAB>text lines"),
        ({"dev": "my data"}, "cannot read 'my data': .* is a folder"),
        ({"model": "./none"}, "cannot read the configuration of transformer_model './none'"),
        ({"config": "none/mine.jsonnet"}, "there is no folder 'none'"),
        ({"config": "multi_exit.libsonnet"}, "the name of the file that it imports"),
        ({"config": "my data"}, "'my data' is no file"),
        ({"train": "a\udcff.tsv"}, r"--train is 'a\\udcff.tsv': wanted a name in UTF-8"),
    ],
)
def test_bad_arguments_are_refused(folder, changed, message, capsys):
    assert new_config(**changed) == 2
    assert re.search(message, capsys.readouterr().err)
    assert made(folder) == set()


def test_a_model_without_tokenizer_and_one_of_another_family_are_refused(folder, capsys):
    tiny_transformer("bert").save_pretrained(folder / "my data" / "bert")
    assert new_config(model="my data/bert") == 2
    assert (
        "cannot read the tokenizer of transformer_model 'my data/bert'" in capsys.readouterr().err
    )
    transformers.GPT2Config().save_pretrained(folder / "my data" / "gpt2")
    assert new_config(model="my data/gpt2") == 2
    assert "type 'gpt2' are not supported: wanted one of albert" in capsys.readouterr().err
    assert made(folder) == set()


@pytest.mark.parametrize("name, target", [("train", "mine.jsonnet"), ("dev", SETTINGS_FILE.name)])
def test_data_are_never_replaced_not_even_by_force(folder, name, target, capsys):
    (folder / target).write_bytes((folder / "my data" / f"{name}.tsv").read_bytes())
    before = (folder / target).read_bytes()
    assert new_config("--force", **{name: target}) == 2
    assert f"--{name} is '{target}', which would be replaced" in capsys.readouterr().err
    assert (folder / target).read_bytes() == before and made(folder) == {target}


def test_training_data_are_no_dev_data(folder, capsys):
    assert new_config(dev="./my data/train.tsv") == 2
    assert "--train and --dev are the same file, './my data/train.tsv'" in capsys.readouterr().err
    assert made(folder) == set()


def test_a_dev_file_larger_than_the_training_file_is_doubted(folder, capsys):
    assert new_config(train="my data/dev.tsv", dev="my data/train.tsv") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "my data/train.tsv has more texts (20) than my data/dev.tsv (2): are they swapped?" in out
    )


def test_a_link_is_not_replaced(folder, capsys):
    (folder / "mine.jsonnet").symlink_to("elsewhere.jsonnet")
    assert new_config("--force") == 2
    assert "'mine.jsonnet' is no file: wanted one that can be replaced" in capsys.readouterr().err
    assert made(folder) == {"mine.jsonnet"} and (folder / "mine.jsonnet").is_symlink()


def test_pairs_count_both_texts(folder):
    first, second = "the film was good " * 5, "it was a day " * 5  # 20 tokens each
    rows = [("a", first.strip(), second.strip()), ("b", second.strip(), first.strip())]
    for name in ("train", "dev"):
        write(folder / "my data" / f"{name}.tsv", rows)
    assert new_config() == 0
    text = (folder / "mine.jsonnet").read_text()
    assert "max_length:: 64" in text  # the model's
    assert "the longest 43." in " ".join(text.replace("//", "").split())


def test_if_the_second_file_cannot_be_written_neither_is(folder, monkeypatch, capsys):
    (folder / "multi_exit.libsonnet").write_text("{ mine: 1 }")
    from sledgehammer_allennlp.configs import settings_copy

    write_text_whole = settings_copy.write_text_whole

    def full(path, text):
        if path.name == "mine.jsonnet":
            raise OSError("no space left on device")
        write_text_whole(path, text)

    monkeypatch.setattr(settings_copy, "write_text_whole", full)
    assert new_config("--force") == 2
    assert "no space left" in capsys.readouterr().err
    assert (folder / "multi_exit.libsonnet").read_text() == "{ mine: 1 }"
    assert made(folder) == {"multi_exit.libsonnet"}


def test_the_command_that_is_printed_is_safe_to_paste(folder, capsys):
    assert new_config(config="it's $HOME.jsonnet") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "allennlp train" in line)
    assert shlex.split(line)[2:5] == ["it's $HOME.jsonnet", "-s", "runs/it's $HOME"]


def test_it_needs_no_allennlp(folder):
    program = (
        "import sys; sys.modules['allennlp'] = None\n"
        "from sledgehammer_allennlp.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, "new-config", "mine.jsonnet", "--train"]
        + ["my data/train.tsv", "--dev", "my data/dev.tsv", "--model", "model"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "not installed here: pip install 'sledgehammer_allennlp[train]'" in found.stdout
    assert made(folder) == {"mine.jsonnet", "multi_exit.libsonnet"}


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert "usage: python -m sledgehammer_allennlp [-h] COMMAND" in out
    assert re.search(rf"new-config\s+{re.escape(command.HELP)}", out)


def test_an_interruption_ends_with_a_short_message(folder, monkeypatch, capsys):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "read_summary", interrupted)
    assert new_config() == 130
    assert capsys.readouterr().err == "new-config: interrupted\n"
    assert made(folder) == set()

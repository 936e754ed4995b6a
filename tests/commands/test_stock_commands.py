"""The commands users type, and stock readers and evaluators, with a trained archive."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from allennlp.commands import main as allennlp_main
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.commands.find_learning_rate import find_learning_rate_model
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.push_to_hf import push_to_hf
from allennlp.predictors import Predictor

from sledgehammer_allennlp.archives import load_archived_classifier
from tests.tiny import SENTENCES, tiny_experiment


def test_evaluate_at_a_threshold(trained, tmp_path, allennlp_command):
    metrics = {}
    for threshold in (0, 0.6, 1):
        output, predictions = tmp_path / "metrics.json", tmp_path / "predictions.jsonl"
        allennlp_command(
            "evaluate",
            trained["archive"],
            trained["config"]["validation_data_path"],
            "--output-file",
            output,
            "--predictions-output-file",
            predictions,
            "--overrides",
            json.dumps({"model.confidence_threshold": threshold}),
        )
        metrics[threshold] = json.loads(output.read_text())
        batches = [json.loads(line) for line in predictions.read_text().splitlines()]
        layers = [layer for batch in batches for layer in batch["exit_layer"]]
        assert len(layers) == 49
        assert metrics[threshold]["average_exit_layer"] == pytest.approx(sum(layers) / 49)
    assert metrics[0]["exit_rate_layer_-1"] == 1 and metrics[1]["exit_rate_layer_3"] == 1
    assert metrics[0]["layer_equivalents"] == 0
    assert 0 < metrics[0.6]["layer_equivalents"] < metrics[1]["layer_equivalents"]
    assert set(metrics[1]) >= {f"accuracy_layer_{layer}" for layer in (-1, 0, 2, 3)} | {"loss"}
    assert "accuracy_layer_3" not in metrics[0.6]


@pytest.mark.parametrize("batch_size", [1, 7])
def test_predict_answers_every_line_in_order(trained, tmp_path, allennlp_command, batch_size):
    texts = SENTENCES[:20] + ["", "unseen wörds"]
    given, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given.write_text("".join(json.dumps({"sentence": text, "id": 1}) + "\n" for text in texts))
    allennlp_command(
        "predict",
        trained["archive"],
        given,
        "--silent",
        "--output-file",
        output,
        "--batch-size",
        batch_size,
        "--overrides",
        '{"model.confidence_threshold": 0.6}',
    )
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    overrides = {"model.confidence_threshold": 0.6}
    predictor = Predictor.from_path(trained["archive"], overrides=overrides)
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers):
        wanted = predictor.predict(text)
        assert answer["label"] == wanted["label"] and answer["exit_layer"] == wanted["exit_layer"]
        assert answer["probs"] == pytest.approx(wanted["probs"], abs=1e-5)


def test_predict_with_the_dataset_reader(trained, tmp_path, allennlp_command):
    output = tmp_path / "out.jsonl"
    allennlp_command(
        "predict",
        trained["archive"],
        trained["config"]["validation_data_path"],
        "--silent",
        "--use-dataset-reader",
        "--output-file",
        output,
        "--batch-size",
        8,
    )
    assert len(output.read_text().splitlines()) == 49


def test_a_bad_line_in_predict_is_refused(trained, tmp_path, allennlp_command):
    given = tmp_path / "in.jsonl"
    given.write_text('{"sentence": "good"}\n{"text": "good"}\n')
    with pytest.raises(ValueError, match="has the keys 'text': wanted"):
        allennlp_command("predict", trained["archive"], given)


def test_evaluating_an_unseen_label_names_file_and_line(trained, tmp_path):
    data = tmp_path / "new.tsv"
    data.write_text("pos\tgood\nso-so\tbad\n")
    with pytest.raises(
        ValueError, match=r"new.tsv, line 2: label 'so-so' .*wanted one of neg, pos"
    ):
        evaluate_from_archive(trained["archive"], str(data))


def test_a_bad_threshold_on_the_command_line_is_refused(trained, tmp_path, allennlp_command):
    with pytest.raises(Exception, match="confidence_threshold is 2: wanted a number from 0 to 1"):
        allennlp_command(
            "evaluate",
            trained["archive"],
            "data.tsv",
            "--overrides",
            '{"model.confidence_threshold": 2}',
        )


def _train_with_reader(folder: Path, tsv, pretrained: Path, reader, lines) -> str:
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = tiny_experiment(str(pretrained), tsv)
    config["dataset_reader"] = reader
    config["train_data_path"] = config["validation_data_path"] = str(data)
    config["trainer"]["num_epochs"] = 1
    train_model(Params(config), str(folder / "run"))
    return str(folder / "run" / "model.tar.gz")


def _moved_copy(pretrained: Path, folder: Path) -> Path:
    copy = folder / "pretrained"
    copy.mkdir()
    for file in pretrained.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


@pytest.mark.parametrize("pretrained_name", ["tiny_bert", "tiny_roberta"])
def test_the_stock_text_classification_json_reader(pretrained_name, tsv, tmp_path, request):
    pretrained = _moved_copy(request.getfixturevalue(pretrained_name), tmp_path)
    transformer = {"type": "pretrained_transformer", "model_name": str(pretrained)}
    reader = {
        "type": "text_classification_json",
        "tokenizer": dict(transformer),
        "token_indexers": {"words": dict(transformer)},
    }
    lines = [{"text": text, "label": "pos" if "good" in text else "neg"} for text in SENTENCES]
    lines.append({"text": "good " * 300, "label": "pos"})  # longer than the model's positions
    archive = _train_with_reader(tmp_path, tsv, pretrained, reader, lines)
    pretrained.rename(tmp_path / "moved-away")
    predictor = Predictor.from_path(archive)
    assert predictor.predict("the film was good " * 100)["label"] in ("pos", "neg")
    with pytest.raises(ValueError, match="2 texts, but .*TextClassificationJsonReader, takes text"):
        predictor.predict_pair("good", "bad")


@pytest.mark.parametrize("pretrained_name", ["tiny_bert", "tiny_roberta"])
def test_the_stock_snli_reader(pretrained_name, tsv, tmp_path, request, allennlp_command):
    pytest.importorskip("allennlp_models.pair_classification")
    pretrained = _moved_copy(request.getfixturevalue(pretrained_name), tmp_path)
    transformer = {"type": "pretrained_transformer", "model_name": str(pretrained)}
    reader = {
        "type": "snli",
        "tokenizer": {**transformer, "add_special_tokens": False},
        "token_indexers": {"tokens": dict(transformer)},
    }
    labels = ["entailment", "neutral", "contradiction"]
    lines = [
        {"sentence1": text, "sentence2": "it was good", "gold_label": labels[i % 3]}
        for i, text in enumerate(SENTENCES)
    ]
    lines.append({"sentence1": "good " * 70, "sentence2": "a day", "gold_label": "neutral"})
    archive = _train_with_reader(tmp_path, tsv, pretrained, reader, lines)
    pretrained.rename(tmp_path / "moved-away")
    predictor = Predictor.from_path(archive)
    assert predictor.predict_pair("the film was good", "it was bad")["label"] in labels
    assert predictor.predict_pair("good " * 90, "bad " * 90)["label"] in labels
    with pytest.raises(ValueError, match="1 text, but .*SnliReader, takes premise, hypothesis"):
        predictor.predict("good")
    data = tmp_path / "data.jsonl"
    allennlp_command("tradeoff", archive, data, "--output-dir", tmp_path / "tradeoff")
    assert (tmp_path / "tradeoff" / "report.html").exists()


def test_training_on_pairs(tiny_bert, tsv, tmp_path):
    config = tiny_experiment(str(tiny_bert), tsv)
    config["train_data_path"] = config["validation_data_path"] = tsv["pairs"]
    config["trainer"]["num_epochs"] = 1
    train_model(Params(config), str(tmp_path))
    predictor = Predictor.from_path(tmp_path / "model.tar.gz")
    assert predictor.predict_pair("the film was good", "it was a day")["label"] in ("pos", "neg")


def test_the_plugin_file_registers_the_classes():
    root = Path(__file__).parents[2]
    code = (
        "from allennlp.common.plugins import import_plugins; import_plugins()\n"
        "from allennlp.models import Model\n"
        "from allennlp.training import TrainerCallback\n"
        "print(Model.by_name('multi_exit_classifier').__name__)\n"
        "print(TrainerCallback.by_name('temperature_calibration').__name__)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["MultiExitClassifier", "TemperatureCalibration"]


def test_encoders_exits_calibration_and_tradeoff_work_without_allennlp():
    code = (
        "import sys; sys.modules['allennlp'] = None\n"
        "import sledgehammer_allennlp.encoders, sledgehammer_allennlp.exits\n"
        "import sledgehammer_allennlp.calibration, sledgehammer_allennlp.tradeoff\n"
        "import sledgehammer_allennlp.tradeoff.report, sledgehammer_allennlp.tradeoff.plots\n"
        "print(sorted(m for m in sys.modules if m.startswith('allennlp.')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "loss", ["joint", "sampled", "weighted", "self_distillation", "alternating"]
)
def test_find_lr_takes_the_losses(loss, tiny_bert, tsv, tmp_path, allennlp_command):
    config = tiny_experiment(str(tiny_bert), tsv, loss=loss, embedding_exit="ngrams")
    _find_lr(config, tmp_path, allennlp_command)
    assert (tmp_path / "found" / "lr-losses.png").stat().st_size > 0


def test_find_lr_refuses_two_stage_and_says_what_to_do(tiny_bert, tsv, tmp_path, allennlp_command):
    config = tiny_experiment(str(tiny_bert), tsv, loss="two_stage")
    with pytest.raises(ConfigurationError, match="find-lr.* wanted another loss, --overrides"):
        _find_lr(config, tmp_path, allennlp_command)


def test_find_lr_learns_from_each_batch(tiny_bert, tsv, tmp_path):
    """At learning rates at which there is something to see."""
    config = tiny_experiment(str(tiny_bert), tsv, dropout=0)
    rates, losses = [], []

    def keep(found_rates, found_losses, path):
        rates.extend(found_rates)
        losses.extend(found_losses)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("allennlp.commands.find_learning_rate._save_plot", keep)
        find_learning_rate_model(
            Params(config), str(tmp_path / "run"), start_lr=1e-3, end_lr=1e-2, num_batches=40
        )
    assert len(rates) == 41 and rates[0] == 1e-3 and rates[-1] == pytest.approx(1e-2)
    assert losses[-1] < 0.8 * losses[0]


def _find_lr(config, folder: Path, allennlp_command) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    allennlp_command("find-lr", file, "-s", folder / "found", "--num-batches", 11)


def _run_without_plugins(monkeypatch, *arguments) -> None:
    """A subcommand that knows no `--include-package`."""
    monkeypatch.setattr(sys, "argv", ["allennlp", *map(str, arguments)])
    allennlp_main()


def test_print_results_shows_the_exits_metrics(trained, monkeypatch, capsys):
    keys = ["best_validation_accuracy_layer_2", "calibration_temperature_layer_-1"]
    _run_without_plugins(monkeypatch, "print-results", trained["run"].parent, "--keys", *keys)
    lines = [line.split(", ") for line in capsys.readouterr().out.splitlines() if ", " in line]
    header, row = next((a, b) for a, b in zip(lines, lines[1:]) if a[0] == "model_run")
    metrics = json.loads((trained["run"] / "metrics.json").read_text())
    assert header[1:] == keys
    assert row == [str(trained["run"] / "metrics.json"), *(str(metrics[key]) for key in keys)]


def test_diff_of_checkpoints_and_the_archive_shows_what_calibration_changed(
    trained, monkeypatch, capsys
):
    changed = []
    for checkpoint in sorted(trained["run"].glob("model_state_e*.th")):
        capsys.readouterr()
        _run_without_plugins(monkeypatch, "diff", checkpoint, trained["archive"])
        lines = re.findall(
            r"^(?:\x1b\[\d+m)?([ +!-])(\S+), shape", capsys.readouterr().out, flags=re.M
        )
        assert len(lines) == len(trained["model"].state_dict())
        assert {sign for sign, _ in lines} == {" ", "!"}
        changed.append([name for sign, name in lines if sign == "!"])
    # One of them was the best and got temperatures; the other has other weights altogether.
    assert sorted(map(len, changed))[0] == 1 and ["temperatures"] in changed
    assert len(max(changed, key=len)) > 20


def test_what_is_pushed_to_the_hub_is_all_it_takes(trained, tmp_path, monkeypatch):
    """Without the hub: AllenNLP's part is to prepare the folder that is pushed."""
    pushed = []

    class Hub:
        def __init__(self, folder=None, **kwargs):
            if folder is not None:
                folder.mkdir(parents=True)

        def create_repo(self, **kwargs):
            return "https://hub/" + kwargs["name"]

        def git_pull(self, rebase):
            pass

        def lfs_track(self, patterns):
            assert patterns == ["*.th"]

        def push_to_hub(self, commit_message):
            pushed.append(commit_message)

    push = sys.modules["allennlp.common.push_to_hf"]  # the name is also that of a function
    monkeypatch.setattr(push, "HfApi", Hub)
    monkeypatch.setattr(push, "Repository", Hub)
    texts = SENTENCES[:8]
    wanted = load_archived_classifier(trained["archive"]).predict(texts)
    for name, source in (
        ("of-run", {"serialization_dir": trained["run"]}),
        ("of-archive", {"archive_path": trained["archive"]}),
    ):
        push_to_hf(name, **source, local_repo_path=tmp_path, use_auth_token="none")
        folder = tmp_path / name
        kept = {path.name for path in (folder / "vocabulary" / ".transformers").glob("*/*")}
        assert {"config.json", "tokenizer.json", "vocab.txt"} <= kept
        assert load_archived_classifier(folder).predict(texts) == wanted
        answers = Predictor.from_path(folder).predict_batch_json([{"sentence": t} for t in texts])
        assert [answer["label"] for answer in answers] == [answer["label"] for answer in wanted]
        assert [answer["probs"] for answer in answers] == [
            pytest.approx(answer["probs"], abs=1e-5) for answer in wanted
        ]
    assert len(pushed) == 2


def test_test_install_finds_allennlp_whole(allennlp_command):
    allennlp_command("test-install")

import json
import logging
import subprocess
import sys

import pytest
from allennlp.common import logging as common_logging
from allennlp.common import tqdm
from allennlp.training import util as training_util

from tests.command_server import client_of
from tests.tiny import tiny_experiment

METRICS = {"accuracy": 0.5, "accuracy_layer_0": 0.25, "mean_exit_accuracy": 0.4, "loss": 2.0}


@pytest.fixture
def chosen(monkeypatch):
    """Chooses the verbosity, or with `None` does not."""
    monkeypatch.delenv("ALLENNLP_DEBUG", raising=False)

    def choose(level):
        if level is None:
            monkeypatch.delenv("ALLENNLP_LOG_LEVEL", raising=False)
        else:
            monkeypatch.setenv("ALLENNLP_LOG_LEVEL", level)

    return choose


@pytest.fixture
def printed(monkeypatch, tmp_path, capsys):
    """What is printed, and what is in the log, of a training whose model is of a type."""
    root = logging.getLogger()
    for logger in (root, tqdm.logger):  # whose handlers would write to a folder that is gone
        monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def log(model_type):
        config = {"model": {"type": model_type}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        common_logging.prepare_global_logging(str(tmp_path))
        params = logging.getLogger("allennlp.common.params_of_a_test")
        params.info("a setting")
        params.warning("something is amiss")
        logging.getLogger("allennlp.data").warning("vocabulary serialization directory x is ...")
        trainer = logging.getLogger("allennlp.training.gradient_descent_trainer")
        trainer.info("Epoch %d/%d", 0, 1)
        trainer.info("Epoch duration: 0:00:01")
        logging.getLogger("sledgehammer_allennlp.training.of_a_test").info("it is fitted")
        for handler in root.handlers:
            handler.close()
        return capsys.readouterr().out.splitlines(), (tmp_path / "out.log").read_text()

    return log


def test_what_matters_is_printed_and_all_is_in_the_log(chosen, printed):
    chosen(None)
    lines, log = printed("multi_exit_classifier")
    assert lines == ["WARNING: something is amiss", "Epoch 0/1", "it is fitted"]
    assert len(log.splitlines()) == 6 and "a setting" in log and "serialization directory" in log


@pytest.mark.parametrize(
    "level, model_type", [("INFO", "multi_exit_classifier"), (None, "basic_classifier")]
)
def test_all_is_printed_where_that_is_asked_for_and_of_other_models(
    chosen, printed, level, model_type
):
    chosen(level)
    lines, log = printed(model_type)
    assert lines == log.splitlines() and len(lines) == 6
    assert lines[0].endswith(" - INFO - allennlp.common.params_of_a_test - a setting")


def test_the_bar_of_our_model_has_the_loss_and_the_last_exits_accuracy(chosen):
    chosen(None)
    assert training_util.description_from_metrics(METRICS) == "accuracy: 0.5000, loss: 2.0000 ||"
    others = {"accuracy": 0.5, "accuracy_layer_0": 0.25}
    assert "accuracy_layer_0: 0.2500" in training_util.description_from_metrics(others)
    chosen("INFO")
    assert "mean_exit_accuracy: 0.4000" in training_util.description_from_metrics(METRICS)


def test_a_training_prints_few_short_lines_and_says_what_is_next(
    tiny_bert, tsv, tmp_path, chosen, command_server
):
    chosen(None)
    config = tiny_experiment(str(tiny_bert), tsv, embedding_exit="ngrams")
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = [*client_of("allennlp"), "train", str(tmp_path / "config.json")]
    command += ["-s", str(tmp_path / "run"), "--include-package", "sledgehammer_allennlp"]
    environment = command_server.environment()
    found = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    last = config["trainer"]["num_epochs"] - 1
    assert len(lines) < 25
    assert [line for line in lines if line.startswith("Epoch")] == [
        f"Epoch {i}/{last}" for i in range(last + 1)
    ]
    archive = tmp_path / "run" / "model.tar.gz"
    assert lines[-3] == f"Written: {archive}"
    assert lines[-1] == f"  allennlp tradeoff {archive} DATA --output-dir DIR"
    bars = found.stderr.replace("\r", "\n").splitlines()
    lengths = [len(bar) for bar in bars if "loss: " in bar]
    assert len(lengths) > 2 and max(lengths) < 90

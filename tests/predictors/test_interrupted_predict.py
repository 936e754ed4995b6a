"""After Ctrl-C all that `allennlp predict` has answered is written, in whole lines."""

import json
import os
import signal

import pytest
from allennlp.commands.predict import _PredictManager
from allennlp.predictors import Predictor

NUM_LINES = 40


@pytest.fixture
def manager(trained, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"sentence": "the film was good"}\n' * NUM_LINES)
    predictor = Predictor.from_path(trained["archive"])
    return _PredictManager(predictor, str(path), str(tmp_path / "out.jsonl"), 8, False, False)


def interrupt_at(monkeypatch, manager, name, call):
    """Has SIGINT come when a method of the manager or its predictor is called so often."""
    owner = manager if hasattr(manager, name) else manager._predictor
    method, calls = getattr(owner, name), []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize(
    "name, call, wanted",
    [
        ("_maybe_print_to_console_and_file", 19, 24),  # While a batch's answers are written.
        ("predict_batch_json", 3, 16),  # While a batch is answered.
        ("load_line", 30, 24),  # While lines are read.
        ("_maybe_print_to_console_and_file", NUM_LINES, NUM_LINES),
    ],
)
def test_what_was_answered_is_written(manager, tmp_path, monkeypatch, capsys, name, call, wanted):
    before = signal.getsignal(signal.SIGINT)
    interrupt_at(monkeypatch, manager, name, call)
    with pytest.raises(SystemExit) as exit_:
        manager.run()
    assert exit_.value.code == 130
    assert "predict: interrupted" in capsys.readouterr().err
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert len(lines) == wanted
    assert all("label" in json.loads(line) for line in lines)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interruption_all_is_written(manager, tmp_path):
    manager.run()
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == NUM_LINES

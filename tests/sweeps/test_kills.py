"""
Sweeps that are killed at any moment and go on end with what an undisturbed one finds.

`KILLS=30 pytest tests/sweeps/test_kills.py` kills so often, in place of some times.
"""

import argparse
import json
import multiprocessing
import os
import random
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterable, Optional

import optuna
import pytest

from sledgehammer_allennlp.commands import sweep
from sledgehammer_allennlp.sweeps import plots, training_run
from tests.sweeps.worker import fake_command

NUM_KILLS = int(os.environ.get("KILLS", 4))
STATUS = {"SIGKILL": -signal.SIGKILL, "SIGTERM": 143, "SIGINT": 130}
INTERRUPTIONS = {signal.SIGINT, signal.SIGTERM}
WAYS = [(name, with_training) for with_training in (False, True) for name in STATUS]
CONFIG = """{
  lr: std.parseJson(std.extVar('LEARNING_RATE')),
  seed: std.parseInt(std.extVar('SEED')),
}
"""
SPACE = {
    "parameters": {"LEARNING_RATE": {"type": "categorical", "choices": [0.5, 0.7, 0.3]}},
    "seeds": {"name": "SEED", "values": [1, 2]},
}
NUM_TRIALS = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "mine.jsonnet").write_text(CONFIG)
    (folder / "space.json").write_text(json.dumps(SPACE))
    return [folder / "mine.jsonnet", folder / "space.json", "--trials", NUM_TRIALS]


class Alive:
    """Knows whether a fake training lives: it has a pipe open."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        # Only after there was one, its end says that there is none.
        os.close(os.open(path, os.O_WRONLY))
        self._end = select.poll()
        self._end.register(self._pipe, select.POLLHUP)

    def nobody_is(self) -> bool:
        return bool(self._end.poll(60_000))


@pytest.fixture
def alive(tmp_path):
    return Alive(tmp_path / "alive")


def run(arguments, behaviour: str, alive: Alive, output: Path) -> None:
    """A sweep, in a process of its own."""
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.update(BEHAVIOUR=behaviour, ALIVE=str(alive.path))
    training_run.train_command = fake_command
    training_run._POLL_SECONDS = 0.02
    plots.write_plots = lambda *_: []
    parser = argparse.ArgumentParser()
    sweep.Sweep().add_subparser(parser.add_subparsers())
    args = parser.parse_args(["sweep", *map(str, arguments)])
    _let_signals_come_while_it_handles_them()
    status: Any = 0
    try:
        sweep.sweep_from_args(args)
    except SystemExit as exit_:
        status = exit_.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    os._exit(status)


def _let_signals_come_while_it_handles_them() -> None:
    """Not before, nor when all is done: so every signal has its exit status, or none."""
    check, finish = sweep._check, sweep._finish

    def begin_and_check(*given: Any) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)
        check(*given)

    def finish_and_end(*given: Any) -> Any:
        found = finish(*given)
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
        return found

    sweep._check, sweep._finish = begin_and_check, finish_and_end


def begin(files, folder: Path, alive: Alive, behaviour: str = ""):
    arguments = [*files, "--serialization-dir", folder]
    output = folder.with_name("printed.txt")
    process = multiprocessing.get_context("fork").Process(
        target=run, args=(arguments, behaviour, alive, output)
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    process.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)
    return process


def kill_trainings(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError, ValueError):  # It has ended, or not begun.
            os.killpg(int((folder / "pid").read_text()), signal.SIGKILL)


def read_summary(folder: Path) -> Optional[Dict[str, Any]]:
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.exists() else None


def without_numbers(summary: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """A trial that was killed has a number, and another in its place the next one."""
    assert summary is not None
    trials = [trial for one in summary["configurations"] for trial in one["trials"]]
    for trial in [*trials, summary["best"]]:
        number = trial.pop("number")
        assert trial.pop("folder").endswith(f"/trial_{number}")
    assert summary["best"].pop("archive").endswith("/model.tar.gz")
    for one in summary["configurations"]:
        one["trials"].sort(key=lambda trial: trial["seed"])
    return summary


def assert_whole(folder: Path, wanted_csv: bytes) -> None:
    """What is written at the end, and in a trial, is whole or not there."""
    if read_summary(folder) is not None or (folder / "summary.csv").exists():
        assert (folder / "summary.csv").read_bytes() == wanted_csv


def assert_complete(folder: Path) -> None:
    """Of each trial that counts there is all, and no other is taken for complete."""
    summary = read_summary(folder)
    trials = [trial for one in summary["configurations"] for trial in one["trials"]]
    assert len(trials) == NUM_TRIALS
    for trial in trials:
        names = {path.name for path in Path(trial["folder"]).iterdir()}
        assert {"config.json", "metrics.json", "model.tar.gz", "train.log"} <= names
    assert not list(folder.glob(".*.new"))
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{folder / 'study.db'}")
    states = [trial.state.name for trial in study.get_trials()]
    assert states.count("COMPLETE") == NUM_TRIALS
    assert set(states) <= {"COMPLETE", "FAIL"}


def test_killed_sweeps_end_with_what_an_undisturbed_one_finds(files, alive, tmp_path):
    start = time.perf_counter()
    process = begin(files, tmp_path / "undisturbed", alive)
    process.join()
    seconds = time.perf_counter() - start
    printed = tmp_path / "printed.txt"
    assert process.exitcode == 0, printed.read_text()
    wanted = without_numbers(read_summary(tmp_path / "undisturbed"))
    wanted_csv = (tmp_path / "undisturbed" / "summary.csv").read_bytes()
    assert_complete(tmp_path / "undisturbed")
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    num_killed = dict.fromkeys(WAYS, 0)
    num_sweeps = 0
    while sum(num_killed.values()) < NUM_KILLS:
        num_sweeps += 1
        folder = tmp_path / str(num_sweeps)
        for _ in range(3):
            way = WAYS[sum(num_killed.values()) % len(WAYS)]
            name, with_training = way
            before = set(folder.glob("trial_*"))
            process = begin(files, folder, alive, chance.choice(["", "go on at 0.5"]))
            process.join(chance.uniform(0, seconds))
            if process.exitcode is None:
                os.kill(process.pid, getattr(signal, name))
                if with_training:
                    kill_trainings(set(folder.glob("trial_*")) - before)
            process.join()
            if process.exitcode == 0:
                break  # It was done before.
            assert process.exitcode == STATUS[name], (way, seed, printed.read_text())
            assert alive.nobody_is(), (way, seed)
            assert_whole(folder, wanted_csv)
            num_killed[way] += 1
        process = begin(files, folder, alive)
        process.join()
        assert process.exitcode == 0, (seed, printed.read_text())
        assert without_numbers(read_summary(folder)) == wanted, seed
        assert (folder / "summary.csv").read_bytes() == wanted_csv
        assert_complete(folder)
    print(f"{num_killed}, {num_sweeps} sweeps, {seconds:.1f} s each undisturbed")

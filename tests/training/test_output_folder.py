"""Two trainings never write into one folder, and a folder that cannot be written to is named."""

import errno
import fcntl
import os
import pickle
import signal
from multiprocessing.connection import wait
from pathlib import Path
from typing import Dict, Tuple

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import load_archive

from sledgehammer_allennlp.training import output_folder
from sledgehammer_allennlp.training.output_folder import lock_file_of, training_alone_in
from sledgehammer_allennlp.training.whole_archive import write_config_whole
from tests.tiny import tiny_experiment
from tests.training.processes import Pause, begin_training, printed, train_in_process


@pytest.fixture
def config(tiny_bert, tsv):
    config = tiny_experiment(str(tiny_bert), tsv)
    config["trainer"].update(num_epochs=1, checkpointer="crash_safe")
    return config


def state_of(folder: Path) -> Dict[str, Tuple[int, int]]:
    """What changes if anything is written."""
    found = {str(path): path.stat() for path in [folder, *folder.rglob("*")]}
    return {name: (one.st_ino, one.st_mtime_ns) for name, one in found.items()}


def assert_ended_alone(folder: Path) -> None:
    load_archive(folder / "model.tar.gz")
    assert not lock_file_of(folder).exists()
    assert not list(folder.glob(".*"))


def test_a_folder_into_which_a_training_writes_is_refused_to_another(config, tmp_path):
    folder, same = tmp_path / "run", tmp_path / "same"
    pause = Pause()
    first, _ = begin_training(config, folder, fault=pause)
    assert pause.is_training.wait(120), printed(folder)
    same.symlink_to(folder)
    before = state_of(folder)
    for arguments in ([], ["--recover"], ["--force"]):
        assert train_in_process(config, same, *arguments, must_end_well=False) == 1
        assert (
            f"ConfigurationError: another training runs in '{same}', process {first.pid} of "
            in printed(same)
        )
        assert state_of(folder) == before
    pause.may_go_on.set()
    first.join(120)
    assert first.exitcode == 0, printed(folder)
    assert_ended_alone(folder)


def test_of_two_that_are_started_together_one_trains(config, tmp_path):
    folder = tmp_path / "runs" / "one"
    folder.parent.mkdir()
    pause = Pause()
    both = [begin_training(config, folder, fault=pause)[0] for _ in range(2)]
    (sentinel,) = wait([process.sentinel for process in both], 120)
    refused, trains = sorted(both, key=lambda process: process.sentinel != sentinel)
    refused.join()
    pause.may_go_on.set()
    trains.join(120)
    assert (refused.exitcode, trains.exitcode) == (1, 0), printed(folder)
    assert "another training runs in" in printed(folder)
    assert_ended_alone(folder)


def test_what_a_killed_training_forked_keeps_no_lock(tmp_path):
    end_of_child, may_end = os.pipe()
    owner = os.fork()
    if owner == 0:
        with training_alone_in(tmp_path / "run"):
            if os.fork() == 0:
                os.close(may_end)
                os.read(end_of_child, 1)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(end_of_child)
    assert os.waitpid(owner, 0)[1] == signal.SIGKILL
    assert lock_file_of(tmp_path / "run").read_text().startswith(f"process {owner} of ")
    with training_alone_in(tmp_path / "run"):
        found = lock_file_of(tmp_path / "run").read_text()
    os.close(may_end)
    assert found.startswith(f"process {os.getpid()} of ")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_owner_removes_meanwhile_is_made_anew(tmp_path, monkeypatch):
    path, seen = lock_file_of(tmp_path / "run"), []

    def lock_after_the_owner_has_ended(*_):
        if not seen:
            path.unlink()
        seen.append(1)

    monkeypatch.setattr(fcntl, "lockf", lock_after_the_owner_has_ended)
    with training_alone_in(tmp_path / "run"):
        assert path.exists() and len(seen) == 2


def test_a_file_system_without_locks_stops_no_training(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with training_alone_in(tmp_path / "run"):
        assert "would not notice another training" in caplog.text
        assert "No locks available" in caplog.text
    monkeypatch.setattr(output_folder, "fcntl", None)
    with training_alone_in(tmp_path / "run"):
        pass


def test_the_config_is_written_whole_and_can_still_be_sent_to_workers(tmp_path, monkeypatch):
    params, seen = Params({"model": {"type": "a"}}), []
    monkeypatch.setattr(os, "replace", lambda _, target: seen.append(Path(target).name))
    write_config_whole(params)
    params.to_file(str(tmp_path / "config.json"))
    assert seen == ["config.json"] and list(tmp_path.iterdir()) == []
    assert pickle.loads(pickle.dumps(params.duplicate())).as_dict() == params.as_dict()


def test_the_other_machines_of_a_training_take_no_lock(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(output_folder, "_train_model", lambda *given, **_: trained.append(given))
    with training_alone_in(tmp_path / "run"):
        monkeypatch.setattr(output_folder, "_locked", lambda *_: 1 / 0)
        train_model("params", str(tmp_path / "run"), node_rank=1)
    assert trained == [("params", str(tmp_path / "run"), False, False, 1)]


def test_without_a_folder_there_is_nothing_to_recover_and_none_is_made(config, tmp_path):
    with pytest.raises(ConfigurationError, match="does not exist"):
        train_model(Params(config), str(tmp_path / "runs" / "one"), recover=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_refused_with_what_can_be_done(config, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    message = "something in '.*run': wanted another --serialization-dir, or --force to replace it"
    with pytest.raises(ConfigurationError, match=message):
        train_model(Params(config), str(folder))
    (folder / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="dir, --recover to go on with its training, or"):
        train_model(Params(config), str(folder))
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "config.json"}

"""What a killed process has left is removed by the next, and nothing of a living one."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sledgehammer_allennlp import files
from sledgehammer_allennlp.files import (
    new_temporary_folder,
    no_room,
    remove_unfinished,
    temporary_folder,
    write_text_whole,
    write_whole,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="nothing is removed there")

KILLED = """
import os, runpy, signal, sys
from pathlib import Path
files = runpy.run_path(sys.argv[1])

def write(beside):
    beside.write_text("half")
    (files["new_temporary_folder"]() / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

files["write_whole"](Path(sys.argv[2]), write)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def test_the_next_run_removes_what_a_killed_one_left(tmp_path, temporary):
    path = tmp_path / "model.tar.gz"
    write_text_whole(path, "whole")
    done = subprocess.run([sys.executable, "-c", KILLED, files.__file__, str(path)])
    assert done.returncode == -9
    assert len(list(tmp_path.glob(".model.tar.gz.*.new"))) == len(list(temporary.iterdir())) == 1
    with temporary_folder() as folder:
        assert list(temporary.iterdir()) == [folder]
    write_text_whole(path, "new")
    assert [entry.name for entry in tmp_path.iterdir() if entry != temporary] == ["model.tar.gz"]
    assert path.read_text() == "new" and not list(temporary.iterdir())


def _dead() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_others_may_still_write_stays(tmp_path, temporary):
    place, dead = files._PLACE, _dead()
    kept = [
        f".a.{place}.{os.getppid()}.new",  # of a living process
        f".a.{place}.1.new",
        f".a.12345678.{dead}.new",  # of another machine
        f".b.{place}.{dead}.new",  # of another file
        f".a.{place}.{dead}.new.txt",
        f"a.{place}.{dead}.new",
    ]
    for name in [*kept, f".a.{place}.{dead}.new"]:
        (tmp_path / name).write_text("")
    kept_folders = [f"sledgehammer-{place}.1.x", f"sledgehammer-12345678.{dead}.x", f"tmp{dead}"]
    for name in [*kept_folders, f"sledgehammer-{place}.{dead}.x"]:
        (temporary / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    (temporary / f"sledgehammer-{place}.{dead}.link").symlink_to(tmp_path / "elsewhere")
    write_text_whole(tmp_path / "a", "whole")
    new = new_temporary_folder()
    found = {entry.name for entry in tmp_path.iterdir()} - {"temporary", "elsewhere", "a"}
    assert found == set(kept) and (tmp_path / "elsewhere").is_dir()
    assert {entry.name for entry in temporary.iterdir()} == {*kept_folders, new.name}
    remove_unfinished(tmp_path)  # by recovery, of the folder's own run on whatever machine
    living = {f".a.{place}.{os.getppid()}.new", f".a.{place}.1.new"}
    assert {entry.name for entry in tmp_path.glob(".*.new")} == living


def test_a_full_disk_is_said_of_the_file_that_is_wanted(tmp_path):
    def full(beside):
        beside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match=r"cannot be written: No space left on device: '.*/a'"):
        write_whole(tmp_path / "a", full)
    assert (tmp_path / "a").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_disk_is_known_also_from_torchs_error(tmp_path):
    message = "cannot be written: (torch could write a part only|No space left)"  # by version
    with pytest.raises(OSError, match=message) as full:
        write_whole(tmp_path / "a", lambda _: torch.save({"a": torch.ones(9)}, "/dev/full"))
    assert full.value.filename == str(tmp_path / "a") and no_room(full.value) is not None
    assert list(tmp_path.iterdir()) == []
    assert no_room(OSError(errno.ENOSPC, "No space left")) == "No space left"
    assert no_room(OSError(errno.EACCES, "Denied")) is no_room(RuntimeError("other")) is None

"""What a command cannot write it says in our words, if it can before the work, and leaves none."""

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import torch
from allennlp.commands import main as allennlp
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.__main__ import main as without_allennlp
from tests.full_disk import files_of_at_most
from tests.tiny import tiny_experiment

SWEEP_CONFIG = "{ a: std.extVar('A'), trainer: { num_epochs: 1 } }"
SWEEP_SPACE = {"parameters": {"A": {"type": "categorical", "choices": [1, 2]}}}


@pytest.fixture
def commands(tsv, tiny_bert, tmp_path):
    """The commands by name, with what they write to, of an archive."""
    (tmp_path / "in.jsonl").write_text('{"sentence": "the film was good"}\n')
    (tmp_path / "train.json").write_text(json.dumps(_experiment(tiny_bert, tsv)))
    (tmp_path / "mine.jsonnet").write_text(SWEEP_CONFIG)
    (tmp_path / "space.json").write_text(json.dumps(SWEEP_SPACE))

    def of(archive: Any, out: Path) -> Dict[str, List[Any]]:
        data = ["--train", tsv["train"], "--dev", tsv["dev"], "--model", tiny_bert]
        sweep = [tmp_path / "mine.jsonnet", tmp_path / "space.json", "--trials", 1]
        train = ["train", tmp_path / "train.json", "--serialization-dir", out]
        predict = [archive, tmp_path / "in.jsonl"]
        return {
            "tradeoff": ["tradeoff", archive, tsv["dev"], "--output-dir", out],
            "calibrate": ["calibrate", archive, tsv["dev"], "--output-archive", out / "a.tar.gz"],
            "oracle": ["oracle", archive, tsv["dev"], "--output-file", out / "a.tsv"],
            "sweep": ["sweep", *sweep, "--serialization-dir", out],
            "train": train,
            "train --force": [*train, "--force"],
            "predict": ["predict", *predict, "--output-file", out / "a.jsonl", "--silent"],
            "predict-files": ["predict-files", *predict, "--output-dir", out],
            "new-config": ["new-config", out / "a.jsonnet", *data],
        }

    return of


def _experiment(tiny_bert: Path, tsv: Dict[str, str]) -> Dict[str, Any]:
    config = tiny_experiment(str(tiny_bert), tsv)
    config["trainer"].update(num_epochs=1, checkpointer="crash_safe")
    return config


COMMANDS = {
    "tradeoff": "--output-dir",
    "calibrate": "--output-archive",
    "oracle": "--output-file",
    "sweep": "--serialization-dir",
    "train": "--serialization-dir",
    "train --force": "--serialization-dir",
    "predict": "--output-file",
    "predict-files": "--output-dir",
    "new-config": "wanted",
}
"""Each with the argument that its error names; of `new-config` it has no name."""


STOCK = ("train", "predict", "evaluate")
"""AllenNLP's own, which show errors with the calls that led to them."""


def run_here(arguments: List[Any], capsys) -> str:
    """The error which ends a command."""
    words = [str(one) for one in arguments]
    if words[0] in ("predict-files", "new-config"):
        assert without_allennlp(words) == 2
        return capsys.readouterr().err
    sys.argv = ["allennlp", *words, "--include-package", "sledgehammer_allennlp"]
    if words[0] in STOCK:
        with pytest.raises(ConfigurationError) as refused:
            allennlp()
        return str(refused.value)
    with pytest.raises(SystemExit) as exit_:
        allennlp()
    assert exit_.value.code == 2
    # Libraries may print before.
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(params=["a file", "in a file", "read-only"])
def unwritable(request, tmp_path) -> Path:
    """A folder that is none, or in which nobody can write, be it root."""
    if request.param == "read-only":
        if not Path("/sys/kernel").is_dir():
            pytest.skip("this system has no folder in which root cannot write")
        return Path("/sys")
    (tmp_path / "file").write_text("mine")
    return tmp_path / "file" / "out" if request.param == "in a file" else tmp_path / "file"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_output_that_cannot_be_is_refused_before_the_work(
    commands, unwritable, name, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "argv", sys.argv)
    if name == "predict-files":
        pytest.importorskip("pyarrow")
        pytest.importorskip("fsspec")
    # Were the archive looked at before, that would be the error.
    arguments = commands(tmp_path / "none.tar.gz", unwritable)[name]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    error = run_here(arguments, capsys)
    assert "Traceback" not in error
    assert str(unwritable) in error and COMMANDS[name] in error and "wanted" in error
    assert len(error.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def run_on_full_disk(arguments: List[Any], num_bytes: int, without: bool) -> Tuple[int, str]:
    """
    Runs a command in a process that can write no longer files: its exit status, and what it prints;
    of what it raises `Class: message`.
    """
    reading, writing = os.pipe()
    process_id = os.fork()
    if process_id == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(writing)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        # Both write to files that the tests have open.
        logging.disable()
        sys.modules["allennlp_models"] = None  # type: ignore[assignment]
        status = 1
        try:
            with files_of_at_most(num_bytes):
                if without:
                    status = without_allennlp([str(one) for one in arguments])
                else:
                    sys.argv = ["allennlp", *map(str, arguments)]
                    allennlp()
        except SystemExit as exit_:
            assert isinstance(exit_.code, int)
            status = exit_.code
        except BaseException as error:
            print(f"{type(error).__name__}: {error}")
        os._exit(status)
    os.close(writing)
    with open(reading, encoding="utf-8") as printed:
        text = printed.read()
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]), text


FULL = [
    # With the bytes that a file may have, and what stands there afterwards.
    ("tradeoff", 20_000, {"tradeoff.csv"}),
    ("calibrate", 20_000, set()),
    ("oracle", 1_000, set()),
    ("sweep", 50_000, {".locks", "study.db"}),
    ("train", 100, set()),
    ("train", 50_000, None),
    ("predict", 100, {"a.jsonl"}),
    ("predict-files", 1_000, {".lock", "manifest.json", "plan.json", "parts"}),
    ("new-config", 1_000, set()),
]


@pytest.mark.parametrize("name, num_bytes, left", FULL)
def test_on_a_full_disk_the_file_is_named_and_no_half_of_one_left(
    commands, trained, tmp_path, name, num_bytes, left
):
    if name == "predict-files":
        pytest.importorskip("pyarrow")
        pytest.importorskip("fsspec")
    out = tmp_path / "out"
    out.mkdir()
    without = name in ("predict-files", "new-config")
    status, printed = run_on_full_disk(commands(trained["run"], out)[name], num_bytes, without)
    # Old versions of torch end the process themselves when they clear up.
    aborted = [-signal.SIGABRT] if name == "train" and torch.__version__ < "2" else []
    assert status in [1 if name in STOCK else 2, *aborted], printed
    start = "ConfigurationError: " if name in STOCK else f"{name}: error: "
    lines = printed.strip().splitlines()
    error = next(line for line in reversed(lines) if line.startswith(start))
    assert error == lines[-1] or status in aborted, printed
    # `calibrate` packs the run first, in the temporary folder.
    place = f"{tempfile.gettempdir()}/sledgehammer-" if name == "calibrate" else str(out)
    assert place in error and "Traceback" not in printed
    if left is not None:
        assert {path.name for path in out.iterdir()} == left
    assert not list(out.rglob(".*.new"))


def test_on_a_full_disk_a_recovery_leaves_the_config_as_it_was(trained, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(trained["run"], out)
    (tmp_path / "train.json").write_text(json.dumps(trained["config"]))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    command = ["train", tmp_path / "train.json", "--serialization-dir", out, "--recover"]
    status, printed = run_on_full_disk(command, 100, False)
    assert status == 1 and "config.json" in printed and "wanted room for it" in printed
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["check-archive", "serve", "tradeoff"])
def test_without_room_to_unpack_an_archive_the_temporary_folder_is_named(
    trained, tsv, tmp_path, name, monkeypatch
):
    if name == "serve":
        pytest.importorskip("fastapi")
        pytest.importorskip("uvicorn")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    more = {
        "check-archive": [],
        "serve": ["--port", "0"],
        "tradeoff": [tsv["dev"], "--output-dir", tmp_path / "out"],
    }[name]
    command = [name, trained["archive"], *more]
    status, printed = run_on_full_disk(command, 1_000, without=name != "tradeoff")
    assert status != 0 and "Traceback" not in printed
    assert f"cannot be written into '{temporary}', where it is unpacked" in printed
    assert list(temporary.iterdir()) == []

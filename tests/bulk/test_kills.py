"""
Jobs that are killed at any moment and go on give, byte by byte, what an undisturbed one gives.

`KILLS=50 pytest tests/bulk/test_kills.py` kills so often, in place of some times.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from sledgehammer_allennlp.__main__ import main
from sledgehammer_allennlp.bulk import job as bulk_job
from sledgehammer_allennlp.bulk.manifest import DoneParts
from sledgehammer_allennlp.bulk.output_folder import LocalFolder
from tests.full_disk import files_of_at_most
from tests.tiny import SENTENCES

NUM_KILLS = int(os.environ.get("KILLS", 4))
WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "disk full")
STATUS = {
    "SIGKILL": {-signal.SIGKILL},
    "SIGTERM": {-signal.SIGTERM, 143},  # The former where it has hardly begun.
    "SIGINT": {130},
    "disk full": {2},
}


@pytest.fixture(scope="module")
def job(trained, tmp_path_factory):
    """The arguments of a job but for its folder."""
    folder = tmp_path_factory.mktemp("inputs")
    texts = [text + " and" * (number % 9) for number, text in enumerate((SENTENCES * 13)[:600])]
    lines = [json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)]
    (folder / "a.jsonl").write_text("".join(lines[:400]) + "no\n")
    (folder / "b.csv").write_text("text,id\n" + "".join(f'"{text}",7\n' for text in texts))
    arguments = ["predict-files", trained["archive"], str(folder / "*.*"), "--bad-rows", "skip"]
    return [*arguments, "--threshold", "0.7", "--rows-per-part", "50", "--batch-size", "32"]


def run(arguments, max_file_size=None) -> None:
    """A job, in a process of its own."""
    # A file of errors would be too large, too.
    errors = os.devnull if max_file_size is not None else f"{arguments[-1]}.txt"
    sys.stdout, sys.stderr = open(os.devnull, "w"), open(errors, "w")  # noqa: SIM115
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stderr.fileno(), 2)
    limited = nullcontext() if max_file_size is None else files_of_at_most(max_file_size)
    try:
        with limited:
            status = main(arguments)
    except KeyboardInterrupt:
        status = 130
    except SystemExit as exit_:
        status = exit_.code
    except BaseException:
        status = 1
        Path(f"{arguments[-1]}.txt").write_text(traceback.format_exc())
    sys.stderr.flush()
    os._exit(status)


def begin(arguments, max_file_size=None):
    process = multiprocessing.get_context("fork").Process(
        target=run, args=(arguments, max_file_size)
    )
    process.start()
    return process


def error_of(folder: Path) -> str:
    file = Path(f"{folder}.txt")
    return file.read_text() if file.exists() else ""


def content(folder: Path):
    return {path.name: path.read_bytes() for path in (folder / "parts").iterdir()}


def test_killed_jobs_give_what_an_undisturbed_one_gives(job, tmp_path):
    start = time.perf_counter()
    process = begin([*job, "--output-dir", str(tmp_path / "undisturbed")])
    process.join()
    seconds = time.perf_counter() - start
    assert process.exitcode == 0
    wanted = content(tmp_path / "undisturbed")
    largest = max(map(len, wanted.values()))
    assert len(wanted) == 9 + 12
    chance = random.Random()
    num_killed = dict.fromkeys(WAYS, 0)
    num_jobs = 0
    while sum(num_killed.values()) < NUM_KILLS:
        num_jobs += 1
        folder = tmp_path / str(num_jobs)
        arguments = [*job, "--output-dir", str(folder)]
        left = set()
        for _ in range(4):
            way = WAYS[sum(num_killed.values()) % len(WAYS)]
            if way == "disk full":
                process = begin(arguments, chance.randrange(largest))
                process.join()
            else:
                process = begin(arguments)
                process.join(chance.uniform(0, 0.8 * seconds))
                if process.exitcode is None:
                    os.kill(process.pid, getattr(signal, way))
                process.join()
            if process.exitcode == 0:
                break  # It was done before.
            assert process.exitcode in STATUS[way], (way, error_of(folder))
            num_killed[way] += 1
            found = content(folder) if (folder / "parts").exists() else {}
            whole = {name: data for name, data in found.items() if not name.startswith(".")}
            assert whole.items() <= wanted.items(), way
            assert way == "SIGKILL" or found.keys() - whole.keys() <= left, way
            left = found.keys() - whole.keys()
        process = begin(arguments)
        process.join()
        assert process.exitcode == 0
        assert content(folder) == wanted
        results = DoneParts(LocalFolder(folder)).results
        assert sum(result.num_rows for result in results.values()) == 401 + 600
        summary = json.loads((folder / "summary.json").read_text())
        assert summary == json.loads((tmp_path / "undisturbed" / "summary.json").read_text())
    print(f"{num_killed}, {num_jobs} jobs")


def test_a_second_run_in_the_same_folder_is_refused(job, tmp_path, capsys):
    with LocalFolder(tmp_path / "out").alone():
        assert main([*job, "--output-dir", str(tmp_path / "out")]) == 2
    assert "another run works in" in capsys.readouterr().err


def test_a_line_of_the_list_of_done_parts_that_was_cut_off_is_not_taken(tmp_path):
    line = (
        b'{"input_index": 0, "part_index": %d, "num_rows": 5, "num_bad": 0, "exits": [5], '
        b'"size": 3, "errors": []}\n'
    )
    (tmp_path / "done.jsonl").write_bytes(line % 0 + line % 1 + (line % 2)[:-1])
    done = DoneParts(LocalFolder(tmp_path))
    assert set(done.results) == {(0, 0), (0, 1)}
    done.add(done.results[0, 0]._replace(part_index=3))
    assert (tmp_path / "done.jsonl").read_bytes().count(b"\n") == 3
    assert set(DoneParts(LocalFolder(tmp_path)).results) == {(0, 0), (0, 1), (0, 3)}


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_of_which_a_library_makes_an_error_ends_it_all_the_same(
    monkeypatch, tmp_path, number, status
):
    def work(*arguments):
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)  # which the signal breaks off
        except BaseException as error:
            raise ValueError("cannot read it") from error

    monkeypatch.setattr(bulk_job, "run_job", work)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    arguments = ["predict-files", "model.tar.gz", "in.jsonl", "--output-dir", str(tmp_path)]
    try:
        found = main(arguments)
    except SystemExit as exit_:
        found = exit_.code
    assert found == status
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before

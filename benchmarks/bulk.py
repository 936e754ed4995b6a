"""
`predict-files`:

cost         What it costs beside tokenising and the engine: seconds of a process and of the clock
             for the same texts, one thread each; and the most memory that the command takes, in a
             process of its own
workers      One process, and one and two workers of Ray, with one thread each: rows a second once
             they run, by the difference of two jobs, of --rows and of a tenth of them
growth       Seconds and memory of the command for --rows, and for --growth times as many
bookkeeping  A hundred thousand parts without any work in them: what the manifest costs, and Ray
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import torch

from benchmarks.subjects import add_arguments
from benchmarks.timing import print_table, write
from sledgehammer_allennlp.bulk import ray_workers
from sledgehammer_allennlp.bulk.job import InputSettings, run_job
from sledgehammer_allennlp.bulk.manifest import DoneParts
from sledgehammer_allennlp.bulk.output_folder import output_folder
from sledgehammer_allennlp.bulk.part_worker import PredictionSettings, load_classifier
from sledgehammer_allennlp.bulk.parts import Part, PartRange, PartResult
from sledgehammer_allennlp.encoders.tokenizing import tokenize

WHAT = ("cost", "workers", "growth", "bookkeeping")
NUM_PARTS = 100_000
THRESHOLDS = [0.0, 0.9]
BATCH_SIZE = 4096
COMMAND_AND_PEAK = """
import sys
from sledgehammer_allennlp.__main__ import main
if main(sys.argv[1:]):
    sys.exit(1)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "runs/benchmarks/bulk.json")
    parser.add_argument("--rows", type=int, default=100_000, help="the data's, over and over")
    parser.add_argument("--thresholds", type=float, nargs="+", default=THRESHOLDS)
    parser.add_argument("--growth", type=int, default=30)
    parser.add_argument("--what", nargs="+", default=["cost"], choices=WHAT, help="default: cost")
    arguments = parser.parse_args()
    if not Path(arguments.archive).exists() or not Path(arguments.data).exists():
        raise SystemExit(f"There is no {arguments.archive} or {arguments.data}: make demo first")
    measure = {
        "cost": _costs,
        "workers": _workers,
        "growth": _growth,
        "bookkeeping": lambda arguments, folder: _bookkeeping(folder),
    }
    results: Dict[str, Any] = {}
    for what in arguments.what:
        with tempfile.TemporaryDirectory() as folder:
            results[what] = measure[what](arguments, Path(folder))
        print_table(results[what], f"{what}: {arguments.archive}, {arguments.rows:,} rows")
        write(arguments.output, results)


def _texts(arguments: argparse.Namespace, num_rows: int) -> List[str]:
    lines = Path(arguments.data).read_text(encoding="utf-8").splitlines()
    data = [line.split("\t")[1] for line in lines]
    return [data[number % len(data)] for number in range(num_rows)]


def _input(arguments: argparse.Namespace, num_rows: int, folder: Path) -> Path:
    """JSON lines, in order but that each has its number."""
    path = folder / f"{num_rows}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(_texts(arguments, num_rows)):
            file.write(json.dumps({"id": number, "text": text}) + "\n")
    return path


def _costs(arguments: argparse.Namespace, folder: Path) -> List[Dict[str, Any]]:
    torch.set_num_threads(1)
    texts, path = _texts(arguments, arguments.rows), _input(arguments, arguments.rows, folder)
    return [
        _row(arguments, threshold, texts, path, folder / str(threshold))
        for threshold in arguments.thresholds
    ]


def _workers(arguments: argparse.Namespace, folder: Path) -> List[Dict[str, Any]]:
    """Each way in turn, at the last threshold."""
    threshold = arguments.thresholds[-1]
    sizes = (arguments.rows // 10, arguments.rows)
    paths = [_input(arguments, size, folder) for size in sizes]
    # So small that two workers end at about the same time.
    options = ["--threshold", threshold, "--rows-per-part", 1024, "--batch-size", 1024]
    ways: Dict[str, List[Any]] = {
        "one process": [],
        "Ray, 1 worker": ["--workers", 1],
        "Ray, 2 workers": ["--workers", 2],
    }
    rows = []
    for way, more in ways.items():
        short, long = (
            _run_command(arguments, path, folder / way / path.stem, options + more)[0]
            for path in paths
        )
        if long <= short:
            raise SystemExit(
                f"{way}: {sizes[1]} rows took no longer than {sizes[0]}: wanted more --rows"
            )
        rows.append(
            {
                "way": way,
                "threshold": threshold,
                "rows a second": (sizes[1] - sizes[0]) / (long - short),
                "seconds, start too": long,
            }
        )
    return [{**row, "times": row["rows a second"] / rows[0]["rows a second"]} for row in rows]


def _growth(arguments: argparse.Namespace, folder: Path) -> List[Dict[str, Any]]:
    rows: List[Dict[str, Any]] = []
    for size in (arguments.rows, arguments.rows * arguments.growth):
        path = _input(arguments, size, folder)
        options = ["--threshold", arguments.thresholds[0]]
        seconds, peak = _run_command(arguments, path, folder / f"answers-{size}", options)
        rows.append({"rows": size, "seconds": seconds, "peak MB": peak})
        rows[-1]["microseconds a row"] = 1e6 * seconds / size
    return rows


def _bookkeeping(folder: Path) -> List[Dict[str, Any]]:
    parts = [Part(0, number, PartRange(0, 1, 1, 1)) for number in range(NUM_PARTS)]
    results = [PartResult(0, part.part_index, 1, 0, [1], 1, []) for part in parts]
    done = DoneParts(output_folder(str(folder)))
    start = time.perf_counter()
    for result in results:
        done.add(result)
    added = time.perf_counter()
    again = DoneParts(output_folder(str(folder)))
    read = time.perf_counter()
    assert len(again.results) == NUM_PARTS
    rows = [
        {"what": "the manifest, while parts are done", "seconds": added - start},
        {"what": "the manifest, when a job goes on", "seconds": read - added},
    ]
    archive = folder / "model.tar.gz"
    archive.write_bytes(b"")
    worker = ray_workers._Worker
    ray_workers._Worker = _NoWork  # type: ignore[assignment, misc]
    try:
        start = time.perf_counter()
        settings = ray_workers.RaySettings("local", os.cpu_count() or 1, 1)
        given: Any = (str(archive), [], None, None, None, "cpu", parts)
        found = sum(1 for _ in ray_workers.run_parts(settings, *given))
        rows.append({"what": "Ray, start and end too", "seconds": time.perf_counter() - start})
    finally:
        ray_workers._Worker = worker  # type: ignore[misc]
    assert found == NUM_PARTS
    return [{**row, "parts": NUM_PARTS} for row in rows]


class _NoWork:
    """A worker that has answered each part already."""

    def __init__(self, **_: Any) -> None:
        pass

    def __call__(self, batch: Dict[str, Any]) -> Dict[str, List[str]]:
        return {
            "result": [
                json.dumps(PartResult(0, json.loads(item)[1], 1, 0, [1], 1, [])._asdict())
                for item in batch["part"]
            ]
        }


def _row(
    arguments: argparse.Namespace, threshold: float, texts: Any, path: Path, output_dir: Path
) -> Dict[str, Any]:
    settings = PredictionSettings(threshold, None, None, "parquet", BATCH_SIZE, "stop")
    loading, classifier = _cpu_seconds(
        lambda: load_classifier(arguments.archive, settings, arguments.device)
    )
    tokenizer, max_length = classifier.tokenizer, classifier.max_length
    assert tokenizer is not None
    starts = range(0, len(texts), BATCH_SIZE)
    tokenizing, batches = _cpu_seconds(
        lambda: [
            tokenize(tokenizer, texts[first : first + BATCH_SIZE], None, max_length)
            for first in starts
        ]
    )
    with torch.no_grad():
        engine, _ = _cpu_seconds(lambda: [classifier(batch) for batch in batches])
    inputs = InputSettings([str(path)], None, None, None, [], 2 * BATCH_SIZE, None)
    start = time.perf_counter()
    job, _ = _cpu_seconds(
        lambda: run_job(arguments.archive, inputs, settings, str(output_dir), arguments.device)
    )
    seconds = time.perf_counter() - start
    return {
        "threshold": threshold,
        "tokenising": tokenizing,
        "engine": engine,
        "job without loading": job - loading,
        "share of tokenising and engine": (tokenizing + engine) / (job - loading),
        "rows a CPU second": len(texts) / (job - loading),
        "on the clock": seconds,
        "the command's peak MB": _run_command(
            arguments,
            path,
            output_dir.with_name(f"{output_dir.name}-memory"),
            ["--threshold", threshold, "--batch-size", BATCH_SIZE],
        )[1],
    }


def _run_command(
    arguments: argparse.Namespace, path: Path, output_dir: Path, options: Sequence[Any]
) -> "tuple[float, float]":
    """
    The seconds in which it had rows, and its peak in MB: of Linux' own count, which unlike
    `getrusage` has nothing of the process that starts it.
    """
    command = ["predict-files", arguments.archive, path, "--output-dir", output_dir]
    command += ["--device", arguments.device, *options]
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND_AND_PEAK, *map(str, command)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    seconds = re.search(r" rows in ([\d.]+) s: ", done.stdout)
    assert seconds is not None, done.stdout
    return float(seconds.group(1)), int(done.stdout.split()[-2]) / 1000


def _cpu_seconds(run: Callable[[], Any]) -> "tuple[float, Any]":
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()

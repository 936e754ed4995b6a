"""
What `predict-files` costs beside tokenising and the engine: seconds of a process and of the clock
for the same texts, one thread each; and the most memory that the command takes, in a process of its
own. With other `--rows` it is to be the same.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict

import torch

from benchmarks.subjects import add_arguments
from benchmarks.timing import print_table, write
from sledgehammer_allennlp.bulk.job import InputSettings, run_job
from sledgehammer_allennlp.bulk.part_worker import PredictionSettings, load_classifier
from sledgehammer_allennlp.encoders.tokenizing import tokenize

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
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "runs/benchmarks/bulk.json")
    parser.add_argument("--rows", type=int, default=100_000, help="the data's, over and over")
    parser.add_argument("--thresholds", type=float, nargs="+", default=THRESHOLDS)
    arguments = parser.parse_args()
    if not Path(arguments.archive).exists() or not Path(arguments.data).exists():
        raise SystemExit(f"There is no {arguments.archive} or {arguments.data}: make demo first")
    torch.set_num_threads(1)
    lines = Path(arguments.data).read_text(encoding="utf-8").splitlines()
    data = [line.split("\t")[1] for line in lines]
    texts = [data[number % len(data)] for number in range(arguments.rows)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        for threshold in arguments.thresholds:
            rows.append(_row(arguments, threshold, texts, path, Path(folder) / str(threshold)))
    print_table(rows, f"{arguments.archive}, {arguments.rows:,} rows, JSON lines to Parquet")
    write(arguments.output, {"bulk": rows})


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
        "the command's peak MB": _peak_of_command(arguments, threshold, path, output_dir),
    }


def _peak_of_command(
    arguments: argparse.Namespace, threshold: float, path: Path, output_dir: Path
) -> float:
    """Of Linux' own count, which unlike `getrusage` has nothing of the process that starts it."""
    options = ["--threshold", threshold, "--batch-size", BATCH_SIZE, "--device", arguments.device]
    command = ["predict-files", arguments.archive, path, "--output-dir", f"{output_dir}-memory"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND_AND_PEAK, *map(str, [*command, *options])],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(done.stdout.split()[-2]) / 1000


def _cpu_seconds(run: Callable[[], Any]) -> "tuple[float, Any]":
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()

"""One trial: `allennlp train` in a process of its own, watched as its epochs end."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

# Written beside the run's folder, which `allennlp train` needs empty, and moved into it at the end.
LOG_FILE = "train.log"
METRICS_FILE = "metrics.json"
ARCHIVE_FILE = "model.tar.gz"
_LAST_LINES = 20
_POLL_SECONDS = 1.0
_SECONDS_TO_END = 60.0


class TrainingError(Exception):
    """A run that gave no metric; the message says why, with its log's last lines."""


class Pruned(Exception):
    """A run that was ended because it promised too little."""


def train_command(
    config: Path, folder: Path, overrides: str, include_packages: Sequence[str]
) -> List[str]:
    """The command of a run."""
    command = [sys.executable, "-m", "sledgehammer_allennlp.sweeps.training_process", "train"]
    command += [str(config), "--serialization-dir", str(folder), "--file-friendly-logging"]
    command += ["--overrides", overrides] if overrides else []
    for package in include_packages:
        command += ["--include-package", package]
    return command


def run_training(
    command: Sequence[str],
    variables: Dict[str, str],
    folder: Path,
    metric: str,
    on_epoch: Callable[[int, float], bool],
    while_it_runs: Callable[[], None] = lambda: None,
) -> float:
    """
    Runs a command that trains into a folder, to its end.

    # Parameters

    command : `Sequence[str]`
    variables : `Dict[str, str]`
        Beside those of this process' environment.
    folder : `Path`
        Which the command makes.
    metric : `str`
        A key of the folder's `metrics.json`.
    on_epoch : `Callable[[int, float], bool]`
        Is told the number and the metric of every epoch, or where an epoch has no such metric, that
        of the epoch itself, without `best_`; true ends the run, if it is not the last epoch.
    while_it_runs : `Callable[[], None]`, optional
        Is called about every second; what it raises ends the run, too.

    # Returns

    `float`
        The metric.

    # Raises

    TrainingError
        If the run fails, or its metric is missing or no finite number.
    Pruned
        If `on_epoch` ended the run.
    """
    log_file = folder.with_name(f"{folder.name}.log")
    try:
        with open(log_file, "wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables},
                start_new_session=True,  # Ctrl-C is the worker's to handle
            )
            try:
                _watch(process, folder, metric, on_epoch, while_it_runs)
            finally:
                _end(process)
    finally:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(str(log_file), str(folder / LOG_FILE))
    if process.returncode != 0:
        while_it_runs()  # What ended the training may have come to this process, too.
        status = process.returncode
        how = f"exit status {status}" if status > 0 else f"signal {signal.Signals(-status).name}"
        raise TrainingError(f"training ended with {how}:\n{_last_lines(folder)}")
    return _final_metric(folder, metric)


def remove_checkpoints(folder: Path) -> None:
    """Removes what only `allennlp train --recover` needs; the archive and `best.th` stay."""
    for pattern in ("model_state_*.th", "training_state_*.th"):
        for file in folder.glob(pattern):
            file.unlink()


def _watch(
    process: "subprocess.Popen[bytes]",
    folder: Path,
    metric: str,
    on_epoch: Callable[[int, float], bool],
    while_it_runs: Callable[[], None],
) -> None:
    epoch, is_over = 0, False
    while not is_over:
        while_it_runs()
        try:
            process.wait(timeout=_POLL_SECONDS)
            is_over = True
        except subprocess.TimeoutExpired:
            pass
        while metrics := _read(folder / f"metrics_epoch_{epoch}.json"):
            value = _number(metrics.get(metric, metrics.get(metric.removeprefix("best_"))))
            if value is not None and on_epoch(epoch, value) and not is_over:
                epochs = _read(folder / "config.json").get("trainer", {}).get("num_epochs")
                if not isinstance(epochs, int) or epoch + 1 < epochs:
                    raise Pruned(f"after epoch {epoch}, with {metric} {value:.4f}")
            epoch += 1


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process, if it still runs, and what it started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _final_metric(folder: Path, metric: str) -> float:
    metrics = _read(folder / METRICS_FILE)
    value = _number(metrics.get(metric))
    if value is None:
        numbers = [key for key, found in metrics.items() if _number(found) is not None]
        raise TrainingError(
            f"{metric} is {metrics.get(metric)} in '{folder / METRICS_FILE}': wanted a finite "
            f"number, as of {', '.join(numbers) or 'no key there'}"
        )
    return value


def _read(path: Path) -> Dict[str, Any]:
    """A file of metrics, empty where there is none yet, or not all of it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _number(value: Any) -> Optional[float]:
    """A finite number, or `None` for anything else."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _last_lines(folder: Path) -> str:
    text = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-_LAST_LINES:])

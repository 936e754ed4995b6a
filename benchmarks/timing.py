"""Timing several ways of doing the same, so that they can be compared."""

import json
import os
import platform
import statistics
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import torch
from tqdm import tqdm

# After a call, the threads of torch and of ONNX Runtime go on spinning for a while, and slow down
# whoever comes next. Each gets to run as if it were alone.
_PAUSE = 0.2

_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
"""Of a processor, on which the speed of products depends."""


def alternate(ways: Mapping[str, Callable[[], Any]], rounds: int) -> Dict[str, float]:
    """
    The median seconds of each way. Every round runs all ways once, one after the other, so that a
    slow moment of the machine meets all of them; each has a run to warm up before.
    """
    seconds: Dict[str, List[float]] = {name: [] for name in ways}
    for round_ in tqdm(range(rounds + 1), desc="rounds", leave=False):
        for name, run in ways.items():
            time.sleep(_PAUSE)
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_ > 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def machine() -> Dict[str, Any]:
    """What the numbers were measured on, and when."""
    return {
        "date": date.today().isoformat(),
        "cpu": _cpu_info("model name") or platform.processor(),
        "cpu_features": [name for name in _FEATURES if name in _cpu_info("flags").split()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "transformers", "onnxruntime", "openvino")},
    }


def _cpu_info(key: str) -> str:
    """What Linux says of the first core; empty where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(": ")[1] for line in lines if line.startswith(f"{key}\t")), "")


def _version(package: str) -> Optional[str]:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def print_table(rows: Sequence[Dict[str, Any]], title: str) -> None:
    """Prints dictionaries with the same keys as a table that Markdown understands."""
    print(f"\n{title}\n")
    columns = list(rows[0])
    cells = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for number, line in enumerate(cells):
        print("| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def write(output: str, results: Dict[str, Any]) -> None:
    """Writes the results and the machine as JSON, beside and renamed, and says where."""
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
    beside.replace(path)
    print(f"\nWritten: {path}")

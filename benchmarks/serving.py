"""
A service under load: with how many requests a second, one text each, are 99 % answered within the
limit? The service, and those that a user would write instead, with the same weights:

plain                FastAPI, and the transformers library's own forward through all layers, text by
                     text
litserve onnx int8   LitServe's batches, and all layers in ONNX Runtime, in 8 bits
classifier           FastAPI, and load_archived_classifier, text by text, at the same threshold
litserve classifier  LitServe's batches, and load_archived_classifier, at the same threshold
serve                `python -m sledgehammer_allennlp serve`

Requests have fixed times (an open loop): a latency counts from when a request was due, so that a
service that stalls cannot hide it. The generator is a process of its own. Services take turns.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from typing import Any, Dict, List, Optional, Tuple

from benchmarks.serving_baselines import BASELINES, serve_baseline
from benchmarks.subjects import add_arguments
from benchmarks.timing import print_table, write

SERVE = "serve"
EXITING_EARLY = ("classifier", "litserve classifier", SERVE)

_MOST_TRIES = 180
_HEAD = "POST /answer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "runs/benchmarks/serving.json")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[1.0, 0.9])
    parser.add_argument("--limit-ms", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--first-rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--growth", type=float, default=1.5, help="of the rate, step by step")
    parser.add_argument("--options", default="", help="more options of serve")
    parser.add_argument("--baseline", choices=BASELINES, help=argparse.SUPPRESS)
    parser.add_argument(
        "--services", nargs="+", default=[*BASELINES, SERVE], choices=[*BASELINES, SERVE]
    )
    arguments = parser.parse_args()
    if arguments.baseline:
        serve_baseline(arguments.baseline, arguments.archive, arguments.thresholds[0])
        return
    with open(arguments.data, encoding="utf-8") as file:
        texts = [line.rstrip("\n").split("\t")[1] for line in file][: arguments.max_texts]
    rows = []
    for subject, threshold in _subjects(arguments):
        service, port = _started(subject, arguments, threshold)
        try:
            rows += asyncio.run(_loads(subject, threshold, port, texts, arguments))
        finally:
            _end(service)
    print_table(rows, f"{arguments.archive}, {arguments.seconds:g} s of each load")
    held: Dict[str, float] = {}
    for row in rows:
        if row["held"]:
            key = f"{row['service']} at {row['threshold']}"
            held[key] = max(held.get(key, 0), row["due a second"])
    for key, rate in held.items():
        print(f"{key}: 99 % within {arguments.limit_ms:g} ms at {rate:.0f} requests a second")
    write(arguments.output, {"limit_ms": arguments.limit_ms, "loads": rows, "held": held})


def _subjects(arguments: argparse.Namespace) -> List[Tuple[str, float]]:
    """Which services, and at which thresholds; those that run all layers once."""
    return [
        (name, threshold)
        for threshold in (1.0, *(t for t in arguments.thresholds if t != 1))
        for name in arguments.services
        if (threshold in arguments.thresholds if name in EXITING_EARLY else threshold == 1)
    ]


def _started(
    subject: str, arguments: argparse.Namespace, threshold: float
) -> Tuple["subprocess.Popen[str]", int]:
    if subject == SERVE:
        command = ["sledgehammer_allennlp", "serve", arguments.archive, "--port", "0"]
        command += ["--threshold", str(threshold), *arguments.options.split()]
    else:
        command = ["benchmarks.serving", "--archive", arguments.archive, "--baseline", subject]
        command += ["--thresholds", str(threshold)]
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r" at http://127.0.0.1:(\d+) ", line)
        if found:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            _wait_until_it_answers(process, int(found.group(1)))
            return process, int(found.group(1))
    raise SystemExit(f"{subject} did not start: {' '.join(command)}")


def _end(service: "subprocess.Popen[str]") -> None:
    """Ends a service and the processes that it started, which some leave behind."""
    service.terminate()
    with suppress(subprocess.TimeoutExpired):
        service.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(service.pid, signal.SIGKILL)
    service.wait()


def _wait_until_it_answers(process: "subprocess.Popen[str]", port: int) -> None:
    """Some listen before they can answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/answer",
        json.dumps({"sentence": "warm up"}).encode(),
        {"Content-Type": "application/json"},
    )
    for _ in range(_MOST_TRIES):
        with suppress(OSError):
            urllib.request.urlopen(request, timeout=60).close()
            return
        if process.poll() is not None:
            break
        time.sleep(1)
    _end(process)
    raise SystemExit(f"the service on port {port} did not answer")


async def _loads(
    subject: str, threshold: float, port: int, texts: List[str], arguments: argparse.Namespace
) -> List[Dict[str, Any]]:
    """More and more requests a second, until they are not answered in time."""
    generator = Generator(port, texts)
    await generator.run(arguments.first_rate, 2.0)  # warm
    rows = []
    rate = arguments.first_rate
    while True:
        latencies, num_refused = await generator.run(rate, arguments.seconds)
        latencies.sort()
        worst = 1000 * latencies[int(0.99 * len(latencies))] if latencies else float("inf")
        is_held = worst <= arguments.limit_ms and num_refused == 0
        rows.append(
            {
                "service": subject,
                "threshold": threshold,
                "due a second": rate,
                "median ms": round(1000 * latencies[len(latencies) // 2], 1) if latencies else None,
                "99 % ms": round(worst, 1),
                "refused": num_refused,
                "held": is_held,
            }
        )
        print(rows[-1], flush=True)
        if not is_held:
            return rows
        rate *= arguments.growth


class Generator:
    """
    Requests at fixed times, over connections that stay open, as many as it takes.

    # Parameters

    port : `int`
        Of this machine.
    texts : `List[str]`
        One a request, in turn.
    """

    def __init__(self, port: int, texts: List[str]) -> None:
        self._port = port
        bodies = [json.dumps({"sentence": text}).encode() for text in texts]
        self._requests = [
            f"{_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies
        ]
        self._idle: List[Tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._random = random.Random(1)

    async def run(self, rate: float, seconds: float) -> Tuple[List[float], int]:
        """Latencies in seconds of requests that were answered, and how many were refused."""
        tasks: List[asyncio.Future[Optional[float]]] = []
        due = time.perf_counter() + 0.1
        end = due + seconds
        while due < end:
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            request = self._requests[len(tasks) % len(self._requests)]
            tasks.append(asyncio.ensure_future(self._send(request, due)))
            due += self._random.expovariate(rate)
        found = await asyncio.gather(*tasks)
        answered = [latency for latency in found if latency is not None]
        return answered, len(found) - len(answered)

    async def _send(self, request: bytes, due: float) -> Optional[float]:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length is not None
        await reader.readexactly(int(length.group(1)))
        self._idle.append((reader, writer))
        return time.perf_counter() - due if head.startswith(b"HTTP/1.1 200") else None


if __name__ == "__main__":
    main()

"""
A service under load: with how many requests a second, one text each, are 99 % answered within the
limit? The service, and two that a user would write instead, with the same weights:

plain        FastAPI, and the transformers library's own forward through all layers, text by text
classifier   FastAPI, and load_archived_classifier, text by text, at the same threshold
serve        `python -m sledgehammer_allennlp serve`

Requests have fixed times (an open loop): a latency counts from when a request was due, so that a
service that stalls cannot hide it. The generator is a process of its own. Services take turns.
"""

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

from benchmarks.subjects import add_arguments
from benchmarks.timing import print_table, write

_HEAD = "POST /answer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "runs/benchmarks/serving.json")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[1.0, 0.9])
    parser.add_argument("--limit-ms", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--first-rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--growth", type=float, default=1.5, help="of the rate, step by step")
    parser.add_argument("--options", default="", help="more options of serve")
    parser.add_argument("--baseline", choices=("plain", "classifier"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.baseline:
        _serve_baseline(arguments.baseline, arguments.archive, arguments.thresholds[0])
        return
    with open(arguments.data, encoding="utf-8") as file:
        texts = [line.rstrip("\n").split("\t")[1] for line in file][: arguments.max_texts]
    rows = []
    for subject, threshold in _subjects(arguments.thresholds):
        service, port = _started(subject, arguments, threshold)
        try:
            rows += asyncio.run(_loads(subject, threshold, port, texts, arguments))
        finally:
            service.terminate()
            service.wait()
    print_table(rows, f"{arguments.archive}, {arguments.seconds:g} s of each load")
    held: Dict[str, float] = {}
    for row in rows:
        if row["held"]:
            key = f"{row['service']} at {row['threshold']}"
            held[key] = max(held.get(key, 0), row["due a second"])
    for key, rate in held.items():
        print(f"{key}: 99 % within {arguments.limit_ms:g} ms at {rate:.0f} requests a second")
    write(arguments.output, {"loads": rows, "held": held})


def _subjects(thresholds: List[float]) -> List[Tuple[str, float]]:
    subjects = [("plain", 1.0)]
    return subjects + [(name, t) for t in thresholds for name in ("classifier", "serve")]


def _started(
    subject: str, arguments: argparse.Namespace, threshold: float
) -> Tuple["subprocess.Popen[str]", int]:
    if subject == "serve":
        command = ["sledgehammer_allennlp", "serve", arguments.archive, "--port", "0"]
        command += ["--threshold", str(threshold), *arguments.options.split()]
    else:
        command = ["benchmarks.serving", "--archive", arguments.archive, "--baseline", subject]
        command += ["--thresholds", str(threshold)]
    process = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r" at http://127.0.0.1:(\d+) ", line)
        if found:
            return process, int(found.group(1))
    raise SystemExit(f"{subject} did not start: {' '.join(command)}")


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


def _serve_baseline(kind: str, archive: str, threshold: float) -> None:
    """What a user would write: each request is answered in a thread of FastAPI's pool."""
    import socket
    from concurrent.futures import ThreadPoolExecutor

    import torch
    import uvicorn
    from fastapi import FastAPI, Request

    from sledgehammer_allennlp import load_archived_classifier

    classifier = load_archived_classifier(
        archive, confidence_threshold=threshold, inference_only=kind == "classifier"
    )
    app = FastAPI()
    one_at_a_time = ThreadPoolExecutor(1)  # with more, threads only share the cores

    @torch.no_grad()
    def plain(text: str) -> Dict[str, Any]:
        assert classifier.tokenizer is not None
        tokens = classifier.tokenizer([text], return_tensors="pt", truncation=True, max_length=512)
        hidden = classifier.encoder.transformer(**tokens).last_hidden_state
        return {"first": hidden[0, 0, :4].tolist()}  # a linear layer more would cost nothing

    def by_classifier(text: str) -> Dict[str, Any]:
        return classifier.predict([text])[0]

    answer_one = plain if kind == "plain" else by_classifier

    @app.post("/answer")
    async def answer(request: Request) -> Dict[str, Any]:
        text = (await request.json())["sentence"]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(one_at_a_time, answer_one, text)

    answer_one("warm up")
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"Serving at http://127.0.0.1:{listening.getsockname()[1]} ", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()

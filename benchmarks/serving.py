"""
A service under load: with how many requests a second, one text each, are 99 % answered within the
limit? The service, and those that a user would write instead, with the same weights:

plain                   FastAPI, and the transformers library's own forward through all layers, text
                        by text
litserve onnx int8      LitServe's batches, and all layers in ONNX Runtime, in 8 bits
classifier              FastAPI, and load_archived_classifier, text by text, at the same threshold
litserve classifier     LitServe's batches, and load_archived_classifier, at the same threshold
serve                   `python -m sledgehammer_allennlp serve`
serve, process a core   as many of these as there are cores, with one thread each, which take
                        requests in turn

Requests have fixed times (an open loop): a latency counts from when a request was due, so that a
service that stalls cannot hide it. The generator is a process of its own. Services take turns.

Then the service alone: a request at a time, beside the classifier without a service; and, with
--max-accuracy-drop, multiples of the load that it held at threshold 1, with the limit as its
latency target.
"""

import argparse
import asyncio
import os
import re
import statistics
import time
from contextlib import ExitStack
from typing import Any, Dict, List, Sequence, Tuple

from benchmarks.service_load import Connection, Generator, ServiceProcess, request_of
from benchmarks.serving_baselines import BASELINES, serve_baseline
from benchmarks.subjects import add_arguments, read_archive
from benchmarks.timing import print_table, write

SERVE, PROCESSES = "serve", "serve, process a core"
EXITING_EARLY = ("classifier", "litserve classifier", SERVE, PROCESSES)
# Without the libraries of the other services, which `pip install '.[serve]'` does not have.
_AS_INSTALLED = {"PYTHONPATH": ""}
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
_FEWEST_REQUESTS = 100
_MULTIPLES = (0.5, 1.0, 2.0, 4.0)


def main() -> None:
    services = [*BASELINES, SERVE, PROCESSES]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "runs/benchmarks/serving.json")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[1.0, 0.9])
    parser.add_argument("--limit-ms", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load, at least")
    parser.add_argument("--first-rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--growth", type=float, default=1.5, help="of the rate, step by step")
    parser.add_argument("--max-accuracy-drop", type=float, help="for the latency target's floor")
    parser.add_argument("--options", default="", help="more options of serve")
    parser.add_argument("--baseline", choices=BASELINES, help=argparse.SUPPRESS)
    parser.add_argument("--services", nargs="+", default=services, choices=services)
    arguments = parser.parse_args()
    if arguments.baseline:
        serve_baseline(arguments.baseline, arguments.archive, arguments.thresholds[0])
        return
    with open(arguments.data, encoding="utf-8") as file:
        texts = [line.rstrip("\n").split("\t")[1] for line in file][: arguments.max_texts]
    results: Dict[str, Any] = {"limit_ms": arguments.limit_ms, "loads": [], "held": {}}
    for subject, threshold in _subjects(arguments):
        with ExitStack() as running:
            ports = [
                running.enter_context(service).port
                for service in _started(subject, threshold, arguments)
            ]
            results["loads"] += asyncio.run(_loads(subject, threshold, ports, texts, arguments))
        results["held"] = _held(results["loads"])
        write(arguments.output, results)
    print_table(results["loads"], f"{arguments.archive}, {arguments.seconds:g} s of each load")
    for name, rate in results["held"].items():
        print(f"{name}: 99 % within {arguments.limit_ms:g} ms at {rate:.0f} requests a second")
    if SERVE in arguments.services:
        results["lone"] = _lone_requests(texts, arguments)
        print_table(results["lone"], "A request at a time, milliseconds")
        rate = results["held"].get(f"{SERVE} at 1.0")
        if rate and arguments.max_accuracy_drop is not None:
            results["holding"] = _holding(rate, texts, arguments)
            print_table(
                results["holding"], f"With a latency target of {arguments.limit_ms:g} milliseconds"
            )
        write(arguments.output, results)


def _subjects(arguments: argparse.Namespace) -> List[Tuple[str, float]]:
    """Which services, and at which thresholds; those that run all layers once."""
    return [
        (name, threshold)
        for threshold in (1.0, *(t for t in arguments.thresholds if t != 1))
        for name in arguments.services
        if (threshold in arguments.thresholds if name in EXITING_EARLY else threshold == 1)
    ]


def _started(subject: str, threshold: float, arguments: argparse.Namespace) -> List[ServiceProcess]:
    if subject == SERVE:
        return [_serve(arguments, "--threshold", str(threshold))]
    if subject == PROCESSES:
        return [
            _serve(arguments, "--threshold", str(threshold), environment=_ONE_THREAD)
            for _ in range(os.cpu_count() or 1)
        ]
    command = ["benchmarks.serving", "--archive", arguments.archive, "--baseline", subject]
    return [ServiceProcess([*command, "--thresholds", str(threshold)])]


def _serve(
    arguments: argparse.Namespace, *options: str, environment: "Dict[str, str] | None" = None
) -> ServiceProcess:
    command = ["sledgehammer_allennlp", "serve", arguments.archive, "--port", "0"]
    given = {**_AS_INSTALLED, **(environment or {})}
    return ServiceProcess([*command, *options, *arguments.options.split()], given)


async def _loads(
    subject: str,
    threshold: float,
    ports: Sequence[int],
    texts: List[str],
    arguments: argparse.Namespace,
) -> List[Dict[str, Any]]:
    """More and more requests a second, until twice in a row they are not answered in time."""
    generator = Generator(ports, texts)
    await generator.run(arguments.first_rate, 2.0)  # warm
    rows: List[Dict[str, Any]] = []
    rate = arguments.first_rate
    while any(row["held"] for row in rows[-2:]) or len(rows) < 2:
        row = await _load(generator, rate, arguments)
        rows.append({"service": subject, "threshold": threshold, **row})
        print(rows[-1], flush=True)
        rate *= arguments.growth
    return rows


async def _load(generator: Generator, rate: float, arguments: argparse.Namespace) -> Dict[str, Any]:
    seconds = max(arguments.seconds, _FEWEST_REQUESTS / rate)
    latencies, num_refused = await generator.run(rate, seconds)
    latencies.sort()
    worst = 1000 * latencies[int(0.99 * len(latencies))] if latencies else float("inf")
    return {
        "due a second": rate,
        "median ms": round(1000 * latencies[len(latencies) // 2], 1) if latencies else None,
        "99 % ms": round(worst, 1),
        "refused": num_refused,
        "held": worst <= arguments.limit_ms and num_refused == 0,
    }


def _held(rows: Sequence[Dict[str, Any]]) -> Dict[str, float]:
    """By service and threshold, the highest rate that was answered in time."""
    held: Dict[str, float] = {}
    for row in rows:
        if row["held"]:
            name = f"{row['service']} at {row['threshold']}"
            held[name] = max(held.get(name, 0), row["due a second"])
    return held


def _lone_requests(texts: List[str], arguments: argparse.Namespace) -> List[Dict[str, Any]]:
    """What a service costs beside its classifier: they answer each text in turn."""
    classifier = read_archive(arguments)
    thresholds = sorted({0.0, *arguments.thresholds})

    async def measure(port: int) -> List[Dict[str, Any]]:
        connection = await Connection.open(port)
        rows = []
        for threshold in thresholds:
            classifier.confidence_threshold = threshold
            by_service, by_classifier = [], []
            for text in texts:
                request = request_of({"sentence": text, "threshold": threshold})
                time.sleep(0.005)  # until the other's threads are idle
                start = time.perf_counter()
                await connection.send(request)
                by_service.append(time.perf_counter() - start)
                time.sleep(0.005)
                start = time.perf_counter()
                classifier.predict([text])
                by_classifier.append(time.perf_counter() - start)
            service, alone = statistics.median(by_service), statistics.median(by_classifier)
            rows.append(
                {
                    "threshold": threshold,
                    "service": 1000 * service,
                    "classifier": 1000 * alone,
                    "difference": 1000 * (service - alone),
                }
            )
        connection.close()
        return rows

    with _serve(arguments) as service:
        return asyncio.run(measure(service.port))


def _holding(held: float, texts: List[str], arguments: argparse.Namespace) -> List[Dict[str, Any]]:
    """What a latency target makes of multiples of the load that was held without."""
    thresholds: List[float] = []

    def note(body: bytes) -> None:
        found = re.search(rb'"threshold": ([\d.]+)', body)
        thresholds.append(float(found.group(1)) if found else float("nan"))

    async def measure(port: int) -> List[Dict[str, Any]]:
        generator = Generator([port], texts, note)
        rows = []
        for multiple in _MULTIPLES:
            thresholds.clear()
            row = await _load(generator, multiple * held, arguments)
            mean = statistics.mean(thresholds) if thresholds else None
            rows.append({"times the load": multiple, **row, "mean threshold": mean})
        return rows

    target = ["--threshold", "1", "--latency-target", f"{arguments.limit_ms:g}"]
    floor = ["--max-accuracy-drop", str(arguments.max_accuracy_drop)]
    with _serve(arguments, *target, *floor) as service:
        return asyncio.run(measure(service.port))


if __name__ == "__main__":
    main()

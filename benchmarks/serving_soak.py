"""
A service for a long time: clients ask for single texts and for lists, at thresholds of their own,
some go away before they are answered, and many more connections are open and say nothing. Is each
answer the one that the text gets alone from `load_archived_classifier`, is none lost, does the
service's memory grow?
"""

import argparse
import asyncio
import json
import os
import random
import resource
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

from benchmarks.service_load import Connection, ServiceProcess, request_of
from benchmarks.subjects import add_arguments, read_archive
from benchmarks.timing import print_table, write

_CLIENTS = 32
_LONGEST_LIST = 64
_SHARE_THAT_GOES_AWAY = 0.005
_THRESHOLDS = (0.0, 0.7, 0.9, 1.0)
_NUM_MARKS = 8
_MOST_DIFFERENCE = 1e-4
_SECONDS_TO_END = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "runs/benchmarks/serving_soak.json")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--idle-connections", type=int, default=10_000)
    arguments = parser.parse_args()
    _allow_connections(arguments.idle_connections + 1000)
    with open(arguments.data, encoding="utf-8") as file:
        texts = [line.rstrip("\n").split("\t")[1] for line in file][: arguments.max_texts]
    wanted = _wanted(texts, arguments)
    command = ["sledgehammer_allennlp", "serve", arguments.archive, "--port", "0"]
    with ServiceProcess(command) as service:
        soak = Soak(service, texts, wanted)
        rows = asyncio.run(soak.run(arguments.seconds, arguments.idle_connections))
    print_table(rows, f"{arguments.archive}, {arguments.idle_connections} idle connections")
    write(arguments.output, {"idle_connections": arguments.idle_connections, "soak": rows})
    if soak.num_other or soak.num_lost:
        raise SystemExit(f"{soak.num_other} other answers, {soak.num_lost} lost requests")


def _allow_connections(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number <= hard or hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    elif hard < number:
        raise SystemExit(f"{hard} files may be open here: wanted fewer --idle-connections")


def _wanted(texts: List[str], arguments: argparse.Namespace) -> Dict[float, List[Dict[str, Any]]]:
    """What each text gets alone, by threshold."""
    classifier = read_archive(arguments)
    found = {}
    for threshold in _THRESHOLDS:
        classifier.confidence_threshold = threshold
        found[threshold] = [classifier.predict([text])[0] for text in texts]
    return found


class Soak:
    """
    Clients without end.

    # Parameters

    service : `ServiceProcess`
    texts : `List[str]`
    wanted : `Dict[float, List[Dict[str, Any]]]`
        By threshold, the answers to the texts.
    """

    def __init__(
        self, service: ServiceProcess, texts: List[str], wanted: Dict[float, List[Dict[str, Any]]]
    ) -> None:
        self.num_answers = self.num_requests = self.num_gone = self.num_other = self.num_lost = 0
        self._service = service
        self._texts = texts
        self._wanted = wanted

    async def run(self, seconds: float, num_idle: int) -> List[Dict[str, Any]]:
        """A row at each of some marks in time."""
        idle = [await Connection.open(self._service.port) for _ in range(num_idle)]
        start = time.monotonic()
        clients = [
            asyncio.ensure_future(self._client(number, start + seconds))
            for number in range(_CLIENTS)
        ]
        rows = []
        for mark in range(1, _NUM_MARKS + 1):
            await asyncio.sleep(start + seconds * mark / _NUM_MARKS - time.monotonic())
            rows.append(self._row(time.monotonic() - start))
            print(rows[-1], flush=True)
        _, late = await asyncio.wait(clients, timeout=_SECONDS_TO_END)
        self.num_lost += len(late)
        for client in clients:
            client.cancel()
        for connection in idle:  # they were not closed, and are answered still
            numbers, _, request = self._request(random.Random(0), most=1)
            status, body = await connection.send(request)
            self._check(numbers, 0.9, status, body)
        rows.append({**self._row(time.monotonic() - start)})
        return rows

    def _request(self, draw: random.Random, most: int) -> Tuple[List[int], float, bytes]:
        """The numbers of some texts, a threshold, and the bytes that ask for them."""
        threshold = 0.9 if most == 1 else draw.choice(_THRESHOLDS)
        size = draw.randint(1, most) if draw.random() < 0.5 else 1
        numbers = [draw.randrange(len(self._texts)) for _ in range(size)]
        return (
            numbers,
            threshold,
            request_of([{"sentence": self._texts[i], "threshold": threshold} for i in numbers]),
        )

    async def _client(self, number: int, end: float) -> None:
        draw = random.Random(number)
        connection = await Connection.open(self._service.port)
        while time.monotonic() < end:
            numbers, threshold, request = self._request(draw, _LONGEST_LIST)
            if draw.random() < _SHARE_THAT_GOES_AWAY:
                going = asyncio.ensure_future(connection.send(request))
                await asyncio.sleep(draw.random() * 0.02)
                going.cancel()
                connection.close()
                self.num_gone += 1
                connection = await Connection.open(self._service.port)
                continue
            try:
                status, body = await connection.send(request)
            except (OSError, EOFError):
                self.num_lost += 1
                connection = await Connection.open(self._service.port)
                continue
            self._check(numbers, threshold, status, body)
        connection.close()

    def _check(self, numbers: List[int], threshold: float, status: int, body: bytes) -> None:
        self.num_requests += 1
        if status != 200:
            self.num_lost += 1
            return
        answers = json.loads(body)
        self.num_answers += len(answers)
        wanted = [self._wanted[threshold][i] for i in numbers]
        self.num_other += abs(len(answers) - len(wanted))
        self.num_other += sum(
            not _same(answer, alone, threshold) for answer, alone in zip(answers, wanted)
        )

    def _row(self, seconds: float) -> Dict[str, Any]:
        pages = int(Path(f"/proc/{self._service.process.pid}/statm").read_text().split()[1])
        return {
            "seconds": round(seconds),
            "requests": self.num_requests,
            "answers": self.num_answers,
            "other than alone": self.num_other,
            "lost": self.num_lost,
            "clients that went away": self.num_gone,
            "the service's MB": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6),
        }


def _same(answer: Dict[str, Any], alone: Dict[str, Any], threshold: float) -> bool:
    pairs = list(zip(answer["probs"], alone["probs"]))
    return (
        answer["label"] == alone["label"]
        and answer["exit_layer"] == alone["exit_layer"]
        and answer["threshold"] == threshold
        and all(abs(one - other) < _MOST_DIFFERENCE for one, other in pairs)
    )


if __name__ == "__main__":
    main()

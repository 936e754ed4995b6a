"""Services in processes of their own, and requests to them at fixed times."""

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
from typing import Callable, List, Mapping, Optional, Sequence, Tuple

_MOST_TRIES = 180
_HEAD = "POST /answer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class ServiceProcess:
    """
    A service that runs until the block ends; then so do the processes that it started.

    # Parameters

    module : `Sequence[str]`
        What follows `python -m`. It says on stderr at which port of 127.0.0.1 it listens.
    environment : `Mapping[str, str]`, optional
        Beside that of this process.
    """

    def __init__(
        self, module: Sequence[str], environment: Optional[Mapping[str, str]] = None
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *module],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(r" at http://127.0.0.1:(\d+)\b", line)
            if found:
                self.port = int(found.group(1))
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                break
        else:
            raise SystemExit(f"a service did not start: {' '.join(module)}")
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        """Some listen before they can answer."""
        for _ in range(_MOST_TRIES):
            with suppress(OSError):
                self.ask("warm up")
                return
            if self.process.poll() is not None:
                break
            time.sleep(1)
        self.end()
        raise SystemExit(f"the service on port {self.port} did not answer")

    def ask(self, text: str) -> None:
        """One request, over a connection of its own."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/answer",
            json.dumps({"sentence": text}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=60).close()

    def end(self) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what LitServe leaves behind
        self.process.wait()

    def __enter__(self) -> "ServiceProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Connection:
    """A connection over which one request at a time is answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, request: bytes) -> Tuple[int, bytes]:
        """The status and the body of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length is not None
        return int(head.split(None, 2)[1]), await self._reader.readexactly(int(length.group(1)))

    def close(self) -> None:
        self._writer.close()


def request_of(body: object) -> bytes:
    """The bytes of a request to `/answer`."""
    data = json.dumps(body).encode()
    return f"{_HEAD}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Generator:
    """
    Requests at fixed times, over connections that stay open, as many as it takes.

    # Parameters

    ports : `Sequence[int]`
        Of this machine, in turn.
    texts : `Sequence[str]`
        One a request, in turn.
    on_answer : optional
        Called with the body of each answer.
    """

    def __init__(
        self,
        ports: Sequence[int],
        texts: Sequence[str],
        on_answer: Callable[[bytes], None] = lambda body: None,
    ) -> None:
        self._ports = ports
        self._on_answer = on_answer
        self._requests = [request_of({"sentence": text}) for text in texts]
        self._idle: List[List[Connection]] = [[] for _ in ports]
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
            tasks.append(asyncio.ensure_future(self._send(len(tasks), due)))
            due += self._random.expovariate(rate)
        found = await asyncio.gather(*tasks)
        answered = [latency for latency in found if latency is not None]
        return answered, len(found) - len(answered)

    async def _send(self, number: int, due: float) -> Optional[float]:
        of_port = number % len(self._ports)
        idle, request = self._idle[of_port], self._requests[number % len(self._requests)]
        answer = None
        while answer is None and idle:  # some services close what was idle for seconds
            connection = idle.pop()
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                answer = await connection.send(request)
        if answer is None:
            connection = await Connection.open(self._ports[of_port])
            answer = await connection.send(request)
        status, body = answer
        latency = time.perf_counter() - due
        idle.append(connection)
        if status != 200:
            return None
        self._on_answer(body)
        return latency

"""Services in processes of their own, on a free port of this machine."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from typing import Any, Dict, List, Optional, Tuple

# Without AllenNLP, which takes longer to import than all else.
_PROGRAM = (
    "import sys; sys.modules['allennlp'] = None; "
    "from sledgehammer_allennlp.__main__ import main; sys.exit(main())"
)
_ADDRESS = re.compile(r"Serving (.+) at (http://\S+?):(\d+) ")


def start(archive: Any, *options: Any, **more: Any) -> "subprocess.Popen[Any]":
    """Starts `python -m sledgehammer_allennlp serve`, with one thread."""
    command = [sys.executable, "-c", _PROGRAM, "serve", str(archive), *map(str, options)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **more)


class ServiceProcess:
    """`python -m sledgehammer_allennlp serve`, running."""

    def __init__(self, archive: Any, *options: Any) -> None:
        self.process = start(archive, "--port", 0, *options, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.log: List[str] = []
        found = None
        for line in self.process.stderr:
            self.log.append(line)
            found = _ADDRESS.search(line)
            if found:
                break
        assert found, "".join(self.log)
        self.host, self.port = "127.0.0.1", int(found.group(3))
        self.address = f"http://{self.host}:{self.port}"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log += self.process.stderr

    def send(self, path: str, body: Any = None, raw: Optional[bytes] = None) -> Tuple[int, Any]:
        """The status and the JSON of an answer; `body` is sent as JSON, `raw` as it is."""
        status, content, _ = self.send_for_headers(path, body, raw)
        return status, content

    def send_for_headers(
        self, path: str, body: Any = None, raw: Optional[bytes] = None
    ) -> Tuple[int, Any, Dict[str, str]]:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, content, headers = response.status, response.read(), response.headers
        except urllib.error.HTTPError as error:
            status, content, headers = error.code, error.read(), error.headers
        is_json = headers["content-type"] == "application/json"
        return status, json.loads(content) if is_json else content.decode(), dict(headers)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal, waits, and gives the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        self._reader.join()
        return status

    def __enter__(self) -> "ServiceProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()

"""Runs commands quickly: a process that has imported the package, and forks for each of them.

`python -m tests.command_server SOCKET` listens on a socket in the file system. A client sends the
arguments, the folder and the environment as JSON, and its three standard files; it gets the number
of the process, and when that ends the exit status. If the client is killed, so is the process.
"""

import array
import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Dict, List, Optional

from tests.imports_once import import_once

ROOT = Path(__file__).parents[1]
READY = "ready"
FEW_TEXTS = "FEW_TEXTS"
"""A variable of a command's environment: if it is set, `new-config` wants fewer steps."""


def client_of(program: str) -> List[str]:
    """What is written before the arguments of a program, `"allennlp"` or `"python"`."""
    return [sys.executable, "-S", "-E", str(ROOT / "tests/command_client.py"), program]


class CommandServer:
    """
    The process.

    # Parameters

    folder : `Path`
        Is made, for the socket.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.path = str(folder / "socket")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.command_server", self.path],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == READY

    def environment(self, **variables: str) -> Dict[str, str]:
        """Of a client: this process', with other variables."""
        return {**os.environ, "COMMAND_SERVER": self.path, **variables}

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def serve(path: str) -> None:
    """Answers until it is killed."""
    import torch
    from allennlp.common.plugins import import_plugins

    import sledgehammer_allennlp.__main__  # noqa: F401

    # Not this package: what has a command import it is to be seen.
    import_once(["allennlp"])
    import_plugins()
    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forked processes
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print(READY, flush=True)
    while True:
        client, _ = listener.accept()
        files: List[int] = []
        request = _receive(client, files)
        if request is not None and os.fork() == 0:
            listener.close()
            _run(client, request, files)
        client.close()
        for file in files:
            os.close(file)


def _receive(client: socket.socket, files: List[int]) -> Optional[Dict[str, Any]]:
    """A client's request, `None` if it has been killed; its standard files are added to `files`."""
    head, ancillary, _, _ = client.recvmsg(8, socket.CMSG_SPACE(3 * 4))
    for _, _, data in ancillary:
        files.extend(array.array("i", data))
    size = int(head or 0)
    parts = b""
    while len(parts) < size and (part := client.recv(size - len(parts))):
        parts += part
    return json.loads(parts) if size and len(parts) == size else None


def _run(client: socket.socket, request: Dict[str, Any], files: List[int]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Who runs the tests in the background may have Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    client.sendall(b"%8d" % os.getpid())
    threading.Thread(target=_end_with_the_client, args=(client,), daemon=True).start()
    if FEW_TEXTS in os.environ:
        from sledgehammer_allennlp.configs import choices

        choices.MIN_STEPS = 20
    try:
        _run_as_main(request["arguments"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        client.sendall(b"%8d" % status)
        os._exit(status)


def _end_with_the_client(client: socket.socket) -> None:
    if not client.recv(1):
        os.kill(os.getpid(), signal.SIGKILL)


def _run_as_main(arguments: List[str]) -> None:
    """As `allennlp …`, `python -m MODULE …` and `python FILE …` do."""
    program, *rest = arguments
    if program == "allennlp":
        sys.argv = arguments
        sys.path[0] = str(Path(sys.executable).parent)  # where the command is
        from allennlp.__main__ import run

        run()
    elif rest[0] == "-m":
        sys.argv, sys.path[0] = rest[1:], ""
        runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = rest, str(Path(rest[0]).resolve().parent)
        runpy.run_path(rest[0], run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])

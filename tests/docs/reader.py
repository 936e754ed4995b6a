"""A reader who types what a page says: a folder with data and models, and the blocks in order."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Dict, List, Optional

from sledgehammer_allennlp.configs import SETTINGS_FILE
from sledgehammer_allennlp.sweeps.search_space import read_search_space
from tests.command_server import FEW_TEXTS, ROOT, CommandServer, client_of
from tests.docs.blocks import Block

SECONDS = 300
"""For one block, on a busy machine."""

_PORT_OF_PAGES = 8000
_SERVE = re.compile(r"^(?:allennlp|python -m sledgehammer_allennlp) serve\b", re.MULTILINE)
_PORT = re.compile(r"--port[ =](\d+)")
_TRAINED = re.compile(r"^allennlp train\b.*?(?:-s|--serialization-dir)[ =](\S+)", re.MULTILINE)
_NEW_CONFIG = re.compile(r"\bnew-config (\S+)")
_ELLIPSIS = re.compile(r"^ *(?://)? *(?:…|\.\.\.),? *$", re.MULTILINE)
_FIELD = re.compile(r"(?:\s*//.*\n)*\s*\w+ *\+?:")


class Failed(AssertionError):
    """What a block did instead of what the page says."""


def write_commands(folder: Path) -> None:
    """The programs that a page names."""
    folder.mkdir()
    programs = {name: shlex.join(client_of(name)) for name in ("allennlp", "python")}
    programs["curl"] = f"{shutil.which('curl')} --fail-with-body --max-time 60"
    for name, program in programs.items():
        _write_program(folder / name, f'exec {program} "$@"')
    _write_program(
        folder / "pip", "echo 'pip is not run here: wanted the block marked' >&2; exit 1"
    )


def _write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


class Reader:
    """
    # Parameters

    folder : `Path`
        The current folder of what runs.
    server : `CommandServer`
    """

    def __init__(self, folder: Path, server: CommandServer) -> None:
        self._folder = folder
        self._program = ""
        self._service: Optional[subprocess.Popen[bytes]] = None
        self._log = folder / ".service.log"
        self._port = _free_port()
        temporary, commands = folder / ".tmp", folder / ".bin"
        temporary.mkdir()
        write_commands(commands)
        self._environment = server.environment(
            PATH=f"{commands}:/usr/bin:/bin",
            TMPDIR=str(temporary),
            HF_HUB_OFFLINE="1",
            OMP_NUM_THREADS="1",
            **{FEW_TEXTS: "1"},  # a reader of the pages has many
        )

    def run(self, blocks: List[Block]) -> None:
        """
        Runs those that run, in order; the service that they start ends with them.

        # Raises

        Failed
            With page, line and output, if one fails.
        """
        try:
            for block in blocks:
                if block.file is not None:
                    path = self._folder / block.file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(block.text, encoding="utf-8")
                if block.is_run:
                    self._run(block)
        finally:
            status = self._end_service()
        if status not in (0, -signal.SIGTERM):
            raise Failed(f"the service ended with {status}:\n{self._log.read_text()}")

    def _run(self, block: Block) -> None:
        try:
            getattr(self, f"_run_{block.language}", lambda text: None)(block.text)
        except Failed as error:
            raise Failed(f"{block.place}: {error}\n\n{block.text}") from None

    def _run_bash(self, text: str) -> None:
        for made in [*_TRAINED.findall(_joined(text)), *_NEW_CONFIG.findall(_joined(text))]:
            self._remove_what_another_page_has_made(made, text)
        text = self._with_free_port(text)
        if _SERVE.search(text):
            self._serve(text)
        else:
            self.shell(text)

    def shell(self, text: str) -> None:
        """
        # Raises

        Failed
            If a command fails.
        """
        self._check(["bash", "-euo", "pipefail", "-c", text])

    def _remove_what_another_page_has_made(self, name: str, text: str) -> None:
        """The reader of this page alone has none yet."""
        path = self._folder / name
        if "--recover" in text or "--force" in text:
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _with_free_port(self, text: str) -> str:
        port = f" --port {self._port}"
        if _SERVE.search(text):
            given = _PORT.search(text)
            if given:
                text = text.replace(given.group(0), port.strip())
            else:
                text = _SERVE.sub(lambda found: found.group(0) + port, text)
        return text.replace(f":{_PORT_OF_PAGES}", f":{self._port}")

    def _serve(self, text: str) -> None:
        self._end_service()
        with self._log.open("wb") as log:
            self._service = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + SECONDS
        while not _answers(f"http://127.0.0.1:{self._port}/v2/health/ready"):
            if self._service.poll() is not None or time.monotonic() > until:
                raise Failed(f"the service does not run:\n{self._log.read_text()}")
            time.sleep(0.1)

    def _end_service(self) -> int:
        if self._service is None:
            return 0
        service, self._service = self._service, None
        if service.poll() is None:
            os.killpg(service.pid, signal.SIGTERM)
        try:
            return service.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(service.pid, signal.SIGKILL)
            return service.wait()

    def _run_python(self, text: str) -> None:
        """After what the page's blocks before it say, as in one session."""
        self._program += text
        path = self._folder / ".block.py"
        path.write_text(self._program, encoding="utf-8")
        self._check(["python", str(path)])

    def _run_json(self, text: str) -> None:
        """One value, or one a line."""
        try:
            json.loads(text)
        except ValueError as error:
            try:
                for line in text.splitlines():
                    json.loads(line)
            except ValueError:
                raise Failed(f"not JSON: {error}") from None

    def _run_jsonnet(self, text: str) -> None:
        """
        A config, or some of its fields. Lines that are only an ellipsis hide settings: then the
        data set is given that they may hide.
        """
        from _jsonnet import evaluate_snippet

        whole = _ELLIPSIS.sub("", text)
        if _FIELD.match(whole):
            whole = f"(import 'multi_exit.libsonnet') + {{ dataset:: 'mine',\n{whole}\n}}"
        elif whole != text:
            whole = f"({whole}) + {{ dataset:: 'mine' }}"
        try:
            evaluate_snippet(
                str(self._folder / "block.jsonnet"),
                whole,
                jpathdir=[str(SETTINGS_FILE.parent)],
                ext_vars=self._variables(),
            )
        except RuntimeError as error:
            raise Failed(str(error)) from None

    def _variables(self) -> Dict[str, str]:
        """What a sweep gives a run."""
        space = read_search_space(ROOT / "training_config" / "sweep_space.jsonnet")
        return space.variables(next(iter(space.configurations())), seed=1)

    def _check(self, command: List[str]) -> None:
        try:
            done = subprocess.run(
                command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"took more than {SECONDS} seconds:\n{error.output}") from None
        if done.returncode:
            raise Failed(f"ended with {done.returncode}:\n{done.stdout[-5000:]}")


def _joined(text: str) -> str:
    """A command on several lines in one."""
    return text.replace("\\\n", " ")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10):
            return True
    except (urllib.error.URLError, OSError):
        return False

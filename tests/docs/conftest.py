"""The folder that readers of all pages begin with, made once for all processes of the tests."""

import shutil
from pathlib import Path
from typing import Callable

import pytest
from filelock import FileLock

pytest.importorskip("allennlp")

from tests.command_server import CommandServer  # noqa: E402
from tests.docs.reader import Reader  # noqa: E402
from tests.docs.workspace import write_trained, write_workspace  # noqa: E402


@pytest.fixture(scope="session")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, command_server: CommandServer, worker_id: str
) -> Path:
    """A folder with data, models and a trained archive, not to be changed."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent  # of all processes
    folder, unfinished = shared / "workspace", shared / "workspace.unfinished"
    with FileLock(shared / "workspace.lock"):
        if not folder.exists():
            write_workspace(unfinished)
            write_trained(unfinished, command_server)
            unfinished.rename(folder)
    return folder


@pytest.fixture
def make_reader(
    tmp_path: Path, workspace: Path, command_server: CommandServer
) -> Callable[[], Reader]:
    """Makes a reader in a copy of the workspace."""

    def make() -> Reader:
        folder = tmp_path / "reader"
        hidden = shutil.ignore_patterns(".tmp", ".bin")
        shutil.copytree(workspace, folder, symlinks=True, ignore=hidden)
        return Reader(folder, command_server)

    return make

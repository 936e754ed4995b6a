"""Where a job writes: a folder of this machine, or one of a store that fsspec opens by a URL."""

import fcntl
import os
from abc import ABC, abstractmethod
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Optional

import fsspec

from sledgehammer_allennlp.bulk.inputs import is_local
from sledgehammer_allennlp.files import (
    remove_unfinished,
    temporary_folder,
    write_text_whole,
    write_whole,
)

LOCK = ".lock"


class OutputFolder(ABC):
    """
    The files of a job, by their names in its folder. Each is there whole or not at all, whatever
    happens while it is written.

    # Parameters

    name : `str`
        What error messages call it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def alone(self) -> ContextManager[None]:
        """As long as this lasts no other process works in the folder, where that can be had."""

    @abstractmethod
    def names(self) -> List[str]:
        """What is directly in it, sorted, but for the lock."""

    @abstractmethod
    def sizes(self, folder: str) -> Dict[str, int]:
        """The sizes of the files in a folder of it, in bytes; none if there is no such folder."""

    @abstractmethod
    def read(self, name: str) -> Optional[str]:
        """A text, or `None` if there is none."""

    @abstractmethod
    def write(self, name: str, text: str) -> None:
        """Writes a text."""

    @abstractmethod
    def write_file(self, name: str, write: Callable[[Path], Any]) -> int:
        """Has a file be written to the path that `write` is given; its size in bytes."""

    @abstractmethod
    def records(self, name: str) -> List[str]:
        """The lines that were added to a list."""

    @abstractmethod
    def add_record(self, name: str, key: str, line: str) -> None:
        """Adds a line to a list; its key is no other line's."""


def output_folder(name: str) -> OutputFolder:
    """
    The folder of a path or a URL.

    # Raises

    ValueError
        If there are no such URLs, or what opens them is not installed.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"cannot write to '{name}': {error}") from error
    return LocalFolder(Path(path)) if is_local(filesystem) else StoreFolder(name, filesystem, path)


class LocalFolder(OutputFolder):
    """
    A folder of this machine: files are written beside and renamed. A list is a file, of which a
    line that was cut off by a kill is removed.

    # Parameters

    path : `Path`
        It is made when a job is alone in it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """
        # Raises

        ValueError
            If another process works in the folder, or nothing can be written there.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            lock = open(self._path / LOCK, "w")  # noqa: SIM115
        except OSError as error:
            raise ValueError(
                f"cannot write to '{self.name}': wanted another --output-dir. {error}"
            ) from error
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another run works in '{self.name}': wanted to be alone"
                ) from None
            yield

    def names(self) -> List[str]:
        return sorted(one.name for one in self._path.iterdir() if one.name != LOCK)

    def sizes(self, folder: str) -> Dict[str, int]:
        path = self._path / folder
        if not path.exists():
            return {}
        remove_unfinished(path)
        return {entry.name: entry.stat().st_size for entry in os.scandir(path)}

    def read(self, name: str) -> Optional[str]:
        path = self._path / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    def write(self, name: str, text: str) -> None:
        write_text_whole(self._path / name, text)

    def write_file(self, name: str, write: Callable[[Path], Any]) -> int:
        path = self._path / name
        path.parent.mkdir(exist_ok=True)
        write_whole(path, write)
        return path.stat().st_size

    def records(self, name: str) -> List[str]:
        path = self._path / f"{name}.jsonl"
        if not path.exists():
            return []
        with open(path, "rb+") as file:
            content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            file.truncate(len(whole))
        return whole.decode("utf-8", "replace").splitlines()

    def add_record(self, name: str, key: str, line: str) -> None:
        with open(self._path / f"{name}.jsonl", "ab", buffering=0) as file:
            file.write(line.encode() + b"\n")


class StoreFolder(OutputFolder):
    """
    A folder of a store. Object stores (`s3://`, `gs://`, `az://`) cannot rename or append, but an
    object appears when its upload is complete: a file is written here and then uploaded, and each
    line of a list is an object. There is no lock: two runs of a job do its work twice and write the
    same, two jobs mix.

    # Parameters

    url : `str`
    filesystem : `fsspec.AbstractFileSystem`
    path : `str`
        The URL's, in the file system.
    """

    def __init__(self, url: str, filesystem: Any, path: str) -> None:
        super().__init__(url.rstrip("/"))
        self._filesystem = filesystem
        self._path = path.rstrip("/")

    def alone(self) -> ContextManager[None]:
        return nullcontext()

    def names(self) -> List[str]:
        with self._errors("read", ""):
            return sorted(self._found("", self._filesystem.ls))

    def sizes(self, folder: str) -> Dict[str, int]:
        with self._errors("read", folder):
            found = self._found(folder, self._filesystem.find)
        return {name: info["size"] for name, info in found.items()}

    def _found(self, folder: str, look: Callable[..., Any]) -> Dict[str, Dict[str, Any]]:
        """What there is now, not what was there when it was looked at before."""
        self._filesystem.invalidate_cache()
        path = self._at(folder)
        try:
            found = look(path, detail=True)
        except FileNotFoundError:
            return {}
        infos = found.values() if isinstance(found, dict) else found
        start = len(path.rstrip("/")) + 1
        names = {info["name"].rstrip("/")[start:]: info for info in infos}
        return {name: info for name, info in names.items() if name}

    def read(self, name: str) -> Optional[str]:
        with self._errors("read", name):
            try:
                return self._filesystem.cat_file(self._at(name)).decode("utf-8")
            except FileNotFoundError:
                return None

    def write(self, name: str, text: str) -> None:
        self.write_file(name, lambda path: path.write_bytes(text.encode("utf-8")))

    def write_file(self, name: str, write: Callable[[Path], Any]) -> int:
        # Not by an open file of the store's: where writing fails it would upload what it has.
        with temporary_folder() as folder:
            path = folder / "file"
            write(path)
            with self._errors("write", name):
                self._filesystem.put_file(str(path), self._at(name))
            return path.stat().st_size

    def records(self, name: str) -> List[str]:
        paths = [self._at(f"{name}/{one}") for one in sorted(self.sizes(name))]
        if not paths:
            return []
        with self._errors("read", name):
            found = self._filesystem.cat(paths)
        return [found[path].decode("utf-8", "replace") for path in paths]

    def add_record(self, name: str, key: str, line: str) -> None:
        self.write(f"{name}/{key}.json", line)

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    @contextmanager
    def _errors(self, action: str, name: str) -> Iterator[None]:
        """Errors of stores are of their own types, and need not say what they are about."""
        try:
            yield
        except Exception as error:
            raise OSError(
                f"cannot {action} '{self.name}/{name}': {type(error).__name__}: {error}"
            ) from error

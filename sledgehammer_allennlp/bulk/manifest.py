"""What a job is, and which of its parts are done: the files that let it go on."""

import fcntl
import hashlib
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from sledgehammer_allennlp.archives.contents import find_weights
from sledgehammer_allennlp.bulk.parts import PartResult
from sledgehammer_allennlp.files import write_text_whole
from sledgehammer_allennlp.values import short_repr

MANIFEST = "manifest.json"
DONE = "done.jsonl"
LOCK = ".lock"
_FORMAT = 1


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """
    As long as this lasts no other process works in the folder, which is made if there is none.

    # Raises

    ValueError
        If another works there, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "w")  # noqa: SIM115
    except OSError as error:
        raise ValueError(
            f"cannot write to '{folder}': wanted another --output-dir. {error}"
        ) from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run works in '{folder}': wanted to be alone") from None
        yield


def begin(folder: Path, job: Dict[str, Any]) -> Dict[str, Any]:
    """
    Writes what a job is into its folder, or checks that it is the job that was begun there.

    # Parameters

    folder : `Path`
    job : `Dict[str, Any]`
        Of plain JSON; what is in a dictionary of it is compared key by key.

    # Returns

    The job as it was written when it was begun.

    # Raises

    ValueError
        If another job was begun there, with what differs.
    """
    path = folder / MANIFEST
    job = {"format": _FORMAT, **json.loads(json.dumps(job))}
    if not path.exists():
        others = sorted(one.name for one in folder.iterdir() if one.name != LOCK)
        if others:
            raise ValueError(
                f"'{folder}' has no {MANIFEST}, but {others[0]!r}: wanted an empty folder, or one "
                "of the same job"
            )
        write_text_whole(path, json.dumps(job) + "\n")
        return job
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    found = _differences(begun, job)
    if found:
        raise ValueError(
            f"'{folder}' has another job: {'; '.join(found[:5])}: wanted the same settings, or "
            "another --output-dir"
        )
    return begun


def _differences(begun: Any, now: Any, key: str = "") -> List[str]:
    if isinstance(begun, dict) and isinstance(now, dict):
        return [
            text
            for name in {**begun, **now}
            for text in _differences(
                begun.get(name), now.get(name), f"{key}.{name}" if key else name
            )
        ]
    if begun == now:
        return []
    return [f"{key} was {short_repr(begun)} and is {short_repr(now)}"]


def archive_hash(archive: str) -> str:
    """
    The SHA-256 of an archive; of a training run's folder, of its config, weights and vocabulary.
    """
    path = Path(archive)
    files = [path]
    if path.is_dir():
        vocabulary = sorted((path / "vocabulary").glob("*.txt"))
        files = [path / "config.json", find_weights(path), *vocabulary]
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as content:
            while chunk := content.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


class DoneParts:
    """
    The parts of a job that are done, one a line of a file, as they become so.

    # Parameters

    folder : `Path`
        Of the job.
    """

    def __init__(self, folder: Path) -> None:
        self.results: Dict[Tuple[int, int], PartResult] = {}
        self._path = folder / DONE
        self._read()
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115

    def _read(self) -> None:
        if not self._path.exists():
            return
        whole = 0
        with open(self._path, "rb") as file:
            for line in file:
                try:
                    result = PartResult(**json.loads(line))
                except (TypeError, ValueError):
                    break
                if not line.endswith(b"\n"):
                    break  # It was cut off when the run was killed.
                self.results[result.input_index, result.part_index] = result
                whole += len(line)
        with open(self._path, "rb+") as file:
            file.truncate(whole)

    def add(self, result: PartResult) -> None:
        """Writes that a part is done."""
        self._file.write(json.dumps(result._asdict()).encode() + b"\n")
        self.results[result.input_index, result.part_index] = result

    def forget_changed(self, sizes: Dict[Tuple[int, int], int]) -> None:
        """Forgets parts whose files are not there, or not of the size that was written."""
        self.results = {
            place: result
            for place, result in self.results.items()
            if sizes.get(place) == result.size
        }

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

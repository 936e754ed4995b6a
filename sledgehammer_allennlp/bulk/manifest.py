"""What a job is, and which of its parts are done: the files that let it go on."""

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

from sledgehammer_allennlp.archives.contents import find_weights
from sledgehammer_allennlp.bulk.output_folder import OutputFolder
from sledgehammer_allennlp.bulk.part_file import part_key
from sledgehammer_allennlp.bulk.parts import PartResult
from sledgehammer_allennlp.values import short_repr

MANIFEST = "manifest.json"
DONE = "done"
_FORMAT = 1


def begin(folder: OutputFolder, job: Dict[str, Any]) -> Dict[str, Any]:
    """
    Writes what a job is into its folder, or checks that it is the job that was begun there.

    # Parameters

    folder : `OutputFolder`
    job : `Dict[str, Any]`
        Of plain JSON; what is in a dictionary of it is compared key by key.

    # Returns

    The job as it was written when it was begun.

    # Raises

    ValueError
        If another job was begun there, with what differs.
    """
    job = {"format": _FORMAT, **json.loads(json.dumps(job))}
    written = folder.read(MANIFEST)
    if written is None:
        others = folder.names()
        if others:
            raise ValueError(
                f"'{folder.name}' has no {MANIFEST}, but {others[0]!r}: wanted an empty folder, or "
                "one of the same job"
            )
        folder.write(MANIFEST, json.dumps(job) + "\n")
        return job
    try:
        begun = json.loads(written)
    except ValueError as error:
        raise ValueError(f"cannot read {folder.name}/{MANIFEST}: {error}") from error
    found = _differences(begun, job)
    if found:
        raise ValueError(
            f"'{folder.name}' has another job: {'; '.join(found[:5])}: wanted the same settings, "
            "or another --output-dir"
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
    The parts of a job that are done, in a list of its folder, to which they are added as they
    become so.

    # Parameters

    folder : `OutputFolder`
        Of the job.
    """

    def __init__(self, folder: OutputFolder) -> None:
        self.results: Dict[Tuple[int, int], PartResult] = {}
        self._folder = folder
        for line in folder.records(DONE):
            try:
                result = PartResult(**json.loads(line))
            except (TypeError, ValueError):
                continue  # What cannot be read is not done.
            self.results[result.input_index, result.part_index] = result

    def add(self, result: PartResult) -> None:
        """Writes that a part is done."""
        key = part_key(result.input_index, result.part_index)
        self._folder.add_record(DONE, key, json.dumps(result._asdict()))
        self.results[result.input_index, result.part_index] = result

    def forget_changed(self, sizes: Dict[Tuple[int, int], int]) -> None:
        """Forgets parts whose files are not there, or not of the size that was written."""
        self.results = {
            place: result
            for place, result in self.results.items()
            if sizes.get(place) == result.size
        }

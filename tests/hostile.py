"""Copies of a trained run, to be made hostile."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any


class Hostile:
    """A copy of a trained run, to be changed."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.folder = folder / "run"
        kept = ("vocabulary", "config.json", "meta.json", "best.th")
        self.folder.mkdir(parents=True)
        for name in kept:
            copy = shutil.copytree if (run / name).is_dir() else shutil.copy
            copy(run / name, self.folder / name)
        self.config = json.loads((run / "config.json").read_text())
        (self.transformers,) = (self.folder / "vocabulary" / ".transformers").iterdir()

    def change(self, *keys_and_value: Any) -> None:
        *keys, last, value = keys_and_value
        place = self.config
        for key in keys:
            place = place[key]
        place[last] = value
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def change_pretrained(self, file: str, **settings: Any) -> None:
        path = self.transformers / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))

    def pack(self) -> str:
        archive = self.folder.parent / "model.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for path in sorted(self.folder.iterdir()):
                tar.add(path, "weights.th" if path.name == "best.th" else path.name)
        return str(archive)

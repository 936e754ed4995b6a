"""The pretrained model's files that travel in an archive: its configuration and tokenizer.

AllenNLP archives the weights, the vocabulary folder and the config, and the config names the
pretrained model; to load such an archive one needs that model too. Here its configuration and
tokenizer files are kept in a hidden folder of the vocabulary folder, which AllenNLP archives
whole and skips when it reads the vocabulary. So an archive loads with no hub and no copy of the
pretrained model.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from os import PathLike
from pathlib import Path
from typing import Any, Callable, Optional, Set, Union

from transformers import AutoTokenizer, PretrainedConfig

logger = logging.getLogger(__name__)

StrPath = Union[str, "PathLike[str]"]

_VOCABULARY = "vocabulary"
_FOLDER = ".transformers"
_UNFINISHED = ".new-"

_said_missing: Set[str] = set()

WEIGHTS_FILES = ("weights.th", "best.th")
"""Of an archive, and of a training run."""


def archived_folder(transformer_model: StrPath, serialization_dir: StrPath) -> Path:
    """Where the files of a pretrained model are kept in a serialization directory."""
    name = str(transformer_model)
    # The name may be a path: its last part is for people, the digest tells paths apart.
    digest = hashlib.sha256(name.encode("utf-8")).hexdigest()[:12]
    return Path(serialization_dir) / _VOCABULARY / _FOLDER / f"{Path(name).name}-{digest}"


def is_trained(serialization_dir: StrPath) -> bool:
    """Whether there are trained weights: in an archive or a finished run, not in a new one."""
    return any((Path(serialization_dir) / name).exists() for name in WEIGHTS_FILES)


def find_config(transformer_model: StrPath, serialization_dir: Optional[StrPath]) -> StrPath:
    """The archived folder of a pretrained model if it has a configuration, else the model."""
    return _find("config.json", transformer_model, serialization_dir)


def find_tokenizer(transformer_model: StrPath, serialization_dir: Optional[StrPath]) -> StrPath:
    """The archived folder of a pretrained model if it has a tokenizer, else the model."""
    return _find("tokenizer_config.json", transformer_model, serialization_dir)


def _find(file: str, transformer_model: StrPath, serialization_dir: Optional[StrPath]) -> StrPath:
    if serialization_dir is not None:
        folder = archived_folder(transformer_model, serialization_dir)
        if (folder / file).exists():
            return str(folder)
    return transformer_model


def warn_of_missing_folder(transformer_model: StrPath) -> None:
    """
    Says once that what looks like a folder is none, before the hub is asked for a model of this
    name: several times, for up to a minute. To be called before what asks.
    """
    name = os.fspath(transformer_model)
    parent = os.path.dirname(name)
    if parent and os.path.isdir(parent) and not os.path.exists(name) and name not in _said_missing:
        _said_missing.add(name)
        logger.warning(
            "There is no folder '%s': the Hugging Face hub is asked for a model of this name", name
        )


def keep_tokenizer(
    transformer_model: StrPath, serialization_dir: StrPath, **tokenizer_kwargs: Any
) -> None:
    """
    Writes the tokenizer of a pretrained model to its archived folder, unless it is there. A model
    that has none is left as it is.
    """
    folder = archived_folder(transformer_model, serialization_dir)
    if (folder / "tokenizer_config.json").exists():
        return
    warn_of_missing_folder(transformer_model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(transformer_model, **tokenizer_kwargs)
    except (OSError, ValueError) as error:
        logger.info("No tokenizer is kept for '%s': %s", transformer_model, error)
        return
    _save_into(folder, tokenizer.save_pretrained)


def keep_config(
    transformer_model: StrPath, serialization_dir: StrPath, config: PretrainedConfig
) -> None:
    """Writes the configuration of a pretrained model to its archived folder."""
    _save_into(archived_folder(transformer_model, serialization_dir), config.save_pretrained)


def _save_into(folder: Path, save: Callable[[str], Any]) -> None:
    """
    Has files written beside `folder` and moves them into it one by one, `tokenizer_config.json`
    last, which marks them complete: several workers may do this at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder.parent) as beside:
        save(beside)
        for file in sorted(os.listdir(beside), key=lambda name: name == "tokenizer_config.json"):
            os.replace(Path(beside) / file, folder / file)


def remove_unfinished_folders(serialization_dir: StrPath) -> None:
    """
    Removes what processes that were killed while they wrote have left, which would be archived. Not
    to be called while another worker may be writing.
    """
    for folder in (Path(serialization_dir) / _VOCABULARY / _FOLDER).glob(_UNFINISHED + "*"):
        shutil.rmtree(folder)

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
from typing import Optional, Union

from transformers import AutoConfig, AutoTokenizer

logger = logging.getLogger(__name__)

StrPath = Union[str, "PathLike[str]"]

_VOCABULARY = "vocabulary"
_FOLDER = ".transformers"


def archived_folder(transformer_model: StrPath, serialization_dir: StrPath) -> Path:
    """Where the files of a pretrained model are kept in a serialization directory."""
    name = str(transformer_model)
    # The name may be a path: its last part is for people, the digest tells paths apart.
    digest = hashlib.sha256(name.encode("utf-8")).hexdigest()[:12]
    return Path(serialization_dir) / _VOCABULARY / _FOLDER / f"{Path(name).name}-{digest}"


def has_vocabulary(serialization_dir: StrPath) -> bool:
    """Whether AllenNLP has written the vocabulary there: not yet when training starts."""
    return (Path(serialization_dir) / _VOCABULARY / "non_padded_namespaces.txt").exists()


def find_transformer_files(
    transformer_model: StrPath, serialization_dir: Optional[StrPath]
) -> StrPath:
    """The archived folder of a pretrained model if there is one, else `transformer_model`."""
    if serialization_dir is not None:
        folder = archived_folder(transformer_model, serialization_dir)
        if folder.is_dir():
            return str(folder)
    return transformer_model


def keep_transformer_files(transformer_model: StrPath, serialization_dir: StrPath) -> None:
    """
    Writes the configuration and tokenizer files of a pretrained model to its archived folder,
    unless they are there. The folder appears whole or not at all.
    """
    folder = archived_folder(transformer_model, serialization_dir)
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = tempfile.mkdtemp(prefix=".new-", dir=folder.parent)
    try:
        AutoConfig.from_pretrained(transformer_model).save_pretrained(beside)
        try:
            AutoTokenizer.from_pretrained(transformer_model).save_pretrained(beside)
        except (OSError, ValueError) as error:
            logger.info(
                "No tokenizer is kept for '%s', which has none: %s", transformer_model, error
            )
        os.chmod(beside, 0o755)
        try:
            os.rename(beside, folder)
        except OSError:
            # Another worker was faster.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)

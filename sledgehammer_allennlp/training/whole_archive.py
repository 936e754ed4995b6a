"""Has `allennlp train` write its archive and its config beside their files and rename them."""

import logging
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Any, List, Optional, Union

from allennlp.commands import train
from allennlp.common import Params

from sledgehammer_allennlp.files import write_whole
from sledgehammer_allennlp.training.model_calibration import CALIBRATION_FILE

logger = logging.getLogger(__name__)

_archive_model = train.archive_model


@wraps(_archive_model)
def archive_whole(
    serialization_dir: Union[str, "PathLike[str]"],
    weights: str = "best.th",
    archive_path: Optional[Union[str, "PathLike[str]"]] = None,
    include_in_archive: Optional[List[str]] = None,
) -> str:
    path = Path(serialization_dir if archive_path is None else archive_path)
    if path.is_dir():
        path = path / "model.tar.gz"
    write_whole(
        path, lambda beside: _archive_model(serialization_dir, weights, beside, include_in_archive)
    )
    return str(path)


@wraps(_archive_model)
def archive_training(
    serialization_dir: Union[str, "PathLike[str]"], *others: Any, **settings: Any
) -> str:
    path = archive_whole(serialization_dir, *others, **settings)
    logger.info("Written: %s", path)
    if (Path(serialization_dir) / CALIBRATION_FILE).exists():
        logger.info("Next, choose a threshold, on data that was not used here:")
        logger.info("  allennlp tradeoff %s DATA --output-dir DIR", path)
    return path


def write_config_whole(params: Params) -> None:
    """
    Has a training's parameters written beside `config.json` and renamed. `--recover` writes them
    once more, and would find no config if that was broken off.
    """
    to_file = params.to_file

    def to_file_whole(params_file: str, *others: Any) -> None:
        del params.to_file  # Workers get a copy, and it could not be sent to them.
        write_whole(Path(params_file), lambda beside: to_file(str(beside), *others))

    params.to_file = to_file_whole  # type: ignore[method-assign, assignment]


# The command has no setting for it. What is archived, and how, stays AllenNLP's.
train.archive_model = archive_training

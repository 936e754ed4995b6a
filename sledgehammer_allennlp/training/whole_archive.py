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
_write_config = Params.to_file


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
    logger.info("Written: %s", path)
    if (Path(serialization_dir) / CALIBRATION_FILE).exists():
        logger.info("Next, choose a threshold, on data that was not used here:")
        logger.info("  allennlp tradeoff %s DATA --output-dir DIR", path)
    return str(path)


@wraps(_write_config)
def write_config_whole(
    params: Params, params_file: str, preference_orders: Optional[List[List[str]]] = None
) -> None:
    # `--recover` writes it once more, and would find no config if that was broken off.
    orders: Any = preference_orders  # which AllenNLP lets be None, but does not say so
    write_whole(Path(params_file), lambda beside: _write_config(params, str(beside), orders))


# The command has no setting for it. What is archived, and how, stays AllenNLP's.
train.archive_model = archive_whole
Params.to_file = write_config_whole  # type: ignore[assignment, method-assign]

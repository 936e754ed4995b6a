"""
Keeps short what `allennlp train` prints of a `multi_exit_classifier`: which epoch begins, what this
package says of the training, and what is amiss. `out.log` has all the rest as ever. With the
environment variable `ALLENNLP_LOG_LEVEL`, of any level, or `ALLENNLP_DEBUG`, AllenNLP prints what
it logs at that level.
"""

import json
import logging
import os
import re
import sys
import warnings
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Dict, Union

from allennlp.common import logging as common_logging
from allennlp.training import util as training_util

_prepare_global_logging = common_logging.prepare_global_logging
_description_from_metrics = training_util.description_from_metrics

_SAYS_WHAT_MATTERS = "sledgehammer_allennlp.training."
_TRAINER = "allennlp.training.gradient_descent_trainer"
_IS_EPOCH = re.compile(r"Epoch \d+/\d+")
_OF_NO_USE = (
    # The tokenizer is there, which this package keeps beside the vocabulary.
    "vocabulary serialization directory",
    "You provided a validation dataset but patience was set to None",
)


def _is_verbosity_chosen() -> bool:
    return bool(os.environ.get("ALLENNLP_LOG_LEVEL") or os.environ.get("ALLENNLP_DEBUG"))


def _matters(record: logging.LogRecord) -> bool:
    if record.levelno >= logging.WARNING:
        return not record.getMessage().startswith(_OF_NO_USE)
    if record.name == _TRAINER:
        return _IS_EPOCH.fullmatch(record.getMessage()) is not None
    return record.name.startswith(_SAYS_WHAT_MATTERS)


class _WithoutOrigin(logging.Formatter):
    """The message alone, which names its level if that is not INFO."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno == logging.INFO else f"{record.levelname}: {text}"


def _shorten(serialization_dir: Path) -> None:
    """Has the console show what matters, if the training in a folder is of our model."""
    try:
        config = json.loads((serialization_dir / "config.json").read_text(encoding="utf-8"))
        is_ours = config["model"]["type"] == "multi_exit_classifier"
    except (OSError, ValueError, LookupError, TypeError):
        return
    if not is_ours or _is_verbosity_chosen():
        return
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.addFilter(_matters)
            handler.setFormatter(_WithoutOrigin())
    # What libraries say of AllenNLP's code is nothing that who trains can change.
    for library in ("allennlp", "torch", "transformers"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=library)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.optim")


@wraps(_prepare_global_logging)
def prepare_short_logging(
    serialization_dir: Union[str, "PathLike[str]"], rank: int = 0, world_size: int = 1
) -> None:
    _prepare_global_logging(serialization_dir, rank=rank, world_size=world_size)
    _shorten(Path(serialization_dir))


@wraps(_description_from_metrics)
def describe_shortly(metrics: Dict[str, float]) -> str:
    if "mean_exit_accuracy" not in metrics or _is_verbosity_chosen():
        return _description_from_metrics(metrics)
    shown = [name for name in ("accuracy", "loss") if name in metrics]
    return ", ".join(f"{name}: {metrics[name]:.4f}" for name in shown) + " ||"


# The command has no setting for them.
common_logging.prepare_global_logging = prepare_short_logging
training_util.description_from_metrics = describe_shortly

# Workers of a distributed training import packages after they have prepared their log.
for _handler in logging.getLogger().handlers:
    if isinstance(_handler, logging.FileHandler) and "out_worker" in _handler.baseFilename:
        _shorten(Path(_handler.baseFilename).parent)

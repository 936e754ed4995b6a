"""Loading an archive for AllenNLP, without running what others may have put into it."""

import logging
import os
from typing import Any, Dict, List, Union

from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.models.archival import Archive, load_archive

from sledgehammer_allennlp import archives
from sledgehammer_allennlp.archives.check import ArchiveCheck, check_folder
from sledgehammer_allennlp.archives.extraction import archive_folder
from sledgehammer_allennlp.models.config_class_check import check_config
from sledgehammer_allennlp.models.multi_exit_classifier import MultiExitClassifier

logger = logging.getLogger(__name__)


def check_archive(archive_file: Union[str, "os.PathLike[str]"]) -> ArchiveCheck:
    """
    What would be run if AllenNLP loaded an archive, found without running it.

    # Parameters

    archive_file : `str`
        A `model.tar.gz`, or the folder of a training run; or a URL.
    """
    try:
        return archives.check_archive(cached_path(archive_file), check_config)
    except (OSError, ValueError) as error:
        return ArchiveCheck({}, {}, [str(error)])


def load_checked_archive(
    archive_file: Union[str, "os.PathLike[str]"],
    cuda_device: int = -1,
    overrides: Union[str, Dict[str, Any]] = "",
    trust: bool = False,
) -> Archive:
    """
    AllenNLP's `load_archive` for archives of a `multi_exit_classifier` from anybody.

    Files are written into a temporary folder only, weights are read as tensors, and nothing is
    made but objects of classes that are registered already: see `models.config_class_check`.

    # Parameters

    archive_file, cuda_device, overrides
        As for `load_archive`. Overrides are yours and not checked.
    trust : `bool`, optional (default = `False`)
        Whether to load an archive whose config names other classes, or whose tokenizer is a
        program, too. What is then run is logged. Files and weights are read with care all the same.

    # Raises

    ConfigurationError
        If the archive cannot be read, should not be loaded, or is not of a multi_exit_classifier.
    """
    try:
        with archive_folder(cached_path(archive_file)) as folder:
            problems = check_folder(folder, check_config, with_weights=False).problems
            if problems and not trust:
                raise ConfigurationError(refusal(archive_file, problems))
            for problem in problems:
                logger.warning("'%s' is trusted, although %s", archive_file, problem)
            archive = _load(folder, archive_file, cuda_device, overrides)
    except (OSError, ValueError) as error:
        raise ConfigurationError(str(error)) from error
    if not isinstance(archive.model, MultiExitClassifier):
        raise ConfigurationError(
            f"'{archive_file}' has a model of class {type(archive.model).__name__}: wanted a "
            "multi_exit_classifier"
        )
    return archive


def _load(folder: Any, archive_file: Any, cuda_device: int, overrides: Any) -> Archive:
    """By AllenNLP, with errors in our words where it meets what it does not expect."""
    try:
        return load_archive(folder, cuda_device=cuda_device, overrides=overrides)
    except Exception as error:
        text = str(error) if len(str(error)) <= 4000 else f"{str(error)[:4000]} …"
        if isinstance(error, ConfigurationError) and "wanted" in text:
            raise
        raise ConfigurationError(
            f"'{archive_file}' cannot be loaded: wanted an archive as AllenNLP writes it. "
            f"{type(error).__name__}: {text}"
        ) from error


def refusal(archive_file: Any, problems: List[str]) -> str:
    """Why an archive is not loaded, and what to do."""
    reasons = "".join(f"\n- {problem}" for problem in problems)
    return (
        f"'{archive_file}' is not loaded, because loading it could run code or read files that it "
        f"names:{reasons}\nIf you know who made it, --trust-archive, in Python trust=True, loads it"
    )

"""Checking an archive: what it has, and whether loading it would run code."""

from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

from sledgehammer_allennlp.archives.contents import find_weights, read_config, settings_of_model
from sledgehammer_allennlp.archives.extraction import archive_folder
from sledgehammer_allennlp.archives.reader_tokenizer import tokenizer_of_reader
from sledgehammer_allennlp.archives.safety_checks import check_contents, check_model_files
from sledgehammer_allennlp.encoders.archived_files import StrPath
from sledgehammer_allennlp.weights_file import read_weights


class ConfigCheck(NamedTuple):
    """What a config would make: its classes by key, and what is wrong with it."""

    classes: Dict[str, str]
    problems: List[str]


class ArchiveCheck(NamedTuple):
    """
    What an archive has, and why it should not be loaded, if there is any reason.

    # Parameters

    files : `Dict[str, int]`
        The size of each, in bytes.
    classes : `Dict[str, str]`
        What is called when it is loaded, by key of the config.
    problems : `List[str]`
        The reasons.
    """

    files: Dict[str, int]
    classes: Dict[str, str]
    problems: List[str]


CheckConfig = Callable[[Dict[str, Any], Path], ConfigCheck]
"""A check of a config, and of the pretrained model's files in the folder of its archive."""


def check_config_without_allennlp(config: Dict[str, Any], folder: Path) -> ConfigCheck:
    """What `load_archived_classifier` makes of a config, and what is wrong with that."""
    classes: Dict[str, str] = {}
    problems: List[str] = []
    try:
        model = settings_of_model(config)
        problems += check_model_files(model["transformer_model"], folder)
        classes["model"] = f"{model['type']} (ArchivedClassifier)"
    except (OSError, ValueError) as error:
        problems.append(str(error))
    try:
        tokenizer = tokenizer_of_reader(config)
        if tokenizer is not None:
            problems += [one for one in tokenizer.problems(folder) if one not in problems]
            classes["dataset_reader.tokenizer"] = "pretrained_transformer (of transformers)"
    except (OSError, ValueError) as error:
        problems.append(str(error))
    return ConfigCheck(classes, problems)


def check_archive(
    archive: StrPath, check_config: CheckConfig = check_config_without_allennlp
) -> ArchiveCheck:
    """
    What would be run if an archive were loaded, found without running it.

    # Parameters

    archive : `str`
        A `model.tar.gz`, or the folder of a training run.
    check_config : `CheckConfig`, optional (default = for `load_archived_classifier`)
        How its config is checked.
    """
    try:
        with archive_folder(archive) as folder:
            return check_folder(folder, check_config, with_weights=True)
    except (OSError, ValueError) as error:
        return ArchiveCheck({}, {}, [str(error)])


def check_folder(folder: Path, check_config: CheckConfig, with_weights: bool) -> ArchiveCheck:
    """What `check_archive` gives, for a folder; `with_weights`: whether weights are read, too."""
    files = {
        str(file.relative_to(folder)): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    try:
        config = read_config(folder)
    except ValueError as error:
        return ArchiveCheck(files, {}, [str(error)])
    found = check_config(config, folder)
    problems = check_contents(folder, config) + found.problems
    if with_weights:
        try:
            read_weights(find_weights(folder), "weights.th")
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
    return ArchiveCheck(files, found.classes, problems)

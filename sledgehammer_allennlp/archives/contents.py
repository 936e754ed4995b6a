"""What is in the folder of an archive: its config, its model's settings, its weights."""

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

from sledgehammer_allennlp.encoders.archived_files import WEIGHTS_FILES
from sledgehammer_allennlp.files import check_regular
from sledgehammer_allennlp.values import short_repr

MODEL_TYPE = "multi_exit_classifier"

MAX_DEPTH = 100
"""Lists and dictionaries of JSON in each other."""

MAX_JSON_BYTES = 200 << 20
"""A large vocabulary takes 20 MB; Python takes ten times the memory for a moment."""


def read_config(folder: Path) -> Dict[str, Any]:
    """
    The config of an archive's folder, which AllenNLP writes as plain JSON.

    # Raises

    ValueError
        If it is anything else, such as a jsonnet program, which could read files.
    """
    return read_json(folder / "config.json")


def dictionary_in(settings: Dict[str, Any], key: str, where: str = "") -> Dict[str, Any]:
    """
    A dictionary in a config; an empty one if there is none, or null.

    # Parameters

    settings : `Dict[str, Any]`
    key : `str`
    where : `str`, optional (default = the config itself)
        The key of `settings` in the config, for the error message.

    # Raises

    ValueError
        If there is something else.
    """
    found = settings.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        name = f"{where}.{key}" if where else key
        raise ValueError(f"config key {name} is {short_repr(found)}: wanted a dictionary")
    return found


def settings_of_model(config: Dict[str, Any]) -> Dict[str, Any]:
    """
    What a config has at the key `model`.

    # Raises

    ValueError
        If that is not a `multi_exit_classifier` with its `transformer_model`.
    """
    settings = dictionary_in(config, "model")
    if settings.get("type") == "from_archive":
        raise ValueError(
            "the archive's model is of type 'from_archive', of "
            f"'{settings.get('archive_file')}': only that archive has its settings, and labels "
            "may be in another order. Wanted a model trained further by a config of its own, with "
            "an initializer of type 'pretrained', or AllenNLP's load_archive"
        )
    if settings.get("type") != MODEL_TYPE:
        raise ValueError(
            f"the archive's model is of type '{settings.get('type')}': wanted '{MODEL_TYPE}'"
        )
    if "transformer_model" not in settings:
        raise ValueError("the archive's config has no key model.transformer_model")
    if not isinstance(settings["transformer_model"], str):
        raise ValueError(
            "config key model.transformer_model is "
            f"{short_repr(settings['transformer_model'])}: wanted a name"
        )
    return settings


def find_weights(folder: Path) -> Path:
    """
    The file of weights in an archive's folder, or in that of a training run.

    # Raises

    ValueError
        If there is none.
    """
    for name in WEIGHTS_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"found no weights: wanted one of {', '.join(WEIGHTS_FILES)}")


def read_json(file: Path) -> Dict[str, Any]:
    """
    A dictionary from a JSON file of an archive.

    # Raises

    ValueError
        If there is no such file, it is very large, has a key twice, or has anything else.
    """
    try:
        check_regular(str(file))
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"It has {file.stat().st_size:,} bytes: wanted {MAX_JSON_BYTES:,}.")
        text = file.read_text(encoding="utf-8")
        found = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_no_constant)
        _check_depth(found if isinstance(found, (dict, list)) else {})
    except OSError as error:
        raise ValueError(f"the archive has no {file.name}. {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"the archive's {file.name} is not plain JSON, as AllenNLP writes it: it may be a "
            f"program; wanted a dictionary. {error}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"the archive's {file.name} is a {type(found).__name__}: wanted a dictionary"
        )
    return found


def _without_doubles(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """Of a key that is there twice, one reader would take the first and another the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"It has the key {short_repr(double)} twice: wanted it once.")
    return found


def _check_depth(found: Any) -> None:
    """What goes through it later calls itself for each level."""
    level = [found]
    for _ in range(MAX_DEPTH):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [part for parts in inner for part in parts if isinstance(part, (dict, list))]
        if not level:
            return
    raise ValueError(f"It is nested more than {MAX_DEPTH} times: wanted less.")


def _no_constant(name: str) -> Any:
    raise ValueError(f"It has the number {name}: wanted numbers of JSON.")

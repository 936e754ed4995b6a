"""Pretrained weights, from safetensors files too where the transformers library cannot read them.

Before its version 4.22 it reads only files that `torch.save` wrote, and many models of today have
none.
"""

import json
from os import PathLike
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

import transformers
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

HAS_SAFETENSORS = hasattr(transformers.utils, "SAFE_WEIGHTS_NAME")
"""Whether the transformers library reads safetensors files by itself."""

FolderOrName = Union[str, "PathLike[str]"]


def load_pretrained(
    folder_or_name: FolderOrName, config: PretrainedConfig
) -> Tuple[PreTrainedModel, Dict[str, Any]]:
    """
    A model with its pretrained weights, and what the transformers library says of keys that are
    missing or too many.

    # Raises

    OSError
        If there is no such model, or it has no weights.
    ValueError
        If a file of weights, or the one that names them, cannot be read.
    """
    try:
        return _load(folder_or_name, config)
    except SafetensorError as error:
        raise ValueError(f"a file of its weights is not whole: {error}") from error
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(
            "the file that names its files of weights is not as the transformers library writes "
            f"it: {type(error).__name__}: {error}"
        ) from error


def _load(
    folder_or_name: FolderOrName, config: PretrainedConfig
) -> Tuple[PreTrainedModel, Dict[str, Any]]:
    try:
        return AutoModel.from_pretrained(folder_or_name, config=config, output_loading_info=True)
    except OSError:
        state = None if HAS_SAFETENSORS else _safetensors_state(folder_or_name)
        if state is None:
            raise
    return AutoModel.from_pretrained(
        None, config=config, state_dict=state, output_loading_info=True
    )


def _safetensors_state(folder_or_name: FolderOrName) -> Optional[Dict[str, Any]]:
    """The state dict in a model's safetensors files, or `None` if it has none."""
    file = _find(folder_or_name, "model.safetensors")
    if file is not None:
        return _read(file)
    index = _find(folder_or_name, "model.safetensors.index.json")
    if index is None:
        return None
    state: Dict[str, Any] = {}
    for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())):
        file = _find(folder_or_name, name)
        if file is None:
            raise ValueError(f"'{index}' names the file '{name}', which is missing")
        state.update(_read(file))
    return state


def _read(file: Path) -> Dict[str, Any]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"'{file}' is not a whole safetensors file: {error}") from error


def _find(folder_or_name: FolderOrName, file: str) -> Optional[Path]:
    """A file of a model, or `None` if there is none."""
    if Path(folder_or_name).is_dir():
        path = Path(folder_or_name) / file
        return path if path.exists() else None
    try:
        return Path(hf_hub_download(str(folder_or_name), file))
    except (OSError, ValueError):  # Of these are the errors of a hub without such a file.
        return None

"""Loading a pretrained transformer, by its name or from a folder."""

from os import PathLike
from typing import Optional, Union

from transformers import AutoConfig, AutoModel, PretrainedConfig

from sledgehammer_allennlp.encoders.archived_files import warn_of_missing_folder
from sledgehammer_allennlp.encoders.families import family_of
from sledgehammer_allennlp.encoders.layered_encoder import HAS_PRETRAINED_POOLER, LayeredEncoder
from sledgehammer_allennlp.encoders.onnx_layers import AUTO
from sledgehammer_allennlp.encoders.pretrained_weights import load_pretrained


def load_encoder(
    transformer_model: Union[str, "PathLike[str]"],
    config_folder: Optional[Union[str, "PathLike[str]"]] = None,
    load_weights: bool = True,
    num_layers: Optional[int] = None,
    keep_pooler: bool = True,
    precision: str = "float32",
    runtime: str = AUTO,
) -> LayeredEncoder:
    """
    A `LayeredEncoder` from a Hugging Face name or a local folder.

    # Parameters

    transformer_model : `str`
        A Hugging Face name or a local folder.
    config_folder : `str`, optional (default = `transformer_model`)
        Where to read the configuration instead.
    load_weights : `bool`, optional (default = `True`)
        Whether to read the pretrained weights; if not, the weights are random, to be overwritten.
    num_layers, keep_pooler, precision, runtime
        See `LayeredEncoder`.

    # Raises

    ValueError
        If there is no such model, it has no weights, or its architecture is not supported.
    """
    config = load_config(config_folder or transformer_model)
    family_of(config)
    if num_layers is not None and not 1 <= num_layers <= config.num_hidden_layers:
        raise ValueError(
            f"num_layers is {num_layers}: wanted 1 to {config.num_hidden_layers}, "
            f"the layers of '{transformer_model}'"
        )
    if not load_weights:
        transformer = AutoModel.from_config(config)
    else:
        try:
            transformer, loading = load_pretrained(transformer_model, config)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"cannot read pretrained weights from transformer_model '{transformer_model}': "
                f"wanted a Hugging Face name or a folder with weights. {error}"
            ) from error
        if any("pooler" in name.split(".") for name in loading["missing_keys"]):
            setattr(transformer.config, HAS_PRETRAINED_POOLER, False)
    return LayeredEncoder(transformer, num_layers, keep_pooler, precision, runtime)


def num_layers_of(folder_or_name: Union[str, "PathLike[str]"]) -> int:
    """How many layers a pretrained model has; raises as `load_encoder` does."""
    config = load_config(folder_or_name)
    family_of(config)
    return config.num_hidden_layers


def load_config(folder_or_name: Union[str, "PathLike[str]"]) -> PretrainedConfig:
    """
    The configuration of a pretrained model.

    # Raises

    ValueError
        If there is no such model.
    """
    warn_of_missing_folder(folder_or_name)
    try:
        return AutoConfig.from_pretrained(folder_or_name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"cannot read the configuration of transformer_model '{folder_or_name}': wanted a "
            f"Hugging Face name or a folder with a config.json. {error}"
        ) from error

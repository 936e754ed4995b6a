"""What the encoder has to know of a family of pretrained models."""

from dataclasses import dataclass
from typing import Callable, List, Optional

import torch
from transformers import PretrainedConfig, PreTrainedModel

from sledgehammer_allennlp.encoders.layer_parts import LayerParts

IN_EMBEDDINGS = "in the embeddings"
"""Positions of such families are added before layer 0, and only there."""


def _max_position_embeddings(config: PretrainedConfig) -> int:
    number: int = config.max_position_embeddings
    return number


@dataclass(frozen=True)
class Family:
    """
    How to read one family of pretrained models.

    # Parameters

    title : its name in the documentation.
    layers : one `LayerParts` for each layer that the model has, first to last.
    embed : `(transformer, token_ids, type_ids, positions) -> hidden states` before layer 0; all of
        shape `(num_tokens,)`, positions as this family numbers them; hidden states
        `(num_tokens, hidden_size)`.
    drop_layers : removes the modules that only layers from `keep` on use.
    pool : the pretrained pooler, from a first token's output, both of shape
        `(batch_size, hidden_size)`; `None` for a family that has none.
    number_positions : `(transformer, token_ids, positions) -> positions`, from those that are
        counted from 0 in each text; `None` where they are the same.
    is_embedding_a_norm : whether what `embed` gives is the norm of the sum of embeddings, and
        nothing else, see `few_token_embedding`.
    last_norm : the norm after the last layer, of a family of pre-norm layers: exits see hidden
        states through it; `None` for a family of post-norm layers.
    max_positions : the largest number of tokens, special ones included, that the model takes.
    positions : how they enter, in a few words, for the documentation.
    since : the first version of the transformers library that has it, as far as it is known;
        `None` where all have it.
    check : what of a configuration is not supported, in words; `None` if nothing.
    """

    title: str
    layers: Callable[[PreTrainedModel], List[LayerParts]]
    embed: Callable[[PreTrainedModel, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    drop_layers: Callable[[PreTrainedModel, int], None]
    pool: Optional[Callable[[PreTrainedModel, torch.Tensor], torch.Tensor]] = None
    number_positions: Optional[
        Callable[[PreTrainedModel, torch.Tensor, torch.Tensor], torch.Tensor]
    ] = None
    is_embedding_a_norm: bool = False
    last_norm: Optional[Callable[[PreTrainedModel], torch.nn.Module]] = None
    max_positions: Callable[[PretrainedConfig], int] = _max_position_embeddings
    positions: str = IN_EMBEDDINGS
    since: Optional[str] = None
    check: Optional[Callable[[PretrainedConfig], Optional[str]]] = None

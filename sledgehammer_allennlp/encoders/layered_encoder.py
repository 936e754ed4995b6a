"""A pretrained transformer that runs one layer at a time, and each layer in two steps.

A layer's first token can be had before its other tokens, for about a sixth of the layer's work:
it needs the keys and values of all tokens, but queries, attention and feed-forward for itself
alone. An exit looks only at first tokens, so instances that leave never pay for the rest.
"""

import math
from os import PathLike
from typing import Optional, Tuple, Union

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from sledgehammer_allennlp.encoders.families import (
    LayerParts,
    family_of,
    feed_forward_size_of,
    max_positions_of,
)
from sledgehammer_allennlp.encoders.truncation import truncate_to_positions

KeysValues = Tuple[torch.Tensor, torch.Tensor]

HAS_PRETRAINED_POOLER = "has_pretrained_pooler"
"""A key added to the model's configuration when its checkpoint turns out to have no pooler."""

_HAS_FUSED_ATTENTION = hasattr(F, "scaled_dot_product_attention")


class LayeredEncoder(nn.Module):
    """
    A pretrained transformer, one layer at a time.

    Running `embed` and then `layer(0)`, `layer(1)`, … gives the hidden states that the
    transformers library's own forward gives.

    # Parameters

    transformer : `PreTrainedModel`
        A model of one of the supported families, see `families.FAMILIES`.
    num_layers : `int`, optional (default = all layers of the model)
        Layers from this one on are removed from the model.
    keep_pooler : `bool`, optional (default = `True`)
        Whether the pretrained pooler, if there is one, stays in the model.

    # Raises

    ValueError
        If the model's architecture is not supported.
    """

    def __init__(
        self,
        transformer: PreTrainedModel,
        num_layers: Optional[int] = None,
        keep_pooler: bool = True,
    ) -> None:
        super().__init__()
        config = transformer.config
        self._family = family_of(config)
        self.transformer = transformer
        self._add_residual = _AddResidual()
        self.num_layers: int = config.num_hidden_layers if num_layers is None else num_layers
        self.hidden_size: int = config.hidden_size
        self.num_heads: int = config.num_attention_heads
        self.head_size: int = config.hidden_size // config.num_attention_heads
        self.feed_forward_size: int = feed_forward_size_of(config)
        self.max_positions: int = max_positions_of(config)
        self._layers = self._family.layers(transformer)[: self.num_layers]
        self._family.drop_layers(transformer, self.num_layers)
        self.has_pooler = (
            keep_pooler
            and self._family.pool is not None
            and getattr(config, HAS_PRETRAINED_POOLER, True)
        )
        if not self.has_pooler and self._family.pool is not None:
            transformer.pooler = None

    @property
    def first_token_share(self) -> float:
        """
        The share of a layer's work that its first token alone takes: the key and value
        projections of all tokens. 1/6 for the usual feed-forward size of four hidden sizes.
        Products are counted; attention scores, which depend on the length, are not.
        """
        projections = 2 * self.hidden_size**2
        return projections / (2 * projections + 2 * self.hidden_size * self.feed_forward_size)

    def fit(
        self, token_ids: torch.Tensor, mask: torch.Tensor, type_ids: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Truncates texts that are longer than the model has positions, see
        `truncation.truncate_to_positions`, and gives texts without any token one token of padding.
        All tensors are `(batch_size, num_tokens)`.
        """
        if token_ids.size(1) == 0:
            token_ids, mask, type_ids = (F.pad(x, (0, 1)) for x in (token_ids, mask, type_ids))
        has_tokens = mask.any(dim=1, keepdim=True)
        mask = torch.cat([mask[:, :1] | ~has_tokens, mask[:, 1:]], dim=1)
        return truncate_to_positions(token_ids, mask, type_ids, self.max_positions)

    def embed(self, token_ids: torch.Tensor, type_ids: torch.Tensor) -> torch.Tensor:
        """
        What enters layer 0.

        # Parameters

        token_ids, type_ids : `torch.Tensor`
            Both `(batch_size, num_tokens)`, of integers, padded on the right.

        # Returns

        `torch.Tensor`
            `(batch_size, num_tokens, hidden_size)`
        """
        return self._family.embed(self.transformer, token_ids, type_ids)

    def layer(self, i: int, hidden: torch.Tensor, mask: Optional[torch.Tensor]) -> torch.Tensor:
        """
        The output of layer `i` for all tokens.

        # Parameters

        i : `int`
        hidden : `torch.Tensor`
            What enters the layer, `(batch_size, num_tokens, hidden_size)`.
        mask : `torch.Tensor`, optional
            `(batch_size, num_tokens)`, true where there is a token; `None` if there is no padding.

        # Returns

        `torch.Tensor`
            `(batch_size, num_tokens, hidden_size)`
        """
        return self.rows(i, hidden, self.keys_values(i, hidden), mask)

    def keys_values(self, i: int, hidden: torch.Tensor) -> KeysValues:
        """Layer `i`'s keys and values for all tokens, each of the shape of `hidden`."""
        layer = self._layers[i]
        return layer.key(hidden), layer.value(hidden)

    def rows(
        self,
        i: int,
        rows: torch.Tensor,
        keys_values: KeysValues,
        mask: Optional[torch.Tensor],
    ) -> torch.Tensor:
        """
        The output of layer `i` for some of the tokens.

        # Parameters

        i : `int`
        rows : `torch.Tensor`
            What enters the layer at these tokens, `(batch_size, num_rows, hidden_size)`.
        keys_values : `KeysValues`
            From `keys_values(i, hidden)`, of all tokens.
        mask : `torch.Tensor`, optional
            `(batch_size, num_tokens)`, true where there is a token; `None` if there is no padding.

        # Returns

        `torch.Tensor`
            `(batch_size, num_rows, hidden_size)`
        """
        layer = self._layers[i]
        context = self._attend(layer, layer.query(rows), keys_values, mask)
        context = layer.attention_output(context)
        attended = layer.attention_norm(self._add_residual(context, rows, layer.hidden_dropout))
        output = layer.feed_forward_out(layer.activation(layer.feed_forward_in(attended)))
        return layer.output_norm(self._add_residual(output, attended, layer.output_dropout))

    def pool(self, first_token: torch.Tensor) -> torch.Tensor:
        """The pretrained pooler's output, from and to `(batch_size, hidden_size)`."""
        if not self.has_pooler or self._family.pool is None:
            raise ValueError("this encoder has no pretrained pooler")
        return self._family.pool(self.transformer, first_token)

    def _attend(
        self,
        layer: LayerParts,
        queries: torch.Tensor,
        keys_values: KeysValues,
        mask: Optional[torch.Tensor],
    ) -> torch.Tensor:
        query, key, value = (
            x.view(*x.shape[:-1], self.num_heads, self.head_size).transpose(1, 2)
            for x in (queries, *keys_values)
        )  # each (batch, heads, rows or tokens, head size)
        attention_mask = None if mask is None else mask[:, None, None, :]
        dropout = layer.attention_dropout if self.training else 0.0
        if _HAS_FUSED_ATTENTION:
            context = F.scaled_dot_product_attention(
                query, key, value, attn_mask=attention_mask, dropout_p=dropout
            )
        else:
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.size(-1))
            if attention_mask is not None:
                scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
            context = F.dropout(scores.softmax(-1), dropout) @ value
        return context.transpose(1, 2).flatten(2)


class _AddResidual(nn.Module):
    """
    `dropout(output) + residual`. A module, because AllenNLP's check of the order in which modules
    run must see that between a linear layer with bias and a normalization there is a sum.
    """

    def forward(self, output: torch.Tensor, residual: torch.Tensor, p: float) -> torch.Tensor:
        if self.training and p > 0:
            output = F.dropout(output, p)
        return output + residual


def load_encoder(
    transformer_model: Union[str, "PathLike[str]"],
    config_folder: Optional[Union[str, "PathLike[str]"]] = None,
    load_weights: bool = True,
    num_layers: Optional[int] = None,
    keep_pooler: bool = True,
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
    num_layers, keep_pooler
        See `LayeredEncoder`.

    # Raises

    ValueError
        If there is no such model, it has no weights, or its architecture is not supported.
    """
    config = _load_config(config_folder or transformer_model)
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
            transformer, loading = AutoModel.from_pretrained(
                transformer_model, config=config, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"cannot read pretrained weights from transformer_model '{transformer_model}': "
                f"wanted a Hugging Face name or a folder with weights. {error}"
            ) from error
        if any("pooler" in name.split(".") for name in loading["missing_keys"]):
            setattr(transformer.config, HAS_PRETRAINED_POOLER, False)
    return LayeredEncoder(transformer, num_layers, keep_pooler)


def num_layers_of(folder_or_name: Union[str, "PathLike[str]"]) -> int:
    """How many layers a pretrained model has; raises as `load_encoder` does."""
    config = _load_config(folder_or_name)
    family_of(config)
    return config.num_hidden_layers


def _load_config(folder_or_name: Union[str, "PathLike[str]"]) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder_or_name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"cannot read the configuration of transformer_model '{folder_or_name}': wanted a "
            f"Hugging Face name or a folder with a config.json. {error}"
        ) from error

"""Which transformer families are supported, and where each one keeps the parts of a layer.

Every supported family computes the same layer, the post-norm layer of BERT:

    attended = norm_1(x + dropout(W_o · attention(W_q x, W_k x, W_v x)))
    output   = norm_2(attended + dropout(W_2 · activation(W_1 · attended)))

They differ in what they call the parts and in what happens before layer 0. This module is the
only one that knows those names.
"""

from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Optional

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


@dataclass
class LayerParts:
    """
    The modules and settings of one post-norm transformer layer.

    The modules belong to the pretrained model; several layers may share them (ALBERT).
    """

    query: nn.Module
    key: nn.Module
    value: nn.Module
    attention_output: nn.Module
    attention_norm: nn.Module
    feed_forward_in: nn.Module
    activation: Callable[[torch.Tensor], torch.Tensor]
    activation_name: str
    """As the transformers library names it."""
    feed_forward_out: nn.Module
    output_norm: nn.Module
    attention_dropout: float
    """On the attention weights."""
    hidden_dropout: float
    """On the output of the attention, before it is added."""
    output_dropout: float
    """On the output of the feed-forward part, before it is added."""

    def modules(self) -> List[nn.Module]:
        """The modules that have weights."""
        return [*self.linears(), self.attention_norm, self.output_norm]

    def linears(self) -> List[nn.Module]:
        """Those of them that are matrix products."""
        return [
            self.query,
            self.key,
            self.value,
            self.attention_output,
            self.feed_forward_in,
            self.feed_forward_out,
        ]


@dataclass(frozen=True)
class Family:
    """
    How to read one family of pretrained models.

    # Parameters

    layers : one `LayerParts` for each layer that is to be kept, first to last.
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
    """

    layers: Callable[[PreTrainedModel], List[LayerParts]]
    embed: Callable[[PreTrainedModel, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    drop_layers: Callable[[PreTrainedModel, int], None]
    pool: Optional[Callable[[PreTrainedModel, torch.Tensor], torch.Tensor]] = None
    number_positions: Optional[
        Callable[[PreTrainedModel, torch.Tensor, torch.Tensor], torch.Tensor]
    ] = None
    is_embedding_a_norm: bool = True


def _bert_layers(transformer: PreTrainedModel) -> List[LayerParts]:
    config = transformer.config
    return [
        LayerParts(
            query=layer.attention.self.query,
            key=layer.attention.self.key,
            value=layer.attention.self.value,
            attention_output=layer.attention.output.dense,
            attention_norm=layer.attention.output.LayerNorm,
            feed_forward_in=layer.intermediate.dense,
            activation=layer.intermediate.intermediate_act_fn,
            activation_name=config.hidden_act,
            feed_forward_out=layer.output.dense,
            output_norm=layer.output.LayerNorm,
            attention_dropout=config.attention_probs_dropout_prob,
            hidden_dropout=config.hidden_dropout_prob,
            output_dropout=config.hidden_dropout_prob,
        )
        for layer in transformer.encoder.layer
    ]


def _distilbert_layers(transformer: PreTrainedModel) -> List[LayerParts]:
    config = transformer.config
    return [
        LayerParts(
            query=layer.attention.q_lin,
            key=layer.attention.k_lin,
            value=layer.attention.v_lin,
            attention_output=layer.attention.out_lin,
            attention_norm=layer.sa_layer_norm,
            feed_forward_in=layer.ffn.lin1,
            activation=layer.ffn.activation,
            activation_name=config.activation,
            feed_forward_out=layer.ffn.lin2,
            output_norm=layer.output_layer_norm,
            attention_dropout=config.attention_dropout,
            hidden_dropout=0.0,
            output_dropout=config.dropout,
        )
        for layer in transformer.transformer.layer
    ]


def _albert_layers(transformer: PreTrainedModel) -> List[LayerParts]:
    config = transformer.config
    parts = []
    for i in range(config.num_hidden_layers):
        group = int(i / (config.num_hidden_layers / config.num_hidden_groups))
        layer = transformer.encoder.albert_layer_groups[group].albert_layers[0]
        parts.append(
            LayerParts(
                query=layer.attention.query,
                key=layer.attention.key,
                value=layer.attention.value,
                attention_output=layer.attention.dense,
                attention_norm=layer.attention.LayerNorm,
                feed_forward_in=layer.ffn,
                activation=layer.activation,
                activation_name=config.hidden_act,
                feed_forward_out=layer.ffn_output,
                output_norm=layer.full_layer_layer_norm,
                attention_dropout=config.attention_probs_dropout_prob,
                hidden_dropout=config.hidden_dropout_prob,
                output_dropout=0.0,
            )
        )
    return parts


def _embed_bert(
    transformer: PreTrainedModel,
    token_ids: torch.Tensor,
    type_ids: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    # Some models have one type only; their tokenizers give zeros, other tokenizers may not.
    type_ids = type_ids.clamp(max=transformer.config.type_vocab_size - 1)
    return transformer.embeddings(
        input_ids=token_ids.unsqueeze(0),
        token_type_ids=type_ids.unsqueeze(0),
        position_ids=positions.unsqueeze(0),
    ).squeeze(0)


def _roberta_positions(
    transformer: PreTrainedModel, token_ids: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """
    These count positions from padding_idx + 1, and padding, which a text may contain as a token,
    has none of its own.
    """
    padding_idx = transformer.config.pad_token_id
    counts = (token_ids != padding_idx).long()
    counted = counts.cumsum(0)
    starts = torch.arange(token_ids.numel(), device=token_ids.device) - positions
    counted_before = counted[starts] - counts[starts]
    return (counted - counted_before) * counts + padding_idx


def _embed_electra(
    transformer: PreTrainedModel,
    token_ids: torch.Tensor,
    type_ids: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    embedded = _embed_bert(transformer, token_ids, type_ids, positions)
    if hasattr(transformer, "embeddings_project"):
        embedded = transformer.embeddings_project(embedded)
    return embedded


def _embed_albert(
    transformer: PreTrainedModel,
    token_ids: torch.Tensor,
    type_ids: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    embedded = _embed_bert(transformer, token_ids, type_ids, positions)
    return transformer.encoder.embedding_hidden_mapping_in(embedded)


def _embed_distilbert(
    transformer: PreTrainedModel,
    token_ids: torch.Tensor,
    type_ids: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    # DistilBERT's own forward takes no positions; it numbers the tokens of one text.
    embeddings = transformer.embeddings
    embedded = embeddings.word_embeddings(token_ids) + embeddings.position_embeddings(positions)
    return embeddings.dropout(embeddings.LayerNorm(embedded))


def _pool_bert(transformer: PreTrainedModel, first_token: torch.Tensor) -> torch.Tensor:
    return torch.tanh(transformer.pooler.dense(first_token))


def _pool_albert(transformer: PreTrainedModel, first_token: torch.Tensor) -> torch.Tensor:
    return torch.tanh(transformer.pooler(first_token))


def _drop_bert_layers(transformer: PreTrainedModel, keep: int) -> None:
    transformer.encoder.layer = transformer.encoder.layer[:keep]


def _drop_distilbert_layers(transformer: PreTrainedModel, keep: int) -> None:
    transformer.transformer.layer = transformer.transformer.layer[:keep]


def _drop_albert_layers(transformer: PreTrainedModel, keep: int) -> None:
    config = transformer.config
    last_group = int((keep - 1) / (config.num_hidden_layers / config.num_hidden_groups))
    groups = transformer.encoder.albert_layer_groups
    transformer.encoder.albert_layer_groups = groups[: last_group + 1]


_BERT = Family(_bert_layers, _embed_bert, _drop_bert_layers, _pool_bert)
_ROBERTA = replace(_BERT, number_positions=_roberta_positions)

FAMILIES: Dict[str, Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": Family(_bert_layers, _embed_electra, _drop_bert_layers, is_embedding_a_norm=False),
    "distilbert": Family(_distilbert_layers, _embed_distilbert, _drop_distilbert_layers),
    "albert": Family(
        _albert_layers, _embed_albert, _drop_albert_layers, _pool_albert, is_embedding_a_norm=False
    ),
}
"""The supported families, by the `model_type` of their Hugging Face configuration."""


def family_of(config: PretrainedConfig) -> Family:
    """
    The family of a pretrained model.

    # Raises

    ValueError
        If the architecture, or a variant of it that the layers' formula does not cover, is not
        supported.
    """
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"transformers of type '{config.model_type}' are not supported: wanted one of "
            f"{', '.join(sorted(FAMILIES))}"
        )
    position_type = getattr(config, "position_embedding_type", "absolute")
    if position_type != "absolute":
        raise ValueError(
            f"position_embedding_type '{position_type}' is not supported: wanted 'absolute'"
        )
    if getattr(config, "is_decoder", False):
        raise ValueError("a transformer with is_decoder true is not supported: wanted an encoder")
    if config.model_type == "albert" and config.inner_group_num != 1:
        raise ValueError(
            f"an ALBERT model with inner_group_num {config.inner_group_num} is not supported: "
            "wanted 1, which all published ALBERT models have"
        )
    return FAMILIES[config.model_type]


def max_positions_of(config: PretrainedConfig) -> int:
    """The largest number of tokens, special tokens included, that the model has positions for."""
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        # These count positions from padding_idx + 1.
        return config.max_position_embeddings - config.pad_token_id - 1
    return config.max_position_embeddings


def feed_forward_size_of(config: PretrainedConfig) -> int:
    """The inner size of the feed-forward part of a layer."""
    return config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size

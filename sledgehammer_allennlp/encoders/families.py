"""Which transformer families are supported, and where each one keeps the parts of a layer.

They differ in what they call the parts, in how positions enter, and in what happens before layer 0.
This module and `rotary_families` are the only ones that know those names.
"""

from dataclasses import replace
from functools import partial
from typing import Any, Callable, Dict, List, Optional

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from sledgehammer_allennlp.encoders.family import Family
from sledgehammer_allennlp.encoders.layer_parts import LayerParts
from sledgehammer_allennlp.encoders.positions import (
    DisentangledPositions,
    DistanceBuckets,
    Positions,
    RelativeBias,
    log_buckets,
)
from sledgehammer_allennlp.encoders.rotary_families import GTE, MODERNBERT, NOMIC_BERT


def _bert_layers(transformer: PreTrainedModel) -> List[LayerParts]:
    return [
        _bert_layer(
            transformer.config,
            layer,
            layer.attention.self.query,
            layer.attention.self.key,
            layer.attention.self.value,
        )
        for layer in transformer.encoder.layer
    ]


def _bert_layer(
    config: PretrainedConfig,
    layer: Any,
    query: nn.Module,
    key: nn.Module,
    value: nn.Module,
    attention_output: Optional[nn.Module] = None,
    attention_norm: Optional[nn.Module] = None,
    positions: Optional[Positions] = None,
) -> LayerParts:
    """A layer whose parts, but for those of its attention, are called as BERT's are."""
    return LayerParts(
        query=query,
        key=key,
        value=value,
        attention_output=attention_output or layer.attention.output.dense,
        attention_norm=attention_norm or layer.attention.output.LayerNorm,
        feed_forward_in=layer.intermediate.dense,
        activation=layer.intermediate.intermediate_act_fn,
        activation_name=config.hidden_act,
        feed_forward_out=layer.output.dense,
        output_norm=layer.output.LayerNorm,
        attention_dropout=config.attention_probs_dropout_prob,
        hidden_dropout=config.hidden_dropout_prob,
        output_dropout=config.hidden_dropout_prob,
        positions=positions,
    )


def _mpnet_layers(transformer: PreTrainedModel) -> List[LayerParts]:
    # The library's own number of buckets, whatever the configuration says.
    buckets = DistanceBuckets(type(transformer.encoder).relative_position_bucket)
    positions = RelativeBias(transformer.encoder.relative_attention_bias, buckets)
    return [
        _bert_layer(
            transformer.config,
            layer,
            layer.attention.attn.q,
            layer.attention.attn.k,
            layer.attention.attn.v,
            layer.attention.attn.o,
            layer.attention.LayerNorm,
            positions,
        )
        for layer in transformer.encoder.layer
    ]


def _deberta_layers(transformer: PreTrainedModel) -> List[LayerParts]:
    buckets = DistanceBuckets(_deberta_buckets(transformer.config))
    return [
        _bert_layer(
            transformer.config,
            layer,
            layer.attention.self.query_proj,
            layer.attention.self.key_proj,
            layer.attention.self.value_proj,
            positions=_deberta_positions(transformer, layer.attention.self, buckets),
        )
        for layer in transformer.encoder.layer
    ]


def _deberta_positions(
    transformer: PreTrainedModel, attention: Any, buckets: DistanceBuckets
) -> DisentangledPositions:
    config, encoder = transformer.config, transformer.encoder
    kinds = config.pos_att_type or []
    query = "query_proj" if config.share_att_key else "pos_query_proj"
    key = "key_proj" if config.share_att_key else "pos_key_proj"
    return DisentangledPositions(
        distances=encoder.rel_embeddings,
        norm=getattr(encoder, "LayerNorm", None),
        dropout=attention.pos_dropout,
        query=getattr(attention, query) if "p2c" in kinds else None,
        key=getattr(attention, key) if "c2p" in kinds else None,
        buckets=buckets,
        num_heads=config.num_attention_heads,
    )


def _deberta_buckets(config: PretrainedConfig) -> Callable[[torch.Tensor], torch.Tensor]:
    if config.position_buckets < 1:
        return torch.Tensor.long
    farthest = config.max_relative_positions
    if farthest < 1:
        farthest = config.max_position_embeddings
    return partial(log_buckets, num_near=config.position_buckets // 2, farthest=farthest)


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


def _embed_mpnet(
    transformer: PreTrainedModel,
    token_ids: torch.Tensor,
    type_ids: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    embedded = transformer.embeddings(
        input_ids=token_ids.unsqueeze(0), position_ids=positions.unsqueeze(0)
    )
    return embedded.squeeze(0)


def _embed_deberta(
    transformer: PreTrainedModel,
    token_ids: torch.Tensor,
    type_ids: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    num_types = transformer.config.type_vocab_size
    embedded = transformer.embeddings(
        input_ids=token_ids.unsqueeze(0),
        token_type_ids=type_ids.clamp(max=max(num_types - 1, 0)).unsqueeze(0),
        position_ids=positions.unsqueeze(0),
    )
    return embedded.squeeze(0)


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


def _max_positions_of_roberta(config: PretrainedConfig) -> int:
    # These count positions from padding_idx + 1.
    return config.max_position_embeddings - config.pad_token_id - 1


def _check_bert(config: PretrainedConfig) -> Optional[str]:
    position_type = getattr(config, "position_embedding_type", "absolute")
    if position_type != "absolute":
        return f"position_embedding_type '{position_type}' is not supported: wanted 'absolute'"
    if getattr(config, "is_decoder", False):
        return "a transformer with is_decoder true is not supported: wanted an encoder"
    return None


def _check_albert(config: PretrainedConfig) -> Optional[str]:
    if config.inner_group_num != 1:
        return (
            f"an ALBERT model with inner_group_num {config.inner_group_num} is not supported: "
            "wanted 1, which all published ALBERT models have"
        )
    return _check_bert(config)


def _check_deberta(config: PretrainedConfig) -> Optional[str]:
    if not config.relative_attention:
        return (
            "a DeBERTa model with relative_attention false is not supported: wanted true, which "
            "all published ones have"
        )
    if not isinstance(config.pos_att_type, (list, type(None))):
        return f"pos_att_type {config.pos_att_type!r} is not supported: wanted a list or text"
    if getattr(config, "conv_kernel_size", 0) > 0:
        return (
            f"a DeBERTa model with conv_kernel_size {config.conv_kernel_size} is not supported: "
            "wanted one without a convolution, as all of version 3 are"
        )
    return None


_BERT = Family(
    "BERT",
    _bert_layers,
    _embed_bert,
    _drop_bert_layers,
    _pool_bert,
    is_embedding_a_norm=True,
    check=_check_bert,
)
_ROBERTA = replace(
    _BERT,
    title="RoBERTa",
    number_positions=_roberta_positions,
    max_positions=_max_positions_of_roberta,
)

FAMILIES: Dict[str, Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": replace(_ROBERTA, title="XLM-R"),
    "camembert": replace(_ROBERTA, title="CamemBERT"),
    "electra": replace(
        _BERT, title="ELECTRA", embed=_embed_electra, pool=None, is_embedding_a_norm=False
    ),
    "distilbert": Family(
        "DistilBERT",
        _distilbert_layers,
        _embed_distilbert,
        _drop_distilbert_layers,
        is_embedding_a_norm=True,
    ),
    "albert": Family(
        "ALBERT",
        _albert_layers,
        _embed_albert,
        _drop_albert_layers,
        _pool_albert,
        check=_check_albert,
    ),
    "mpnet": replace(
        _ROBERTA,
        title="MPNet",
        layers=_mpnet_layers,
        embed=_embed_mpnet,
        positions="also a number for each distance",
        check=None,
    ),
    "deberta-v2": Family(
        "DeBERTa v2 and v3",
        _deberta_layers,
        _embed_deberta,
        _drop_bert_layers,
        positions="by distance, disentangled",
        check=_check_deberta,
    ),
    "modernbert": MODERNBERT,
    "nomic_bert": NOMIC_BERT,
    "gte": GTE,
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
    family = FAMILIES[config.model_type]
    problem = None if family.check is None else family.check(config)
    if problem is not None:
        raise ValueError(problem)
    return family


def max_positions_of(config: PretrainedConfig) -> int:
    """The largest number of tokens, special tokens included, that the model has positions for."""
    return FAMILIES[config.model_type].max_positions(config)

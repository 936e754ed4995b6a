"""Families of rotary positions and gated feed-forward parts: ModernBERT, Nomic BERT, GTE."""

from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

import torch
from transformers import PretrainedConfig, PreTrainedModel

from sledgehammer_allennlp.encoders.family import Family
from sledgehammer_allennlp.encoders.layer_parts import LayerParts, LinearRows
from sledgehammer_allennlp.encoders.positions import RotaryPositions


def _modernbert_layers(transformer: PreTrainedModel) -> List[LayerParts]:
    config = transformer.config
    size = config.hidden_size
    window = config.local_attention // 2
    in_global, in_local = (
        RotaryPositions(_frequencies(config, base), seen)
        for base, seen in zip(_modernbert_bases(config), (None, window))
    )
    parts = []
    for layer, is_global in zip(transformer.layers, _modernbert_is_global(config)):
        qkv, inner = layer.attn.Wqkv, layer.mlp.Wi
        parts.append(
            LayerParts(
                query=LinearRows(qkv, 0, size),
                key=LinearRows(qkv, size, 2 * size),
                value=LinearRows(qkv, 2 * size, 3 * size),
                attention_output=layer.attn.Wo,
                attention_norm=layer.attn_norm,
                feed_forward_in=LinearRows(inner, 0, config.intermediate_size),
                feed_forward_gate=LinearRows(
                    inner, config.intermediate_size, 2 * config.intermediate_size
                ),
                activation=layer.mlp.act,
                activation_name=config.hidden_activation,
                feed_forward_out=layer.mlp.Wo,
                output_norm=layer.mlp_norm,
                attention_dropout=config.attention_dropout,
                hidden_dropout=config.attention_dropout,
                output_dropout=0.0,
                inner_dropout=config.mlp_dropout,
                is_pre_norm=True,
                positions=in_global if is_global else in_local,
            )
        )
    return parts


def _modernbert_is_global(config: PretrainedConfig) -> List[bool]:
    """Whether each layer's attention is over all tokens."""
    types = getattr(config, "layer_types", None)  # since transformers 5
    if types is not None:
        return [one == "full_attention" for one in types]
    every = config.global_attn_every_n_layers
    return [i % every == 0 for i in range(config.num_hidden_layers)]


def _modernbert_bases(config: PretrainedConfig) -> Tuple[float, float]:
    """The base of the rotary frequencies of global layers, and of local ones."""
    rotary: Optional[Dict[str, Any]] = getattr(config, "rope_parameters", None)
    if rotary is not None:  # since transformers 5
        found = (rotary["full_attention"], rotary["sliding_attention"])
        return found[0]["rope_theta"], found[1]["rope_theta"]
    of_global = config.global_rope_theta
    of_local = config.local_rope_theta
    return of_global, of_global if of_local is None else of_local


def _gated_layers(transformer: PreTrainedModel) -> List[LayerParts]:
    config = transformer.config
    positions = RotaryPositions(_frequencies(config, config.rope_parameters["rope_theta"]))
    return [
        LayerParts(
            query=layer.self_attn.q_proj,
            key=layer.self_attn.k_proj,
            value=layer.self_attn.v_proj,
            attention_output=layer.self_attn.o_proj,
            attention_norm=layer.post_attention_layernorm,
            feed_forward_in=layer.mlp.gate_proj,
            feed_forward_gate=layer.mlp.up_proj,
            activation=layer.mlp.act_fn,
            activation_name=config.hidden_act,
            feed_forward_out=layer.mlp.down_proj,
            output_norm=layer.post_mlp_layernorm,
            attention_dropout=config.attention_probs_dropout_prob,
            hidden_dropout=config.hidden_dropout_prob,
            output_dropout=config.hidden_dropout_prob,
            inner_dropout=getattr(getattr(layer.mlp, "dropout", None), "p", 0.0),
            positions=positions,
        )
        for layer in transformer.layers
    ]


def _frequencies(config: PretrainedConfig, base: float) -> torch.Tensor:
    """The angles from one position to the next (Su et al. 2021), `(head_size / 2,)`."""
    head_size = config.hidden_size // config.num_attention_heads
    return 1.0 / base ** (torch.arange(0, head_size, 2, dtype=torch.float) / head_size)


def _embed_modernbert(
    transformer: PreTrainedModel,
    token_ids: torch.Tensor,
    type_ids: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    embeddings = transformer.embeddings
    return embeddings.drop(embeddings.norm(embeddings.tok_embeddings(token_ids)))


def _embed_gated(
    transformer: PreTrainedModel,
    token_ids: torch.Tensor,
    type_ids: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    type_ids = type_ids.clamp(max=max(transformer.config.type_vocab_size - 1, 0))
    return transformer.embeddings(
        input_ids=token_ids.unsqueeze(0), token_type_ids=type_ids.unsqueeze(0)
    ).squeeze(0)


def _drop_layers(transformer: PreTrainedModel, keep: int) -> None:
    transformer.layers = transformer.layers[:keep]


def _last_norm(transformer: PreTrainedModel) -> torch.nn.Module:
    norm: torch.nn.Module = transformer.final_norm
    return norm


def _check_rotary(config: PretrainedConfig) -> Optional[str]:
    """Frequencies that are not scaled for longer texts are supported alone."""
    rotary = getattr(config, "rope_parameters", None) or {}
    scaled = getattr(config, "rope_scaling", None) or {}
    settings = [scaled, rotary, *(one for one in rotary.values() if isinstance(one, dict))]
    for one in settings:
        kind = one.get("rope_type", one.get("type", "default"))
        if kind != "default":
            return f"rotary positions of type '{kind}' are not supported: wanted 'default'"
    size, heads = config.hidden_size, config.num_attention_heads
    head_size = getattr(config, "head_dim", None)
    if head_size not in (None, size // heads):
        return f"head_dim {head_size} is not supported: wanted {size // heads}, hidden_size / heads"
    return None


def _check_modernbert(config: PretrainedConfig) -> Optional[str]:
    types, num_layers = getattr(config, "layer_types", None), config.num_hidden_layers
    if types is not None and (
        len(types) != num_layers or set(types) - {"full_attention", "sliding_attention"}
    ):
        return (
            f"layer_types {types} is not supported: wanted 'full_attention' or 'sliding_attention' "
            f"for each of the {num_layers} layers"
        )
    every = getattr(config, "global_attn_every_n_layers", 1)
    if every < 1:
        return f"global_attn_every_n_layers is {every}: wanted a number from 1"
    return _check_rotary(config)


MODERNBERT = Family(
    "ModernBERT",
    _modernbert_layers,
    _embed_modernbert,
    _drop_layers,
    last_norm=_last_norm,
    positions="rotary; two of three layers see near tokens only",
    since="4.48",
    check=_check_modernbert,
)
"""Warner et al. 2024: pre-norm layers, attention over all tokens and over near ones in turn."""

GTE = Family(
    "GTE",
    _gated_layers,
    _embed_gated,
    _drop_layers,
    positions="rotary",
    since="5.24",
    check=_check_rotary,
)
"""Zhang et al. 2024: post-norm layers."""

NOMIC_BERT = replace(GTE, title="Nomic BERT")
"""Nussbaum et al. 2024: the same layers, without biases."""

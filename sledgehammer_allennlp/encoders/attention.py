"""Attention over texts that stand one after the other, without padding between them."""

import math
from typing import Optional

import torch
import torch.nn.functional as F

from sledgehammer_allennlp.encoders.layer_products import KeysValues
from sledgehammer_allennlp.encoders.positions import Scorer
from sledgehammer_allennlp.encoders.token_batch import Layout

_HAS_FUSED_ATTENTION = hasattr(F, "scaled_dot_product_attention")


def attend(
    queries: torch.Tensor,
    rows_layout: Layout,
    keys_values: KeysValues,
    layout: Layout,
    num_heads: int,
    dropout: float,
    scorer: Optional[Scorer] = None,
) -> torch.Tensor:
    """
    Each row's mean of its text's values, by attention.

    # Parameters

    queries : `torch.Tensor`
        `(num_rows, hidden_size)`
    rows_layout : `Layout`
        Which texts the rows belong to.
    keys_values : `KeysValues`
        Each `(num_tokens, hidden_size)`.
    layout : `Layout`
        Of all tokens.
    num_heads : `int`
    dropout : `float`
        Of the weights.
    scorer : `Scorer`, optional
        Puts positions into it.

    # Returns

    `torch.Tensor`
        `(num_rows, hidden_size)`
    """
    segments, rows_segments = layout.segments(), rows_layout.segments()
    query_runs = queries.split([segment.num_tokens for segment in rows_segments])
    sizes = [segment.num_tokens for segment in segments]
    key_runs, value_runs = (x.split(sizes) for x in keys_values)
    contexts = []
    for segment, rows_segment, query, key, value in zip(
        segments, rows_segments, query_runs, key_runs, value_runs
    ):
        query = _heads(rows_segment.pad(query), num_heads)
        key = _heads(segment.pad(key), num_heads)
        mask = segment.mask
        if scorer is not None:
            query, key, mask = scorer(query, key, mask)
        context = attention(query, key, _heads(segment.pad(value), num_heads), mask, dropout)
        contexts.append(rows_segment.unpad(context.transpose(1, 2).flatten(2)))
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


def _heads(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """From `(texts, tokens, hidden_size)` to `(texts, heads, tokens, head_size)`."""
    return x.view(*x.shape[:2], num_heads, x.size(2) // num_heads).transpose(1, 2)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: Optional[torch.Tensor],
    dropout: float,
) -> torch.Tensor:
    """
    Scaled dot product attention (Vaswani et al. 2017).

    # Parameters

    query : `torch.Tensor`
        `(texts, heads, rows, head_size)`
    key, value : `torch.Tensor`
        `(texts, heads, tokens, head_size)`
    mask : `torch.Tensor`, optional
        `(texts or 1, heads or 1, rows or 1, tokens)`, true where a token counts, or what is added
        to the scores; `None` if all tokens count alike.
    dropout : `float`
        Of the weights.

    # Returns

    `torch.Tensor`
        `(texts, heads, rows, head_size)`
    """
    if _HAS_FUSED_ATTENTION:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.size(-1))
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    return F.dropout(scores.softmax(-1), dropout) @ value

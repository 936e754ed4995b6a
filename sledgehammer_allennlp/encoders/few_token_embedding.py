"""Embeddings of few tokens, in NumPy.

torch would share this work among its threads, which then wait for more by spinning, and keep the
cores from the threads of ONNX Runtime, which run the layers of few tokens.
"""

from typing import Optional

import numpy as np
import torch
from torch import nn


def embed_few_tokens(
    embeddings: nn.Module, token_ids: torch.Tensor, type_ids: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """
    The layer norm of the sum of word, position and, where there are some, type embeddings.

    # Parameters

    embeddings : `nn.Module`
        Of BERT, or of a family that names its parts alike.
    token_ids, type_ids, positions : `torch.Tensor`
        `(num_tokens,)`; positions as the table of this family numbers them.

    # Returns

    `torch.Tensor`
        `(num_tokens, hidden_size)`
    """
    summed = sum_embeddings(embeddings, token_ids, type_ids, positions)
    return torch.from_numpy(_layer_norm(summed, embeddings.LayerNorm))


def sum_embeddings(
    embeddings: nn.Module,
    token_ids: torch.Tensor,
    type_ids: torch.Tensor,
    positions: Optional[torch.Tensor],
) -> np.ndarray:
    """
    What the layer norm of `embed_few_tokens` takes. Without `positions` they are those of a single
    text, from 0.
    """
    summed = _table(embeddings.word_embeddings)[token_ids.numpy()]
    of_positions = _table(embeddings.position_embeddings)
    summed += of_positions[: len(summed)] if positions is None else of_positions[positions.numpy()]
    of_types = getattr(embeddings, "token_type_embeddings", None)
    if of_types is not None:
        types = _table(of_types)
        # Some models have one type only; their tokenizers give zeros, other tokenizers may not.
        summed += types[np.minimum(type_ids.numpy(), len(types) - 1)]
    return summed


def _table(embedding: object) -> np.ndarray:
    assert isinstance(embedding, nn.Embedding)
    table: np.ndarray = embedding.weight.detach().numpy()
    return table


def _layer_norm(x: np.ndarray, norm: object) -> np.ndarray:
    """Of the rows of `x`, which is overwritten."""
    assert isinstance(norm, nn.LayerNorm)
    x -= x.mean(-1, keepdims=True)
    variance = np.einsum("ij,ij->i", x, x) / np.float32(x.shape[1])
    x *= (1 / np.sqrt(variance + np.float32(norm.eps)))[:, None]
    x *= norm.weight.detach().numpy()
    x += norm.bias.detach().numpy()
    return x

"""Small vectors of word pieces, by which the exit over n-grams compares the texts of a pair.

A piece's vector is its pretrained embedding of unit length, projected to the directions in which
embeddings differ most, in whole numbers from -127 to 127. Scalar products of such vectors are whole
numbers that float32 has exactly, whatever the order of summation. So a comparison does not depend,
not even in the last bit, on the batch, its order, its padding or the device.
"""

from typing import Iterator, List

import numpy as np
import torch

MOST_DIMENSIONS = 128
_MOST_BYTES = 7_500_000
_PIECES_AT_ONCE = 2**14
_LARGEST = 127


def num_dimensions(num_pieces: int, embedding_size: int) -> int:
    """
    128, or fewer for small embeddings and for large vocabularies: all vectors take 7.5 MB at most.
    """
    return max(min(MOST_DIMENSIONS, embedding_size, _MOST_BYTES // num_pieces), 1)


def piece_vectors(embeddings: torch.Tensor) -> torch.Tensor:
    """
    Vectors of word pieces from their embeddings.

    # Parameters

    embeddings : `torch.Tensor`
        `(num_pieces, embedding_size)`, on any device. A copy of a part at a time is made.

    # Returns

    `torch.Tensor`
        `(num_pieces, num_dimensions)`, int8, on the CPU: unit-length embeddings less their mean, on
        their first principal components. The largest number of each piece is 127 or -127; a piece
        without embedding has zeros.
    """
    num_pieces, size = embeddings.shape
    mean = np.zeros(size)
    products = np.zeros((size, size))
    for rows in _unit_rows(embeddings):
        mean += rows.sum(0) / num_pieces
        products += rows.T @ rows / num_pieces
    _, directions = np.linalg.eigh(products - np.outer(mean, mean))  # by ascending variance
    directions = directions[:, ::-1][:, : num_dimensions(num_pieces, size)]
    parts: List[torch.Tensor] = []
    for rows in _unit_rows(embeddings):
        projected = (rows - mean) @ directions * rows.any(axis=1, keepdims=True)
        largest = np.abs(projected).max(1, keepdims=True)
        scale = np.divide(_LARGEST, largest, out=np.zeros_like(largest), where=largest > 1e-6)
        parts.append(torch.from_numpy((projected * scale).round().astype(np.int8)))
    return torch.cat(parts)


def _unit_rows(embeddings: torch.Tensor) -> Iterator[np.ndarray]:
    """Some thousand rows at a time, of unit length, or 0 where they are 0 or no numbers."""
    for part in embeddings.detach().split(_PIECES_AT_ONCE):
        rows = np.nan_to_num(part.cpu().double().numpy(), nan=0.0, posinf=0.0, neginf=0.0)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        yield np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)

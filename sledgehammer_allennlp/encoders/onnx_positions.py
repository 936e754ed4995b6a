"""How positions enter the attention, see `positions`, as part of an ONNX graph.

Rows are all tokens of a text, or its first alone. What depends on the distances between tokens
alone is computed once, around the branches in which layers stand.
"""

import math
from typing import Any, Callable, Dict, Hashable, NamedTuple, Optional, Tuple

import numpy as np
import torch

from sledgehammer_allennlp.encoders.layer_parts import EncoderParts
from sledgehammer_allennlp.encoders.onnx_nodes import MICROSOFT, Nodes
from sledgehammer_allennlp.encoders.positions import (
    DisentangledPositions,
    Positions,
    RelativeBias,
    RotaryPositions,
)


class AttentionInputs(NamedTuple):
    """
    The names of what attention scores: queries, `(texts, rows, hidden_size)`; keys, `(texts,
    tokens, hidden_size)`; and what is added to the scores, if anything, `(texts or 1, heads or 1,
    rows, tokens)`; and by what their products are multiplied, `None` for 1 / √ head size.
    """

    query: str
    key: str
    bias: Optional[str] = None
    scale: Optional[float] = None


class PositionNodes:
    """
    Adds positions to a graph.

    # Parameters

    around : `Nodes`
        Of the whole graph.
    hidden : `str`
        Its input of hidden states, `(texts, tokens, hidden_size)`.
    encoder : `EncoderParts`
    """

    def __init__(self, around: Nodes, hidden: str, encoder: EncoderParts) -> None:
        self._around = around
        self._hidden = hidden
        self._num_heads = encoder.num_heads
        self._max_positions = encoder.max_positions
        self._made: Dict[Hashable, Any] = {}
        # Now: what a branch sees stands before it.
        for positions in dict.fromkeys(parts.positions for parts in encoder.layers):
            if positions is not None:
                self._prepare(positions)

    def enter(
        self, nodes: Nodes, positions: Positions, query: str, key: str, only_first: bool
    ) -> AttentionInputs:
        """
        Puts positions into a layer's queries and keys.

        # Parameters

        nodes : `Nodes`
            Of the layer's branch.
        positions : `Positions`
            The layer's.
        query, key : `str`
            See `AttentionInputs`.
        only_first : `bool`
            Whether rows are the first tokens.
        """
        shared = self._prepare(positions)
        if isinstance(positions, RotaryPositions):
            angles, window = shared
            # The first token's angles are 0.
            rotated = query if only_first else self._rotated(nodes, query, angles)
            bias = self._of_rows(nodes, window, only_first)
            return AttentionInputs(rotated, self._rotated(nodes, key, angles), bias)
        if isinstance(positions, RelativeBias):
            return AttentionInputs(query, key, self._of_rows(nodes, shared, only_first))
        assert isinstance(positions, DisentangledPositions)
        return self._disentangled(nodes, positions, query, key, shared, only_first)

    def _prepare(self, positions: Positions) -> Any:
        """What layers with these positions share, made when it is first asked for."""
        if isinstance(positions, RotaryPositions):
            return (
                self._once(positions, lambda: self._angles(positions)),
                self._once(("window", positions.window), lambda: self._window(positions.window)),
            )
        if isinstance(positions, RelativeBias):
            return self._once(positions, lambda: self._relative_bias(positions))
        assert isinstance(positions, DisentangledPositions)
        key = positions.buckets, positions.span
        return self._once(key, lambda: self._vectors_of_distances(positions))

    def _once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _angles(self, positions: RotaryPositions) -> Tuple[str, str]:
        """Cosines and sines, each `(max_positions, head_size / 2)`."""
        angles = torch.outer(torch.arange(self._max_positions).float(), positions.frequencies)
        cosines, sines = (self._around.weight(x.numpy()) for x in (angles.cos(), angles.sin()))
        return cosines, sines

    def _rotated(self, nodes: Nodes, x: str, angles: Tuple[str, str]) -> str:
        first_position = nodes.weight(np.array([0]))
        return nodes.add("RotaryEmbedding", [x, first_position, *angles], MICROSOFT)

    def _window(self, window: Optional[int]) -> Optional[str]:
        """What hides tokens that are farther off, `(1, 1, tokens, tokens)`."""
        if window is None:
            return None
        distances = np.abs(self._all_distances())
        hidden = np.where(distances <= window, 0, np.finfo(np.float32).min / 2)
        return self._by_distance(hidden.astype(np.float32)[None])

    def _relative_bias(self, positions: RelativeBias) -> str:
        """`(1, heads, tokens, tokens)`"""
        buckets = positions.buckets.of(torch.from_numpy(self._all_distances()))
        return self._by_distance(positions.table.weight.detach()[buckets].numpy().T)

    def _by_distance(self, numbers: np.ndarray) -> str:
        """From `(heads or 1, distances)` to `(1, heads or 1, tokens, tokens)`."""
        around = self._around
        chosen = around.add("Gather", [around.weight(numbers), self._distances()], axis=1)
        return around.add("Unsqueeze", [chosen, around.weight(np.array([0]))])

    def _all_distances(self) -> np.ndarray:
        """That there can be, ascending, `(2 * max_positions - 1,)`."""
        return np.arange(1 - self._max_positions, self._max_positions)

    def _distances(self) -> str:
        """Of all distances, which one it is from each row to each token, `(tokens, tokens)`."""
        return self._once("distances", self._add_distances)

    def _add_distances(self) -> str:
        around = self._around
        shape = around.add("Shape", [self._hidden])
        zero, one = around.weight(np.array(0)), around.weight(np.array(1))
        num_tokens = around.add("Gather", [shape, one])
        tokens = around.add("Range", [zero, num_tokens, one])
        rows = around.add("Unsqueeze", [tokens, around.weight(np.array([1]))])
        first = around.weight(np.array(self._max_positions - 1))
        return around.add("Sub", [around.add("Add", [tokens, first]), rows])

    def _vectors_of_distances(self, positions: DisentangledPositions) -> str:
        """Which vector of `positions` compares a row with a token, `(rows, tokens)`."""
        distances = torch.from_numpy(self._all_distances())
        vectors = positions.vectors_of(positions.buckets.of(distances)).numpy()
        return self._around.add("Gather", [self._around.weight(vectors), self._distances()])

    def _of_rows(self, nodes: Nodes, bias: Optional[str], only_first: bool) -> Optional[str]:
        """Of `(1, heads or 1, tokens, tokens)` what rows need."""
        return nodes.first_of(bias, axis=2) if bias is not None and only_first else bias

    def _disentangled(
        self,
        nodes: Nodes,
        positions: DisentangledPositions,
        query: str,
        key: str,
        vectors: str,
        only_first: bool,
    ) -> AttentionInputs:
        """`positions._DisentangledScorer`; `vectors`: see `_vectors_of_distances`."""
        queries, keys = positions.vectors()
        num_terms = 1 + (queries is not None) + (keys is not None)
        head_size = len(positions.distances.weight[0]) // self._num_heads
        scale = 1 / math.sqrt(num_terms * head_size)
        if only_first:
            vectors = nodes.first_of(vectors, axis=0)
        terms = []
        if keys is not None:
            terms.append(self._compared(nodes, query, keys * scale, vectors))
        if queries is not None:
            of_tokens = nodes.add("Transpose", [vectors], perm=[1, 0])
            by_token = self._compared(nodes, key, queries * scale, of_tokens)
            terms.append(nodes.add("Transpose", [by_token], perm=[0, 1, 3, 2]))
        bias = nodes.add("Add", terms) if len(terms) == 2 else terms[0] if terms else None
        return AttentionInputs(query, key, bias, scale)

    def _compared(self, nodes: Nodes, x: str, vectors: torch.Tensor, chosen: str) -> str:
        """
        The products of queries or keys `x`, `(texts, n, hidden_size)`, with those `vectors`,
        `(heads, 2 * span, head_size)`, that are `chosen`, `(n, m)`: `(texts, heads, n, m)`.
        """
        num_heads, _, head_size = vectors.shape
        shape = nodes.weight(np.array([0, 0, num_heads, head_size]))
        by_head = nodes.add("Transpose", [nodes.add("Reshape", [x, shape])], perm=[0, 2, 1, 3])
        weight = vectors.transpose(1, 2).detach().numpy()
        products = nodes.add("MatMul", [by_head, nodes.weight(weight)])
        texts_heads = nodes.add("Shape", [products], end=2)
        wanted = nodes.add("Concat", [texts_heads, nodes.add("Shape", [chosen])], axis=0)
        chosen = nodes.add("Expand", [chosen, wanted])
        return nodes.add("GatherElements", [products, chosen], axis=-1)

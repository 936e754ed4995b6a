"""How the positions of tokens enter their attention, in families that do not add them to the
embeddings alone.

Rows, for which attention is computed, are all tokens of a text, or its first alone. Distances are
counted from a row to a token.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Protocol, Tuple

import torch
from torch import nn

Scored = Tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor]]
"""
Queries, `(texts, heads, rows, head_size)`, keys, `(texts, heads, tokens, head_size)`, and a mask,
true or false where there is a token or not, or a number that is added to the scores;
`(texts or 1, heads or 1, rows or 1, tokens)`; `None` where all tokens count alike.
"""


class Scorer(Protocol):
    """Puts positions into the queries, the keys, or the mask of scaled dot product attention."""

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, mask: Optional[torch.Tensor]
    ) -> Scored:
        """`query`, `key`, `mask`: see `Scored`; the mask is of tokens, `(texts, 1, 1, tokens)`."""
        ...


class Positions(ABC):
    """A layer's way to use positions."""

    @abstractmethod
    def scorer(self, training: bool = False) -> Scorer:
        """From the weights as they are now; with dropout and gradients in training."""

    @property
    def modules(self) -> List[nn.Module]:
        """Those whose weights it uses beside the layer's own."""
        return []


class RotaryPositions(Positions):
    """
    Rotates pairs of numbers of queries and keys by angles that grow with the position (Su et al.
    2021). With a window, a token attends only to tokens within that distance (Beltagy et al. 2020).

    # Parameters

    frequencies : `torch.Tensor`
        `(head_size / 2,)`, the angle from one position to the next, in radians.
    window : `int`, optional (default = no limit)
        The largest distance.
    """

    def __init__(self, frequencies: torch.Tensor, window: Optional[int] = None) -> None:
        self.frequencies = frequencies.float().cpu()
        self.window = window
        self._tables: Dict[torch.device, Tuple[torch.Tensor, torch.Tensor]] = {}

    def scorer(self, training: bool = False) -> Scorer:
        return self._score

    def _score(
        self, query: torch.Tensor, key: torch.Tensor, mask: Optional[torch.Tensor]
    ) -> Scored:
        num_rows, num_tokens = query.size(2), key.size(2)
        cosines, sines = self._table(num_tokens, query.device)
        return (
            _rotated(query, cosines[:num_rows], sines[:num_rows]),
            _rotated(key, cosines[:num_tokens], sines[:num_tokens]),
            self._within_window(mask, num_rows, num_tokens, query),
        )

    def _table(self, length: int, device: torch.device) -> Tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of all angles up to a position, `(positions, head_size)`."""
        table = self._tables.get(device)
        if table is None or table[0].size(0) < length:
            with torch.inference_mode(False):  # or training could not use what a prediction made
                positions = torch.arange(max(64, 2 * length)).float()
                angles = torch.outer(positions, self.frequencies).repeat(1, 2)
                table = angles.cos().to(device), angles.sin().to(device)
            self._tables[device] = table
        return table

    def _within_window(
        self,
        mask: Optional[torch.Tensor],
        num_rows: int,
        num_tokens: int,
        like: torch.Tensor,
    ) -> Optional[torch.Tensor]:
        if self.window is None or num_tokens <= self.window + 1:
            return mask
        distances = _distances(num_rows, num_tokens).abs()
        is_seen = (distances <= self.window).to(like.device)  # (rows, tokens)
        if mask is not None:
            is_seen = is_seen & mask
        # A number and not -inf: rows of padding may see nothing, and are to have a mean, too.
        lowest = torch.finfo(like.dtype).min / 2
        return torch.zeros_like(is_seen, dtype=like.dtype).masked_fill(~is_seen, lowest)


def _rotated(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return x * cosines.to(x.dtype) + turned * sines.to(x.dtype)


class DistanceBuckets:
    """
    In which bucket each distance is: of far distances, several share one.

    # Parameters

    bucket_of : `Callable[[torch.Tensor], torch.Tensor]`
        The bucket of each distance, of integers.
    """

    def __init__(self, bucket_of: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.of = bucket_of
        self._known = bucket_of(torch.arange(-64, 65))  # of distances, the middle one is 0

    def __call__(self, num_rows: int, num_tokens: int) -> torch.Tensor:
        """Of the distances from each row to each token, `(rows, tokens)`, on the CPU."""
        known = self._known
        with torch.inference_mode(False):  # or training could not use what a prediction made
            if known.numel() <= 2 * num_tokens:
                known = self.of(torch.arange(-2 * num_tokens, 2 * num_tokens + 1))
                self._known = known
            return known[_distances(num_rows, num_tokens) + known.numel() // 2]


class RelativeBias(Positions):
    """
    Adds to each score a learned number, by head and by the distance (Raffel et al. 2020).

    # Parameters

    table : `nn.Embedding`
        `(buckets, heads)`
    buckets : `DistanceBuckets`
        The rows of the table.
    """

    def __init__(self, table: nn.Embedding, buckets: DistanceBuckets) -> None:
        self.table = table
        self.buckets = buckets

    @property
    def modules(self) -> List[nn.Module]:
        return [self.table]

    def scorer(self, training: bool = False) -> Scorer:
        return self._score

    def _score(
        self, query: torch.Tensor, key: torch.Tensor, mask: Optional[torch.Tensor]
    ) -> Scored:
        buckets = self.buckets(query.size(2), key.size(2)).to(query.device)
        bias: torch.Tensor = self.table(buckets)  # (rows, tokens, heads)
        bias = bias.permute(2, 0, 1).unsqueeze(0).to(query.dtype)
        return query, key, bias if mask is None else bias.masked_fill(~mask, float("-inf"))


@dataclass(eq=False)
class DisentangledPositions(Positions):
    """
    Adds what a row's content says of the distance to a token, and a token's content of the distance
    to a row (He et al. 2021).

    # Parameters

    distances : `nn.Embedding`
        `(2 * span, hidden_size)`, a vector for each bucket from -span to span - 1.
    norm : `nn.Module`, optional
        Of these vectors.
    dropout : `nn.Module`
        Of these vectors.
    query, key : `nn.Module`, optional
        Their products, with which the text's keys and queries are compared; `None` where they are
        not.
    buckets : `DistanceBuckets`
    num_heads : `int`
    """

    distances: nn.Embedding
    norm: Optional[nn.Module]
    dropout: nn.Module
    query: Optional[nn.Module]
    key: Optional[nn.Module]
    buckets: DistanceBuckets
    num_heads: int

    @property
    def modules(self) -> List[nn.Module]:
        found = [self.distances, self.norm, self.query, self.key]
        return [module for module in found if module is not None]

    @property
    def span(self) -> int:
        """Half the number of vectors."""
        return len(self.distances.weight) // 2

    def scorer(self, training: bool = False) -> Scorer:
        return _DisentangledScorer(self, *self.vectors(training))

    def vectors(
        self, training: bool = False
    ) -> Tuple[Optional[torch.Tensor], Optional[torch.Tensor]]:
        """
        With which a text's keys, and its queries, are compared, each `(heads, 2 * span,
        head_size)`, or `None`; with dropout in training.
        """
        # By the module: AllenNLP's check of the order in which modules run is to see that what is
        # normed is no output of a linear layer.
        table = self.distances.weight
        vectors: torch.Tensor = self.distances(torch.arange(len(table), device=table.device))
        if self.norm is not None:
            vectors = self.norm(vectors)
        if training:
            vectors = self.dropout(vectors)
        queries, keys = (
            None if product is None else self._by_head(product(vectors))
            for product in (self.query, self.key)
        )
        return queries, keys

    def vectors_of(self, buckets: torch.Tensor) -> torch.Tensor:
        """Which vector is that of the distance back, of distances in these buckets."""
        return (self.span - buckets).clamp(0, 2 * self.span - 1)

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        """From `(2 * span, hidden_size)` to `(heads, 2 * span, head_size)`."""
        return x.view(x.size(0), self.num_heads, -1).transpose(0, 1)


class _DisentangledScorer:
    """
    # Parameters

    positions : `DisentangledPositions`
    queries, keys : `torch.Tensor`, optional
        Its vectors.
    """

    def __init__(
        self,
        positions: DisentangledPositions,
        queries: Optional[torch.Tensor],
        keys: Optional[torch.Tensor],
    ) -> None:
        self._positions = positions
        self._queries = queries
        self._keys = keys

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, mask: Optional[torch.Tensor]
    ) -> Scored:
        # The sum of these terms is scaled as one product of longer vectors would be.
        num_terms = 1 + (self._queries is not None) + (self._keys is not None)
        query = query / num_terms**0.5
        buckets = self._positions.buckets(query.size(2), key.size(2))
        chosen = self._positions.vectors_of(buckets)
        bias = query.new_zeros(1)
        if self._keys is not None:
            bias = bias + _compared(query, self._keys, chosen)
        if self._queries is not None:
            by_token = _compared(key / num_terms**0.5, self._queries, chosen.T)
            bias = bias + by_token.transpose(-1, -2)
        bias = bias / query.size(-1) ** 0.5
        return query, key, bias if mask is None else bias.masked_fill(~mask, float("-inf"))


def _compared(x: torch.Tensor, vectors: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """
    The products of queries or keys with the vectors of distances.

    # Parameters

    x : `torch.Tensor`
        `(texts, heads, n, head_size)`
    vectors : `torch.Tensor`
        `(heads, 2 * span, head_size)`
    chosen : `torch.Tensor`
        Which vector each is compared with, `(n, m)`; on the CPU.

    # Returns

    `torch.Tensor`
        `(texts, heads, n, m)`
    """
    first, last = int(chosen.min()), int(chosen.max())
    near = vectors[:, first : last + 1].to(x.dtype)
    products = x @ near.transpose(-1, -2)  # (texts, heads, n, vectors that are near)
    chosen = (chosen - first).to(x.device).expand(*x.shape[:2], -1, -1)
    return products.gather(-1, chosen)


def log_buckets(distances: torch.Tensor, num_near: int, farthest: int) -> torch.Tensor:
    """
    Buckets from -2 · `num_near` + 1 on: each near distance is one, farther ones share them by their
    logarithms (He et al. 2021, DeBERTa-v2).

    # Parameters

    distances : `torch.Tensor`
        Of integers.
    num_near : `int`
        Up to this distance each is a bucket.
    farthest : `int`
        The distance of the last bucket, and one more.
    """
    is_near = distances.abs() <= num_near
    ratios = distances.abs().clamp(min=num_near) / num_near
    steps = torch.log(ratios) / torch.log(torch.tensor((farthest - 1) / num_near))
    far = (torch.ceil(steps * (num_near - 1)) + num_near) * distances.sign()
    return torch.where(is_near, distances, far.long())


def _distances(num_rows: int, num_tokens: int) -> torch.Tensor:
    """From each row to each token, `(rows, tokens)`, on the CPU."""
    return torch.arange(num_tokens) - torch.arange(num_rows).unsqueeze(1)

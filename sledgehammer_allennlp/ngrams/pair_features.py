"""The features of the exit over n-grams that compare the two texts of a pair.

Each word piece of a text is compared with all of the other text by the cosine of their vectors
(`piece_vectors`). With m_j the best cosine of piece j of the second text, the features are

1. the pieces of the second text, each with m_j in tenths, hashed into buckets;
2. Σ_j (1 - m_j) e_j and the maximum over j of the same, where e_j is the piece's vector of unit
   length: what the second text says and the first does not;
3. numbers about all m_j: how many are about 1, 0.9, 0.7, 0.5, 0.3 and 0.1, by Gaussian kernels
   (Xiong et al. 2017, K-NRM), their mean and minimum, the mean over the first text's pieces of
   their best cosine, and the cosine of the two texts' mean vectors; once without frequent pieces,
   and once with all.

Special tokens are no pieces. A text that is not a pair, or of which one text has no piece, has
none of these features. (`one_pair` has the same for a pair by itself.)
"""

from contextlib import nullcontext
from typing import Any, ContextManager, Iterator, List, NamedTuple, Tuple

import torch

from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.ngrams.features import bucket_of, hashed, is_second

MAX_PIECES = 512
"""Pieces of a text after so many do not count."""

CENTRES = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1)
WIDTH = 0.1
"""Of the kernels."""
NUM_NUMBERS = 2 * (len(CENTRES) + 4)

SAME = 0.999
"""The cosine from which on two pieces count as the same; more than 0.9 otherwise is as 0.8."""

_NUMBERS_AT_ONCE = {"cpu": 2**18}
_NUMBERS_AT_ONCE_ELSEWHERE = 2**23
"""Of products of pieces, or of their vectors: as many as stay in a CPU's cache, or fill a GPU."""


class PairFeatures(NamedTuple):
    """What `compare_pairs` finds."""

    buckets: torch.Tensor
    """`(num_texts, num_pieces)`: of the pieces of each second text; 0 where there is none."""
    numbers: torch.Tensor
    """`(num_texts, 2 * num_dimensions + 20)`, float32; 0 where there is no pair."""
    is_pair: torch.Tensor
    """`(num_texts,)`: whether both texts have pieces."""


def group_sizes(num_dimensions: int) -> Tuple[int, int, int]:
    """How many of `PairFeatures.numbers` are of each kind."""
    return num_dimensions, num_dimensions, NUM_NUMBERS


def compare_pairs(
    texts: TokenBatch,
    starts: torch.Tensor,
    marks: torch.Tensor,
    vectors: torch.Tensor,
    frequent: torch.Tensor,
    num_buckets: int,
) -> PairFeatures:
    """
    Compares the two texts of each pair.

    # Parameters

    texts, starts, marks
        As for `ngram_buckets`.
    vectors : `torch.Tensor`
        `(num_pieces, num_dimensions)`, int8, see `piece_vectors`.
    frequent : `torch.Tensor`
        `(num_frequent,)`, the ids of frequent pieces.
    num_buckets : `int`
        A power of two.
    """
    pieces = _Pieces.of(texts, starts, marks)
    num_texts, num_dimensions = len(texts), vectors.size(1)
    longest = int(pieces.counts[:, 1].max()) if num_texts else 0
    buckets = starts.new_zeros(num_texts, longest)
    numbers = torch.zeros(num_texts, sum(group_sizes(num_dimensions)), device=starts.device)
    with without_autocast(vectors.device.type):
        for few, lengths in _of_similar_length(pieces.counts, num_dimensions):
            found, numbers[few] = _compare(pieces, few, lengths, vectors, frequent, num_buckets)
            buckets[few, : lengths[1]] = found
    return PairFeatures(buckets, numbers, pieces.counts.amin(1) > 0)


def without_autocast(device_type: str) -> ContextManager[Any]:
    """Of another type, products would be rounded."""
    if device_type not in ("cpu", "cuda"):  # older versions of torch have it for no other
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


class _Pieces(NamedTuple):
    """The pieces of texts: of a pair's first text, of its second, of the next pair's first …"""

    ids: torch.Tensor  # (pieces,)
    starts: torch.Tensor  # (texts, 2), where the first piece of each is
    counts: torch.Tensor  # (texts, 2), how many pieces each has

    @classmethod
    def of(cls, texts: TokenBatch, starts: torch.Tensor, marks: torch.Tensor) -> "_Pieces":
        """Of all pieces but special tokens."""
        first, separator, _, _ = marks.tolist()
        ids = texts.token_ids.long()
        lengths = texts.lengths.to(starts.device)
        places = torch.arange(len(texts), device=starts.device).repeat_interleave(lengths) * 2
        places += is_second(texts, starts, separator)
        taken = ((ids != first) & (ids != separator)).nonzero().squeeze(1)
        counts = places[taken].bincount(minlength=2 * len(texts))
        piece_starts = (counts.cumsum(0) - counts).view(-1, 2)
        return cls(ids[taken], piece_starts, counts.view(-1, 2).clamp(max=MAX_PIECES))


def _of_similar_length(
    counts: torch.Tensor, num_dimensions: int
) -> Iterator[Tuple[torch.Tensor, List[int]]]:
    """
    Pairs that are compared at once, so that they take little memory and have little padding: which,
    and the pieces of their longest first and second text. None without pieces.
    """
    order = counts.amin(1).nonzero().squeeze(1)
    if len(order) > 1:
        order = order[counts[order].amax(1).sort(stable=True).indices]
    most = _NUMBERS_AT_ONCE.get(counts.device.type, _NUMBERS_AT_ONCE_ELSEWHERE)
    begin, longest = 0, [0, 0]
    for i, (first, second) in enumerate(counts[order].tolist()):
        longer = [max(longest[0], first), max(longest[1], second)]
        if i > begin and _size(i + 1 - begin, longer, num_dimensions) > most:
            yield order[begin:i], longest
            begin, longer = i, [first, second]
        longest = longer
    if len(order):
        yield order[begin:], longest


def _size(num_pairs: int, lengths: List[int], num_dimensions: int) -> int:
    return 2 * num_pairs * max(lengths[0] * lengths[1], max(lengths) * num_dimensions)


def _compare(
    pieces: _Pieces,
    pairs: torch.Tensor,
    lengths: List[int],
    table: torch.Tensor,
    frequent: torch.Tensor,
    num_buckets: int,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    The buckets, `(num_pairs, length)`, and the numbers, `(num_pairs, num_numbers)`, of pairs that
    have pieces, of up to `lengths` pieces in the first and the second text.
    """
    positions = torch.arange(max(lengths), device=pairs.device)
    is_piece = positions < pieces.counts[pairs].unsqueeze(2)  # (pairs, 2, pieces)
    places = positions + pieces.starts[pairs].unsqueeze(2)
    ids = pieces.ids[places.clamp(max=len(pieces.ids) - 1)]
    is_rare = is_piece & ~torch.isin(ids, frequent)
    is_counted = torch.stack([is_rare, is_piece], dim=2)  # (pairs, 2, 2, pieces)
    vectors = table[ids.clamp(min=0, max=len(table) - 1)].float()  # (pairs, 2, pieces, dimensions)
    norms = (vectors * vectors).sum(-1).sqrt().clamp(min=1)  # of whole numbers: exact
    in_first, in_second = is_counted[:, 0, :, : lengths[0]], is_counted[:, 1, :, : lengths[1]]
    first, second = vectors[:, 0, : lengths[0]], vectors[:, 1, : lengths[1]]
    cosines = (second @ first.transpose(1, 2)) / (
        norms[:, 1, : lengths[1], None] * norms[:, 0, None, : lengths[0]]
    )
    # (pairs, 2, pieces of the second text, pieces of the first)
    is_compared = in_second.unsqueeze(3) & in_first.unsqueeze(2)
    cosines = cosines.unsqueeze(1).masked_fill(~is_compared, -1)
    best, best_of_first = cosines.amax(3), cosines.amax(2)

    shares = is_counted / is_counted.sum(3, keepdim=True).clamp(min=1)
    of_first, of_second = shares[:, 0, :, : lengths[0]], shares[:, 1, :, : lengths[1]]
    distances = best.unsqueeze(3) - torch.tensor(CENTRES, device=best.device)
    kernels = (distances * distances * (-0.5 / WIDTH**2)).exp()  # (pairs, 2, pieces, centres)
    means = (shares / norms.unsqueeze(2)) @ vectors  # (pairs, 2, 2, dimensions)
    about_best = torch.stack(
        [
            (of_second * best).sum(2),
            best.masked_fill(~in_second, 1).amin(2),
            (of_first * best_of_first).sum(2),
            torch.cosine_similarity(means[:, 0], means[:, 1], dim=2),
        ],
        dim=2,
    )
    numbers = torch.cat([(of_second.unsqueeze(2) @ kernels).squeeze(2), about_best], dim=2)
    has_both = is_counted.any(3).all(1)
    numbers = (numbers * has_both.unsqueeze(2)).flatten(1)

    best_of_all, is_piece = best[:, 1], in_second[:, 1]
    missing = second * ((1 - best_of_all) * is_piece / norms[:, 1, : lengths[1]]).unsqueeze(2)
    tenths = (best_of_all * 10).floor().clamp(0, 8).long().masked_fill(best_of_all > SAME, 9)
    buckets = bucket_of(hashed(ids[:, 1, : lengths[1]] + tenths * 2**32), num_buckets) * is_piece
    return buckets, torch.cat([missing.sum(1), missing.amax(1).clamp(min=0), numbers], dim=1)

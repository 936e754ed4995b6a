"""What happens to a text that is longer than the transformer has positions for."""

import logging
from typing import List, Set, Tuple

import torch

logger = logging.getLogger(__name__)

_warned_max_positions: Set[int] = set()


def truncate_to_positions(
    token_ids: torch.Tensor, mask: torch.Tensor, type_ids: torch.Tensor, max_positions: int
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Cuts tokens from texts that are longer than `max_positions`, so that each keeps its special
    tokens; of a pair, the longer text is cut first. Warns once. A batch that fits is returned
    as it is.

    The reader is the better place to truncate, because it knows the text; this is the guard for
    readers that do not.

    # Parameters

    token_ids, mask, type_ids : `torch.Tensor`
        Each `(batch_size, num_tokens)`, padded on the right.
    max_positions : `int`

    # Returns

    The same three, with at most `max_positions` columns.
    """
    if token_ids.size(1) <= max_positions:
        return token_ids, mask, type_ids
    lengths = mask.sum(1).tolist()
    if max(lengths) > max_positions and max_positions not in _warned_max_positions:
        _warned_max_positions.add(max_positions)
        logger.warning(
            "A text of %d tokens is longer than the transformer's %d positions and is truncated. "
            "Set the tokenizer's max_length to truncate in the reader, which is faster.",
            max(lengths),
            max_positions,
        )
    kept = torch.arange(max_positions, device=token_ids.device).repeat(len(lengths), 1)
    for row, length in enumerate(lengths):
        if length > max_positions:
            positions = positions_kept(token_ids[row, :length].tolist(), max_positions)
            kept[row] = torch.tensor(positions, device=token_ids.device)
    return token_ids.gather(1, kept), mask.gather(1, kept), type_ids.gather(1, kept)


def positions_kept(token_ids: List[int], max_tokens: int) -> List[int]:
    """
    Which positions of a tokenised text or pair of texts stay when it is cut to `max_tokens`.

    The last token is taken to be the separator. The texts are what is between the first token
    and the last, divided by the separators between them, if there are any.
    """
    last = len(token_ids) - 1
    separator = token_ids[last]
    between = [i for i in range(1, last) if token_ids[i] == separator]
    if not between:
        return [*range(max_tokens - 1), last]
    first_text = range(1, between[0])
    second_text = range(between[-1] + 1, last)
    specials = len(token_ids) - len(first_text) - len(second_text)
    room = max(max_tokens - specials, 0)
    first_length, second_length = longest_first(len(first_text), len(second_text), room)
    return sorted(
        [
            0,
            *first_text[:first_length],
            *range(between[0], between[-1] + 1),
            *second_text[:second_length],
            last,
        ]
    )[:max_tokens]


def longest_first(first: int, second: int, room: int) -> Tuple[int, int]:
    """
    How many tokens two texts of `first` and `second` tokens keep when only `room` may stay and
    tokens are taken one at a time from the longer.
    """
    shorter = min(first, second, room // 2)
    longer = min(max(first, second), room - shorter)
    return (longer, shorter) if first > second else (shorter, longer)

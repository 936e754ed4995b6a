"""What happens to a text that is longer than the transformer has positions for."""

import logging
from typing import List, Set, Tuple

import torch

from sledgehammer_allennlp.encoders.token_batch import TokenBatch

logger = logging.getLogger(__name__)

_warned_max_positions: Set[int] = set()


def truncate_to_positions(texts: TokenBatch, max_positions: int) -> TokenBatch:
    """
    Cuts tokens from texts that are longer than `max_positions`, so that each keeps its special
    tokens; of a pair, the longer text is cut first. Warns once. A batch that fits is returned
    as it is.

    The reader is the better place to truncate, because it knows the text; this is the guard for
    readers that do not.
    """
    longest = max(texts.lengths.tolist(), default=0)
    if longest <= max_positions:
        return texts
    if max_positions not in _warned_max_positions:
        _warned_max_positions.add(max_positions)
        logger.warning(
            "A text of %d tokens is longer than the transformer's %d positions and is truncated. "
            "Set the tokenizer's max_length to truncate in the reader, which is faster.",
            longest,
            max_positions,
        )
    kept = torch.ones_like(texts.token_ids, dtype=torch.bool)
    start = 0
    for length in texts.lengths.tolist():
        if length > max_positions:
            token_ids = texts.token_ids[start : start + length].tolist()
            kept[start : start + length] = False
            kept[[start + i for i in positions_kept(token_ids, max_positions)]] = True
        start += length
    return TokenBatch(
        texts.token_ids[kept], texts.type_ids[kept], texts.lengths.clamp(max=max_positions)
    )


def positions_kept(token_ids: List[int], max_tokens: int) -> List[int]:
    """
    Which positions of a tokenised text or pair of texts are kept when it is cut to `max_tokens`.

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
    How many tokens two texts of `first` and `second` tokens keep when only `room` are kept and
    tokens are taken one at a time from the longer.
    """
    shorter = min(first, second, room // 2)
    longer = min(max(first, second), room - shorter)
    return (longer, shorter) if first > second else (shorter, longer)

"""Which instances run through a layer together: sorted by length, in chunks of a token budget."""

from typing import Any, Iterator, List, Optional, Tuple

import torch

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.token_batch import TokenBatch

_CPU_ACTIVATIONS = 3 * 2**20
_GPU_TOKENS = 65536


def default_token_budget(encoder: LayeredEncoder) -> int:
    """
    About how many tokens run together: on a CPU so many that the widest of what a layer computes
    stays in the caches, 1024 for BERT-base and 2048 for a MiniLM; on a GPU many.
    """
    if encoder.device.type == "cpu":
        return _CPU_ACTIVATIONS // encoder.feed_forward_size
    return _GPU_TOKENS


def sort_by_length(texts: TokenBatch) -> Tuple[torch.Tensor, TokenBatch]:
    """The texts by ascending length, and which of the given ones they are, `(num_texts,)`."""
    if len(texts) == 1:
        return torch.zeros(1, dtype=torch.long), texts
    order = texts.lengths.sort(stable=True).indices
    return order, texts.select(order)


def split_into_chunks(texts: TokenBatch, token_budget: int) -> Iterator[Tuple[slice, TokenBatch]]:
    """
    Neighbouring texts with at most `token_budget` tokens together, or one text with more; and
    which of the given texts they are.
    """
    sizes: List[List[int]] = []  # texts and tokens of each chunk
    for length in texts.lengths.tolist():
        if not sizes or sizes[-1][1] + length > token_budget:
            sizes.append([0, 0])
        sizes[-1][0] += 1
        sizes[-1][1] += length
    num_texts, num_tokens = [size[0] for size in sizes], [size[1] for size in sizes]
    start = 0
    for token_ids, type_ids, lengths in zip(
        texts.token_ids.split(num_tokens),
        texts.type_ids.split(num_tokens),
        texts.lengths.split(num_texts),
    ):
        yield slice(start, start + len(lengths)), TokenBatch(token_ids, type_ids, lengths)
        start += len(lengths)


def check_token_budget(token_budget: Any) -> Optional[int]:
    """
    # Raises

    ValueError
        If `token_budget` is neither a positive integer nor `None`.
    """
    is_integer = isinstance(token_budget, int) and not isinstance(token_budget, bool)
    if token_budget is not None and (not is_integer or token_budget < 1):
        raise ValueError(
            f"token_budget is {token_budget!r}: wanted a positive integer, or null for the default"
        )
    return token_budget

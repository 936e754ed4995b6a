"""Which token of a pair is in which of its texts.

Special tokens are in neither. A word never gets into the other text: where the tokenizer numbers
the texts of a pair by type ids, those decide, whatever stands in a text; else the separators do.
"""

from typing import Any, Dict, List, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from sledgehammer_allennlp.encoders.token_batch import TokenBatch, positions_in_text, starts_of
from sledgehammer_allennlp.encoders.tokenizing import tokenize

NEITHER, FIRST, SECOND = 0, 1, 2
"""What `PairTexts` gives for a special token, a token of the first text, one of the second."""


_MOST_BETWEEN = 8
"""Separators between two texts. Tokenizers put one or two there."""


class SpecialTokens(NamedTuple):
    """
    What a tokenizer adds to a pair.

    # Parameters

    first, separator : `int`
        The tokens that begin and end a pair, or -1. The latter also stands between the texts.
    num_between : `int`
        How many separators stand between the texts.
    has_type_ids : `bool`
        Whether type ids tell the texts apart.
    """

    first: int
    separator: int
    num_between: int
    has_type_ids: bool


class PairTexts(nn.Module):
    """
    Tells which text of its pair each token is in.

    What the tokenizer adds is a buffer, so it is in the weights and in the archive. Until it is
    set there are no special tokens, and type ids decide.
    """

    def __init__(self) -> None:
        super().__init__()
        self.special_tokens: torch.Tensor
        self.register_buffer("special_tokens", torch.tensor(SpecialTokens(-1, -1, 1, True)))

    def set_special_tokens(self, special_tokens: SpecialTokens) -> None:
        """Sets what the tokenizer adds to a pair."""
        self.special_tokens.copy_(torch.tensor(special_tokens))

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        num_between = int(self.special_tokens[2])
        if not 1 <= num_between <= _MOST_BETWEEN:
            errors: List[str] = args[-1]
            errors.append(
                f"the weights say that {num_between} separators stand between the texts of a pair: "
                f"wanted 1 to {_MOST_BETWEEN}"
            )

    def forward(self, texts: TokenBatch) -> torch.Tensor:
        """
        In which text each token is, `(num_tokens,)`, on the CPU: `FIRST`, `SECOND` or `NEITHER`.

        The token that begins a pair and all separators are in neither. A single text is a first
        text, and the second one has no tokens then. Without type ids, a first text ends at the
        first place with as many separators in a row as the tokenizer puts between two texts.
        """
        first, separator, num_between, has_type_ids = self.special_tokens.tolist()
        ids = texts.token_ids.cpu().numpy()  # of a single pair, calls of torch take most time
        is_separator = ids == separator
        if has_type_ids:
            is_second = texts.type_ids.cpu().numpy() > 0
        else:
            separators = torch.from_numpy(is_separator)
            is_second = _is_after_boundary(separators, texts.lengths, num_between).numpy()
        is_word = ~(is_separator | (ids == first))
        return torch.from_numpy((is_second + np.int64(FIRST)) * is_word)


def _is_after_boundary(
    is_separator: torch.Tensor, lengths: torch.Tensor, num_between: int
) -> torch.Tensor:
    """Whether `num_between` separators in a row have ended the first text, `(num_tokens,)`."""
    # The last token of a pair ends its second text, and is no part of the boundary.
    may_be = is_separator.clone()
    may_be[starts_of(lengths) + lengths - 1] = False
    position = positions_in_text(lengths)
    is_boundary = may_be.clone()
    for back in range(1, num_between):
        before = torch.zeros_like(may_be)
        before[back:] = may_be[:-back]
        is_boundary &= before & (position >= back)
    num_so_far = is_boundary.long().cumsum(0)
    starts = starts_of(lengths)
    num_before_text = (num_so_far - is_boundary.long())[starts].repeat_interleave(lengths)
    return num_so_far > num_before_text


def special_tokens_of(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """What a tokenizer adds to a pair, found by giving it one."""
    pair = tokenize(tokenizer, ["a"], ["a"])
    ids, special = pair.token_ids.tolist(), set(tokenizer.all_special_ids)
    first = ids[0] if ids[0] in special else -1
    separator = ids[-1] if ids[-1] in special else -1
    num_between = max(ids[1:-1].count(separator), 1)
    return SpecialTokens(first, separator, num_between, bool(pair.type_ids.any()))

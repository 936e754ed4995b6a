"""Texts as tokens without padding, and where each text lies among them.

All tokens of a batch stand in one row, text after text. Everything a transformer does token by
token then costs what the tokens cost, however different the texts' lengths are; only attention
depends on where a text begins and ends, and that is what a `Layout` holds.
"""

from dataclasses import dataclass
from itertools import chain
from typing import List, NamedTuple, Optional, Sequence

import numpy as np
import torch
import torch.nn.functional as F

# Attention over texts of different lengths in one call pads them; over texts of one length it does
# not. A call takes as long as padding some thousand numbers, so few texts are padded together.
_MIN_TOKENS_OF_A_RUN = 256


class TokenBatch:
    """
    Texts as token ids.

    # Parameters

    token_ids, type_ids : `torch.Tensor`
        `(num_tokens,)`, of integers, text after text.
    lengths : `torch.Tensor`
        `(num_texts,)`, the tokens of each text, at least one; on the CPU.
    """

    def __init__(
        self, token_ids: torch.Tensor, type_ids: torch.Tensor, lengths: torch.Tensor
    ) -> None:
        self.token_ids = token_ids
        self.type_ids = type_ids
        self.lengths = lengths

    def __len__(self) -> int:
        return self.lengths.numel()

    @classmethod
    def from_padded(
        cls, token_ids: torch.Tensor, mask: torch.Tensor, type_ids: torch.Tensor
    ) -> "TokenBatch":
        """
        From `token_ids` and `type_ids`, each `(num_texts, num_tokens)`; `mask` is true where there
        is a token. A text without any token gets one, 0.
        """
        if token_ids.size(1) == 0:
            token_ids, type_ids = (x.new_zeros(x.size(0), 1) for x in (token_ids, type_ids))
            mask = torch.ones_like(token_ids, dtype=torch.bool)
        lengths = mask.sum(1).cpu()
        if lengths.numel() and int(lengths.min()) == 0:
            is_empty = ~mask.any(1)
            mask, token_ids, type_ids = mask.clone(), token_ids.clone(), type_ids.clone()
            mask[is_empty, 0] = True
            token_ids[is_empty, 0] = type_ids[is_empty, 0] = 0
            lengths = lengths.clamp(min=1)
        return cls(token_ids[mask], type_ids[mask], lengths)

    @classmethod
    def from_lists(
        cls,
        token_ids: Sequence[Sequence[int]],
        type_ids: Optional[Sequence[Sequence[int]]] = None,
    ) -> "TokenBatch":
        """
        From the `token_ids` of each text, as a tokenizer gives them; `type_ids` are 0 by default. A
        text without any token gets one, 0.
        """
        lengths = _as_tensor([len(text) or 1 for text in token_ids])
        flat = _concatenated(token_ids)
        return cls(
            flat, torch.zeros_like(flat) if type_ids is None else _concatenated(type_ids), lengths
        )

    def to(self, device: torch.device) -> "TokenBatch":
        """The same on another `device`; lengths stay on the CPU."""
        return TokenBatch(self.token_ids.to(device), self.type_ids.to(device), self.lengths)

    def select(self, texts: torch.Tensor) -> "TokenBatch":
        """Some of the texts, in the order of `texts`, `(num_selected,)`, on the CPU."""
        tokens = token_indices(self.lengths, texts).to(self.token_ids.device)
        return TokenBatch(self.token_ids[tokens], self.type_ids[tokens], self.lengths[texts])


def _concatenated(ids: Sequence[Sequence[int]]) -> torch.Tensor:
    return _as_tensor(list(chain.from_iterable(text or (0,) for text in ids)))


def _as_tensor(integers: List[int]) -> torch.Tensor:
    # By NumPy, which reads lists four times as fast.
    return torch.from_numpy(np.array(integers, dtype=np.int64))


def token_indices(lengths: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Where the tokens of some texts lie, text after text; all on the CPU."""
    return positions_in_text(lengths[texts]) + starts_of(lengths)[texts].repeat_interleave(
        lengths[texts]
    )


def starts_of(lengths: torch.Tensor) -> torch.Tensor:
    """Where the first token of each text lies, `(num_texts,)`."""
    return lengths.cumsum(0) - lengths


def positions_in_text(lengths: torch.Tensor) -> torch.Tensor:
    """The position of every token in its text, from 0, `(num_tokens,)`."""
    if lengths.numel() == 1:
        return torch.arange(int(lengths))
    return torch.arange(int(lengths.sum())) - starts_of(lengths).repeat_interleave(lengths)


class Run(NamedTuple):
    """Neighbouring texts that one call of attention takes."""

    num_texts: int
    is_padded: bool
    """Whether their lengths differ, so that they must be padded to be taken together."""


class Layout:
    """
    Where texts lie in a tensor of all their tokens.

    # Parameters

    lengths : `torch.Tensor`
        `(num_texts,)`, on the CPU; ascending for the fewest calls of attention.
    device : `torch.device`
        Where the tokens are.
    runs : `List[Run]`, optional
        Which texts attention takes together, by default chosen by the lengths and the device.
    """

    def __init__(
        self,
        lengths: torch.Tensor,
        device: torch.device,
        runs: Optional[List[Run]] = None,
    ) -> None:
        self.lengths = lengths
        self.device = device
        as_list: List[int] = lengths.tolist()
        self.num_texts = len(as_list)
        self.num_tokens = sum(as_list)
        self.runs = runs_of(as_list, device) if runs is None else runs
        self._first_tokens: Optional[torch.Tensor] = None
        self._ones: Optional[Layout] = None
        self._segments: Optional[List[Segment]] = None

    @property
    def first_tokens(self) -> torch.Tensor:
        """Where the first token of each text lies, `(num_texts,)`."""
        if self._first_tokens is None:
            self._first_tokens = starts_of(self.lengths).to(self.device)
        return self._first_tokens

    def of_first_tokens(self) -> "Layout":
        """The layout of a tensor of the first tokens alone."""
        if self._ones is None:
            runs = [Run(run.num_texts, False) for run in self.runs]
            self._ones = Layout(torch.ones_like(self.lengths), self.device, runs)
        return self._ones

    def means(self, tokens: torch.Tensor) -> torch.Tensor:
        """
        Over the tokens of each text, in float32 at least: from `(num_tokens, size)` to
        `(num_texts, size)`.
        """
        tokens = tokens if tokens.dtype == torch.float64 else tokens.float()
        if self.num_texts == 1:
            return tokens.mean(0, keepdim=True)
        if not torch.is_grad_enabled():
            # An embedding bag over consecutive rows computes these means, and is the fastest way.
            rows = torch.arange(self.num_tokens, device=tokens.device)
            return F.embedding_bag(rows, tokens, self.first_tokens, mode="mean")
        lengths = self.lengths.to(tokens.device)
        text_of_token = torch.arange(self.num_texts, device=tokens.device)
        text_of_token = text_of_token.repeat_interleave(lengths)
        sums = tokens.new_zeros(self.num_texts, tokens.size(1))
        return sums.index_add(0, text_of_token, tokens) / lengths.unsqueeze(1)

    def maxima(self, tokens: torch.Tensor) -> torch.Tensor:
        """Over the tokens of each text: from `(num_tokens, size)` to `(num_texts, size)`."""
        if self.num_texts == 1:
            return tokens.amax(0, keepdim=True)
        segments = self.segments()
        parts = tokens.split([segment.num_tokens for segment in segments])
        return torch.cat([segment.pad(part).amax(1) for segment, part in zip(segments, parts)])

    def segments(self) -> List["Segment"]:
        """The tokens of each run."""
        if self._segments is None:
            self._segments = []
            first = 0
            for run in self.runs:
                lengths = self.lengths[first : first + run.num_texts]
                self._segments.append(Segment.of(lengths, run, self.device))
                first += run.num_texts
        return self._segments


@dataclass
class Segment:
    """The tokens of a run: `num_texts` texts of up to `length` tokens."""

    num_texts: int
    length: int
    num_tokens: int
    padded_from: Optional[torch.Tensor] = None
    """For padded runs, `(num_texts * length,)`: the token that stands at each padded place."""
    tokens_from: Optional[torch.Tensor] = None
    """For padded runs, `(num_tokens,)`: the padded place of each token."""
    mask: Optional[torch.Tensor] = None
    """For padded runs, `(num_texts, 1, 1, length)`: where there is a token."""

    @classmethod
    def of(cls, lengths: torch.Tensor, run: Run, device: torch.device) -> "Segment":
        if not run.is_padded:
            length = int(lengths[0])
            return cls(run.num_texts, length, run.num_texts * length)
        length, num_tokens = int(lengths.max()), int(lengths.sum())
        mask = torch.arange(length) < lengths.unsqueeze(1)  # (texts, length)
        tokens_from = mask.flatten().nonzero().squeeze(1)
        # A text is padded with its own last token: what is no number in one text, although its
        # weight is 0, makes what it is multiplied with no number.
        ends = lengths.cumsum(0).unsqueeze(1)  # (texts, 1)
        places = torch.arange(length) + (ends - lengths.unsqueeze(1))
        padded_from = places.minimum(ends - 1).flatten()
        return cls(
            run.num_texts,
            length,
            num_tokens,
            padded_from.to(device),
            tokens_from.to(device),
            mask[:, None, None, :].to(device),
        )

    def pad(self, tokens: torch.Tensor) -> torch.Tensor:
        """From `(num_tokens, size)` to `(num_texts, length, size)`."""
        if self.padded_from is not None:
            tokens = tokens.index_select(0, self.padded_from)
        return tokens.view(self.num_texts, self.length, tokens.size(-1))

    def unpad(self, padded: torch.Tensor) -> torch.Tensor:
        """From `(num_texts, length, size)` to `(num_tokens, size)`."""
        tokens = padded.reshape(self.num_texts * self.length, padded.size(-1))
        return tokens if self.tokens_from is None else tokens.index_select(0, self.tokens_from)


def runs_of(lengths: List[int], device: torch.device) -> List[Run]:
    """
    Which neighbouring texts attention takes together. On a GPU, where a call costs more than
    padding, all of them; else texts of one length if they are many, and few ones padded.
    """
    if device.type != "cpu":
        return [Run(len(lengths), len(set(lengths)) > 1)] if lengths else []
    runs: List[Run] = []
    first = 0
    while first < len(lengths):
        last = first + 1
        num_tokens = lengths[first]
        while last < len(lengths) and (
            lengths[last] == lengths[first]
            or (num_tokens < _MIN_TOKENS_OF_A_RUN and lengths[last] <= 2 * lengths[first])
        ):
            num_tokens += lengths[last]
            last += 1
        runs.append(Run(last - first, len(set(lengths[first:last])) > 1))
        first = last
    return runs

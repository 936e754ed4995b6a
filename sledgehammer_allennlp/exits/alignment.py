"""The alignment of a pair: each token is compared with what it matches in the other text.

After Parikh et al. 2016, "A Decomposable Attention Model for Natural Language Inference", on the
hidden states that enter a layer instead of word embeddings.
"""

from typing import Any, Optional, Tuple

import torch
from torch import nn

from sledgehammer_allennlp.encoders.token_batch import positions_in_text
from sledgehammer_allennlp.exits.pair_texts import FIRST, SECOND

_FIRST_SCALE = 8.0
"""The scale of the scores before training."""


class SideLayout:
    """
    Where the words of one text of each pair lie among the first, or second, texts' words.

    # Parameters

    counts : `torch.Tensor`
        `(num_pairs,)`, the words of the text in each pair; on the CPU.
    device : `torch.device`
        Where the words are.
    """

    def __init__(self, counts: torch.Tensor, device: torch.device) -> None:
        as_list = counts.tolist()
        self._num_pairs = len(as_list)
        self.length = max(*as_list, 1)
        """Of the longest text; at least 1, so that there is something to take a maximum over."""
        self.num_words = sum(as_list)
        self._places: Optional[torch.Tensor] = None
        self._is_missing: Optional[torch.Tensor] = None
        if self.num_words == self._num_pairs * self.length:
            self._counts: Any = self.length
            return
        # Pairs are padded to one length.
        pair_of_word = torch.arange(self._num_pairs).repeat_interleave(counts)
        self._places = (pair_of_word * self.length + positions_in_text(counts)).to(device)
        self._is_missing = (torch.arange(self.length) >= counts.unsqueeze(1)).to(device)
        self._counts = counts.clamp(min=1).unsqueeze(1).to(device)

    def pad(self, words: torch.Tensor) -> torch.Tensor:
        """From `(num_words, size)` to `(num_pairs, length, size)`, with zeros where none is."""
        size = words.size(-1)
        if self._places is not None:
            zeros = words.new_zeros(self._num_pairs * self.length, size)
            words = zeros.index_copy(0, self._places, words)
        return words.view(self._num_pairs, self.length, size)

    def unpad(self, padded: torch.Tensor) -> torch.Tensor:
        """From `(num_pairs, length, size)` to `(num_words, size)`."""
        words = padded.flatten(0, 1)
        return words if self._places is None else words.index_select(0, self._places)

    def weights(self, scores: torch.Tensor) -> torch.Tensor:
        """
        Softmax over the words of this text, `(num_pairs, num_others, length)`. Where the text is
        empty the weights are of padding.
        """
        if self._is_missing is not None:
            lowest = torch.finfo(scores.dtype).min
            scores = scores.masked_fill(self._is_missing.unsqueeze(1), lowest)
        return scores.softmax(-1)

    def mean_and_maximum(self, words: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """
        Over the words of each text, of numbers that are not negative; each from
        `(num_words, size)` to `(num_pairs, size)`, zeros for an empty text.
        """
        padded = self.pad(words)
        return padded.sum(1) / self._counts, padded.amax(1)


class PairLayout:
    """
    Where the words of the texts of pairs lie in a tensor of all tokens.

    # Parameters

    sides : `torch.Tensor`
        `(num_tokens,)`, which text of its pair each token is in, see `PairTexts`; on the CPU.
    lengths : `torch.Tensor`
        `(num_pairs,)`, the tokens of each pair, special ones included; on the CPU.
    device : `torch.device`
        Where the tokens are.
    """

    def __init__(self, sides: torch.Tensor, lengths: torch.Tensor, device: torch.device) -> None:
        num_pairs = lengths.numel()
        words = [(sides == side).nonzero().squeeze(1) for side in (FIRST, SECOND)]
        if num_pairs == 1:
            counts = [torch.tensor([which.numel()]) for which in words]
        else:
            pair_of_token = torch.arange(num_pairs).repeat_interleave(lengths)
            counts = [pair_of_token[which].bincount(minlength=num_pairs) for which in words]
        self.words = torch.cat(words).to(device)
        """`(num_words,)`, the tokens of all first texts, then those of all second texts."""
        self.first, self.second = (SideLayout(count, device) for count in counts)


class Alignment(nn.Module):
    """
    What an exit sees of how the texts of a pair match.

    With h the hidden states of the words of a pair,

        z = W_z · LayerNorm(h)
        a_i = Σ_j softmax_j(s · z_i · z_j / size) z_j      over the words j of the other text
        c_i = ReLU(W_c · [z_i; z_i − a_i; z_i ⊙ a_i])

    and the output is the mean and the maximum of c over each text. s is learned. If the other text
    is empty, a is 0; if the text itself is, so are its mean and maximum.

    # Parameters

    hidden_size : `int`
    size : `int`
        Of z, a and c.
    dropout : `float`
        Of what W_c takes.
    """

    def __init__(self, hidden_size: int, size: int, dropout: float) -> None:
        super().__init__()
        self.size = size
        self.norm = nn.LayerNorm(hidden_size)
        self.project = nn.Linear(hidden_size, size)
        nn.init.normal_(self.project.weight, std=hidden_size**-0.5)
        nn.init.zeros_(self.project.bias)
        self.scale = nn.Parameter(torch.tensor(_FIRST_SCALE))
        self.dropout = nn.Dropout(dropout)
        self.compare = nn.Linear(3 * size, size)
        # A module, for AllenNLP's check of what stands between a linear layer and a normalization.
        self.activation = nn.ReLU()

    @property
    def output_size(self) -> int:
        """The size of the output for each pair."""
        return 4 * self.size

    def forward(self, hidden: torch.Tensor, layout: PairLayout) -> torch.Tensor:
        """
        The first texts' mean and maximum, then the second texts', `(num_pairs, 4 * size)`.

        # Parameters

        hidden : `torch.Tensor`
            `(num_tokens, hidden_size)`.
        layout : `PairLayout`
            Where the texts of the pairs lie in it.
        """
        hidden = hidden.index_select(0, layout.words).to(self.project.weight.dtype)
        z = self.project(self.norm(hidden))  # (words, size)
        a = self._aligned(z, layout)
        compared = self.compare(self.dropout(torch.cat([z, z - a, z * a], dim=-1)))
        compared = self.activation(compared)  # (words, size)
        first, second = compared.split([layout.first.num_words, layout.second.num_words])
        return torch.cat(
            [*layout.first.mean_and_maximum(first), *layout.second.mean_and_maximum(second)], dim=-1
        )

    def _aligned(self, z: torch.Tensor, layout: PairLayout) -> torch.Tensor:
        """What each word matches in the other text, `(num_words, size)`."""
        first, second = z.split([layout.first.num_words, layout.second.num_words])
        first, second = layout.first.pad(first), layout.second.pad(second)
        # In float32 at least, whatever the weights are.
        at_least = torch.promote_types(z.dtype, torch.float32)
        scaled = first.to(at_least) * (self.scale.to(at_least) / self.size)
        scores = scaled @ second.to(at_least).transpose(1, 2)  # (pairs, words of first, of second)
        of_first = layout.second.weights(scores).to(z.dtype) @ second
        of_second = layout.first.weights(scores.transpose(1, 2)).to(z.dtype) @ first
        return torch.cat([layout.first.unpad(of_first), layout.second.unpad(of_second)])


def alignment_work(hidden_size: int, size: int) -> int:
    """The multiply-adds of an alignment's linear layers, for one token."""
    return hidden_size * size + 3 * size * size

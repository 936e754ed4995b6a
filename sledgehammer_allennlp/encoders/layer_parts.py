"""The parts of a transformer layer, whatever its family calls them.

Every supported family computes one of two layers (Vaswani et al. 2017; Xiong et al. 2020):

    post-norm   attended = norm_1(x + dropout(W_o · attention(W_q x, W_k x, W_v x)))
                output   = norm_2(attended + dropout(W_2 · inner(attended)))
    pre-norm    attended = x + dropout(W_o · attention(W_q n, W_k n, W_v n)),  n = norm_1(x)
                output   = attended + dropout(W_2 · inner(norm_2(attended)))

where inner(x) is activation(W_1 x), or activation(W_1 x) ⊙ W_gate x (Shazeer 2020).
"""

from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Union

import torch
import torch.nn.functional as F
from torch import nn

from sledgehammer_allennlp.encoders.positions import Positions


class LinearRows:
    """
    Some outputs of a linear layer, as a linear layer of its own: families that compute several
    products by one layer.

    # Parameters

    whole : `nn.Linear`
    start, stop : `int`
        The first of these outputs, and the first that is not one of them.
    """

    def __init__(self, whole: nn.Linear, start: int, stop: int) -> None:
        self.whole = whole
        self._start = start
        self._stop = stop

    @property
    def weight(self) -> torch.Tensor:
        """`(stop - start, in)`"""
        return self.whole.weight[self._start : self._stop]

    @property
    def bias(self) -> Optional[torch.Tensor]:
        """`(stop - start,)`, or `None`."""
        bias: Optional[torch.Tensor] = self.whole.bias
        return None if bias is None else bias[self._start : self._stop]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


Linear = Union[nn.Module, LinearRows]


@dataclass
class LayerParts:
    """
    The modules and settings of one transformer layer.

    The modules belong to the pretrained model; several layers may share them (ALBERT).
    """

    query: Linear
    key: Linear
    value: Linear
    attention_output: nn.Module
    attention_norm: nn.Module
    feed_forward_in: Linear
    activation: Callable[[torch.Tensor], torch.Tensor]
    activation_name: str
    """As the transformers library names it."""
    feed_forward_out: nn.Module
    output_norm: nn.Module
    attention_dropout: float
    """On the attention weights."""
    hidden_dropout: float
    """On the output of the attention, before it is added."""
    output_dropout: float
    """On the output of the feed-forward part, before it is added."""
    inner_dropout: float = 0.0
    """On what enters `feed_forward_out`."""
    feed_forward_gate: Optional[Linear] = None
    is_pre_norm: bool = False
    positions: Optional[Positions] = None
    """How positions enter the attention; `None` where they are in the embeddings alone."""

    def linears(self) -> List[Linear]:
        """The matrix products."""
        attention = [self.query, self.key, self.value, self.attention_output]
        return [*attention, *self.inner_linears(), self.feed_forward_out]

    def inner_linears(self) -> List[Linear]:
        """Those that the feed-forward part begins with."""
        gate = [] if self.feed_forward_gate is None else [self.feed_forward_gate]
        return [self.feed_forward_in, *gate]

    @property
    def feed_forward_size(self) -> int:
        """How many numbers the feed-forward part computes for a token within it."""
        return sum(_shape(linear)[0] for linear in self.inner_linears())

    @property
    def work(self) -> int:
        """The multiply-adds of all products, for one token."""
        return sum(map(_work, self.linears()))

    @property
    def work_of_keys_values(self) -> int:
        """Those of the keys and values."""
        return _work(self.key) + _work(self.value)

    def linear_modules(self) -> List[nn.Module]:
        """The modules that compute them."""
        found = [x.whole if isinstance(x, LinearRows) else x for x in self.linears()]
        return list(dict.fromkeys(found))

    def modules(self) -> List[nn.Module]:
        """The modules that have weights, without those that `positions` shares among layers."""
        return [*self.linear_modules(), self.attention_norm, self.output_norm]


@dataclass(frozen=True)
class EncoderParts:
    """
    All layers of an encoder, and what has to be known of them together.

    # Parameters

    layers : `Sequence[LayerParts]`
    num_heads : `int`
    max_positions : `int`
        The largest number of tokens of a text.
    precision : `str`
        Of inference, one of `layer_products.PRECISIONS`.
    last_norm : `nn.Module`, optional
        Through which exits see hidden states.
    """

    layers: Sequence[LayerParts]
    num_heads: int
    max_positions: int
    precision: str
    last_norm: Optional[nn.Module] = None

    @property
    def hidden_size(self) -> int:
        """The numbers of a token that enter a layer."""
        weight = self.layers[0].query.weight
        assert isinstance(weight, torch.Tensor)
        return len(weight)


def _work(linear: Linear) -> int:
    outputs, inputs = _shape(linear)
    return outputs * inputs


def _shape(linear: Linear) -> torch.Size:
    """`(outputs, inputs)`"""
    assert isinstance(linear.weight, torch.Tensor)
    return linear.weight.shape

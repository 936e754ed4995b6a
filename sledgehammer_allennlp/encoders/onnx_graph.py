"""Transformer layers as an ONNX graph, built from their own weights.

A layer is a handful of ONNX Runtime's fused operators (its operators of the domain
`com.microsoft`), those that its optimizer makes of an exported BERT. The layers between two exits
are a *block*. All blocks are in one graph, each behind an `If` of its own, so that one session
with one pool of threads runs any of them: pools of several sessions would fight for the cores.

Texts are padded here, `(texts, tokens, size)`: few tokens run in such graphs, often those of a
single text.
"""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from sledgehammer_allennlp.encoders.layer_parts import LayerParts, Linear
from sledgehammer_allennlp.encoders.layer_products import int8_weight, num_int8_steps
from sledgehammer_allennlp.encoders.onnx_layers import HIDDEN, LENGTHS, MEAN_WEIGHTS
from sledgehammer_allennlp.encoders.onnx_nodes import (
    MICROSOFT,
    Nodes,
    boolean,
    floats,
    integers,
    serialized,
)

_ACTIVATIONS = {
    "gelu": "BiasGelu",
    "gelu_new": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "relu": "Relu",
}
"""ONNX Runtime's operators; all but ReLU add a bias before it."""


@dataclass(frozen=True)
class Block:
    """
    Layers that run together.

    # Parameters

    first, last : `int`
        The layers, both included.
    first_tokens_only : `bool`
        Whether of the last layer only the first tokens' output is computed.
    """

    first: int
    last: int
    first_tokens_only: bool = False

    @property
    def num_layers(self) -> int:
        return self.last - self.first + 1


def why_no_graph(layers: Sequence[LayerParts]) -> Optional[str]:
    """What of these layers there is no graph for, in words; `None` if there is one for all."""
    for parts in layers:
        if parts.positions is not None:
            return "it has no graph for positions that enter the attention"
        if parts.is_pre_norm or parts.feed_forward_gate is not None:
            return "it has no graph for layers with a norm before them or a gate within"
        if parts.activation_name not in _ACTIVATIONS:
            return f"it has no operator for the activation {parts.activation_name}"
    return None


def condition_of(block: int) -> str:
    """The name of the input that says whether block number `block` runs, a boolean, `()`."""
    return f"run_{block}"


def outputs_of(block: int) -> List[str]:
    """
    The names of what block number `block` gives:

    1. the output of its last layer, `(texts, tokens, hidden_size)`, or one token a text;
    2. what enters its last layer, of the shape of the input;
    3. the mean over tokens of what enters each of its layers, `(texts, layers, hidden_size)`;
    4. the first token of each of its layers' output, of the same shape.
    """
    return [f"{name}_{block}" for name in ("output", "entering", "means", "first_tokens")]


def build_graph(
    layers: Sequence[LayerParts], blocks: Sequence[Block], num_heads: int, precision: str
) -> bytes:
    """
    The model of all blocks, as ONNX Runtime reads it.

    # Parameters

    layers : `Sequence[LayerParts]`
        All layers of the encoder.
    blocks : `Sequence[Block]`
    num_heads : `int`
    precision : `str`
        `"float32"` or `"int8"`.
    """
    hidden_size = len(array_of(layers[0].query.weight))
    inputs = [
        floats(HIDDEN, ["texts", "tokens", hidden_size]),
        floats(MEAN_WEIGHTS, ["texts", 1, "tokens"]),
        integers(LENGTHS, ["texts"], TensorProto.INT32),
    ]
    nodes: List[onnx.NodeProto] = []
    outputs: List[onnx.ValueInfoProto] = []
    for number, block in enumerate(blocks):
        inputs.append(boolean(condition_of(number)))
        names = outputs_of(number)
        then = _block(f"block_{number}", layers, block, num_heads, precision)
        otherwise = _nothing(f"no_block_{number}", len(names), hidden_size)
        nodes.append(
            helper.make_node(
                "If", [condition_of(number)], names, then_branch=then, else_branch=otherwise
            )
        )
        outputs.extend(_any_rows(name, hidden_size) for name in names)
    return serialized(helper.make_graph(nodes, "layers", inputs, outputs))


def _any_rows(name: str, hidden_size: int) -> onnx.ValueInfoProto:
    return floats(name, [None, None, hidden_size])


def _block(
    name: str, layers: Sequence[LayerParts], block: Block, num_heads: int, precision: str
) -> onnx.GraphProto:
    """The branch of an `If` that runs the block. Its outputs: see `outputs_of`."""
    nodes = Nodes(name)
    layer_nodes = LayerNodes(nodes, num_heads, precision, LENGTHS)
    hidden, entering = HIDDEN, HIDDEN
    means, first_tokens = [], []
    for i in range(block.first, block.last + 1):
        entering = hidden
        means.append(nodes.add("MatMul", [MEAN_WEIGHTS, hidden]))
        only_first = block.first_tokens_only and i == block.last
        hidden = layer_nodes.add(layers[i], hidden, only_first)
        first_tokens.append(hidden if only_first else layer_nodes.first_tokens(hidden))
    outputs = [
        nodes.add("Identity", [hidden]),
        nodes.add("Identity", [entering]),
        nodes.add("Concat", means, axis=1),
        nodes.add("Concat", first_tokens, axis=1),
    ]
    hidden_size = len(array_of(layers[0].query.weight))
    return nodes.graph([_any_rows(name, hidden_size) for name in outputs])


def _nothing(name: str, num_outputs: int, hidden_size: int) -> onnx.GraphProto:
    """What a block gives that does not run: tensors without any rows."""
    nodes = Nodes(name)
    empty = helper.make_tensor(name, TensorProto.FLOAT, [1, 0, hidden_size], [])
    names = [nodes.add("Constant", [], value=empty) for _ in range(num_outputs)]
    return nodes.graph([_any_rows(name, hidden_size) for name in names])


class LayerNodes:
    """
    Adds transformer layers to a graph.

    # Parameters

    nodes : `Nodes`
        Of the graph.
    num_heads : `int`
    precision : `str`
        `"float32"` or `"int8"`.
    lengths : `str`, optional (default = `None`)
        The name of each text's number of tokens, `(texts,)` of int32; `None` for a single text.
    """

    def __init__(
        self, nodes: Nodes, num_heads: int, precision: str, lengths: Optional[str] = None
    ) -> None:
        self._nodes = nodes
        self._num_heads = num_heads
        self._is_int8 = precision == "int8"
        self._lengths = [] if lengths is None else [lengths]

    def add(self, parts: LayerParts, hidden: str, only_first: bool) -> str:
        """
        The output of a layer for all tokens or for the first of each text, `(texts, tokens,
        hidden_size)`; `hidden` enters it.
        """
        rows = self.first_tokens(hidden) if only_first else hidden
        context = self._attention(parts, hidden, rows, only_first)
        attended = self._add_and_norm(
            self._product([parts.attention_output], context),
            rows,
            parts.attention_norm,
            parts.attention_output,
        )
        inner = self._product([parts.feed_forward_in], attended)
        inner = self._activation(parts, inner)
        output = self._product([parts.feed_forward_out], inner)
        return self._add_and_norm(output, attended, parts.output_norm, parts.feed_forward_out)

    def first_tokens(self, hidden: str) -> str:
        """The first token of each text, `(texts, 1, hidden_size)`."""
        zero, one = self._nodes.weight(np.array([0])), self._nodes.weight(np.array([1]))
        return self._nodes.add("Slice", [hidden, zero, one, one])

    def _attention(self, parts: LayerParts, hidden: str, rows: str, only_first: bool) -> str:
        all_three = [parts.query, parts.key, parts.value]
        bias = self._nodes.weight(np.concatenate([_bias(linear) for linear in all_three]))
        if not only_first and not self._is_int8:
            weight = np.concatenate([_weight(linear) for linear in all_three], 1)
            inputs = [hidden, self._nodes.weight(weight), bias, *self._lengths]
            return self._nodes.add("Attention", inputs, MICROSOFT, num_heads=self._num_heads)
        if only_first:
            query = self._product([parts.query], rows)
            keys_values = self._product([parts.key, parts.value], hidden)
            key, value = self._nodes.add_many("Split", [keys_values], 2, axis=-1)
        else:
            together = self._product(all_three, hidden)
            query, key, value = self._nodes.add_many("Split", [together], 3, axis=-1)
        inputs = [query, key, value, bias, *self._lengths]
        return self._nodes.add("MultiHeadAttention", inputs, MICROSOFT, num_heads=self._num_heads)

    def _activation(self, parts: LayerParts, inner: str) -> str:
        operator = _ACTIVATIONS[parts.activation_name]
        bias = self._nodes.weight(_bias(parts.feed_forward_in))
        if operator == "Relu":
            return self._nodes.add("Relu", [self._nodes.add("Add", [inner, bias])])
        return self._nodes.add(operator, [inner, bias], MICROSOFT)

    def _add_and_norm(self, x: str, residual: str, norm: nn.Module, linear: Linear) -> str:
        """`norm(x + bias of the linear layer + residual)`"""
        assert isinstance(norm, nn.LayerNorm)
        weights = (array_of(norm.weight), array_of(norm.bias), _bias(linear))
        inputs = [x, residual, *map(self._nodes.weight, weights)]
        return self._nodes.add("SkipLayerNormalization", inputs, MICROSOFT, epsilon=norm.eps)

    def _product(self, linears: Sequence[Linear], x: str) -> str:
        """`x · weight^T` of several linear layers side by side, without their biases."""
        weight = np.concatenate([_weight(linear) for linear in linears], 1)  # (in, out)
        nodes = self._nodes
        if not self._is_int8:
            return nodes.add("MatMul", [x, nodes.weight(weight)])
        rounded, scale = self._rounded_rows(x)
        int8, scales = (x.numpy() for x in int8_weight(torch.from_numpy(weight.T)))
        weights = [nodes.weight(int8.T), nodes.number(1), nodes.weight(scales), self._zero_point()]
        product = nodes.add("MatMulIntegerToFloat", [rounded, *weights], MICROSOFT)
        return nodes.add("Mul", [product, scale])

    def _rounded_rows(self, x: str) -> Tuple[str, str]:
        """
        Rows rounded to 8 bits, each by a scale of its own, as `layer_products` does; and the
        scales. A row of zeros has scale 0, and whatever it is rounded to, its product times 0 is 0.
        """
        nodes = self._nodes
        magnitude = nodes.add("ReduceMax", [nodes.add("Abs", [x])], axes=[-1], keepdims=1)
        scale = nodes.add("Div", [magnitude, nodes.number(num_int8_steps())])
        inputs = [nodes.add("Div", [x, scale]), nodes.number(1), self._zero_point()]
        return nodes.add("QuantizeLinear", inputs), scale

    def _zero_point(self) -> str:
        return self._nodes.weight(np.array(num_int8_steps() + 1, np.uint8))


def _weight(linear: Linear) -> np.ndarray:
    """`(in, out)`"""
    return array_of(linear.weight).T


def _bias(linear: Linear) -> np.ndarray:
    return array_of(linear.bias)


def array_of(parameter: object) -> np.ndarray:
    """The numbers of a parameter, not copied."""
    assert isinstance(parameter, nn.Parameter)
    array: np.ndarray = parameter.detach().numpy()
    return array

"""Transformer layers as an ONNX graph, built from their own weights.

A layer is a handful of ONNX Runtime's fused operators (its operators of the domain
`com.microsoft`), those that its optimizer makes of an exported BERT. The layers between two exits
are a *block*. All blocks are in one graph, each behind an `If` of its own, so that one session
with one pool of threads runs any of them: pools of several sessions would fight for the cores.

Texts are padded here, `(texts, tokens, size)`: few tokens run in such graphs, often those of a
single text.
"""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from sledgehammer_allennlp.encoders.layer_parts import EncoderParts, LayerParts, Linear
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
from sledgehammer_allennlp.encoders.onnx_positions import PositionNodes

_ACTIVATIONS = {
    "gelu": "BiasGelu",
    "gelu_python": "BiasGelu",
    "gelu_new": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "relu": "Relu",
    "silu": "QuickGelu",  # of a factor: x · sigmoid(1 · x)
    "swish": "QuickGelu",
}
"""ONNX Runtime's operators."""
_WITH_BIAS = ("BiasGelu", "FastGelu")
"""Those that add a bias before it."""


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


def why_no_graph(layers: Sequence[LayerParts]) -> Optional[str]:
    """What of these layers there is no graph for, in words; `None` if there is one for all."""
    for parts in layers:
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
    3. the mean over tokens of what enters each of its layers, as exits see it, `(texts, layers,
       hidden_size)`;
    4. the first token of each of its layers' output, of the same shape.
    """
    return [f"{name}_{block}" for name in ("output", "entering", "means", "first_tokens")]


def build_graph(encoder: EncoderParts, blocks: Sequence[Block]) -> bytes:
    """The model of all blocks, as ONNX Runtime reads it."""
    hidden_size = encoder.hidden_size
    inputs = [
        floats(HIDDEN, ["texts", "tokens", hidden_size]),
        floats(MEAN_WEIGHTS, ["texts", 1, "tokens"]),
        integers(LENGTHS, ["texts"], TensorProto.INT32),
    ]
    around = Nodes("layers")
    positions = PositionNodes(around, HIDDEN, encoder)
    outputs: List[onnx.ValueInfoProto] = []
    for number, block in enumerate(blocks):
        inputs.append(boolean(condition_of(number)))
        names = outputs_of(number)
        then = _block(f"block_{number}", encoder, block, positions)
        otherwise = _nothing(f"no_block_{number}", len(names), hidden_size)
        found = around.branch(condition_of(number), then, otherwise, len(names))
        for name, output in zip(found, names):
            around.output(name, output)
        outputs.extend(_any_rows(name, hidden_size) for name in names)
    return serialized(around.graph(outputs, inputs))


def _any_rows(name: str, hidden_size: int) -> onnx.ValueInfoProto:
    return floats(name, [None, None, hidden_size])


def _block(
    name: str, encoder: EncoderParts, block: Block, positions: PositionNodes
) -> onnx.GraphProto:
    """The branch of an `If` that runs the block. Its outputs: see `outputs_of`."""
    nodes = Nodes(name)
    layer_nodes = LayerNodes(nodes, encoder, positions, LENGTHS)
    hidden, entering = HIDDEN, HIDDEN
    means, first_tokens = [], []
    for i in range(block.first, block.last + 1):
        entering = hidden
        means.append(nodes.add("MatMul", [MEAN_WEIGHTS, layer_nodes.seen_by_exits(hidden)]))
        only_first = block.first_tokens_only and i == block.last
        hidden = layer_nodes.add(i, hidden, only_first)
        first_tokens.append(hidden if only_first else layer_nodes.first_tokens(hidden))
    outputs = [
        nodes.add("Identity", [hidden]),
        nodes.add("Identity", [entering]),
        nodes.add("Concat", means, axis=1),
        nodes.add("Concat", first_tokens, axis=1),
    ]
    return nodes.graph([_any_rows(name, encoder.hidden_size) for name in outputs])


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
    encoder : `EncoderParts`
    positions : `PositionNodes`
        Of its layers.
    lengths : `str`, optional (default = `None`)
        The name of each text's number of tokens, `(texts,)` of int32; `None` for a single text.
    """

    def __init__(
        self,
        nodes: Nodes,
        encoder: EncoderParts,
        positions: PositionNodes,
        lengths: Optional[str] = None,
    ) -> None:
        self._nodes = nodes
        self._encoder = encoder
        self._positions = positions
        self._lengths = lengths or ""

    def add(self, i: int, hidden: str, only_first: bool) -> str:
        """
        The output of layer `i` for all tokens or for the first of each text, `(texts, tokens,
        hidden_size)`; `hidden` enters it.
        """
        parts = self._encoder.layers[i]
        entering = hidden
        if parts.is_pre_norm:
            entering = add_norm(self._nodes, parts.attention_norm, hidden)
        rows, entering_rows = hidden, entering
        if only_first:
            rows, entering_rows = map(self.first_tokens, (hidden, entering))
        context = self._attention(parts, entering, entering_rows, only_first)
        found = self._product([parts.attention_output], context)
        if parts.is_pre_norm:
            attended = self._add(self._with_bias(found, parts.attention_output), rows)
            inner = self._inner(parts, add_norm(self._nodes, parts.output_norm, attended))
            output = self._product([parts.feed_forward_out], inner)
            return self._add(self._with_bias(output, parts.feed_forward_out), attended)
        attended = self._add_and_norm(found, rows, parts.attention_norm, parts.attention_output)
        output = self._product([parts.feed_forward_out], self._inner(parts, attended))
        return self._add_and_norm(output, attended, parts.output_norm, parts.feed_forward_out)

    def first_tokens(self, hidden: str) -> str:
        """The first token of each text, `(texts, 1, hidden_size)`."""
        return self._nodes.first_of(hidden, axis=1)

    def seen_by_exits(self, hidden: str) -> str:
        """Hidden states as exits see them, of the same shape."""
        norm = self._encoder.last_norm
        return hidden if norm is None else add_norm(self._nodes, norm, hidden)

    def _attention(self, parts: LayerParts, hidden: str, rows: str, only_first: bool) -> str:
        nodes = self._nodes
        all_three = [parts.query, parts.key, parts.value]
        biases = np.concatenate([_bias(linear) for linear in all_three])
        settings: Dict[str, Any] = {"num_heads": self._encoder.num_heads}
        if not only_first and not self._is_int8 and parts.positions is None:
            weight = np.concatenate([_weight(linear) for linear in all_three], 1)
            inputs = [hidden, nodes.weight(weight), nodes.weight(biases), self._lengths]
            return nodes.add("Attention", inputs, MICROSOFT, **settings)
        if only_first:
            query = self._product([parts.query], rows)
            keys_values = self._product([parts.key, parts.value], hidden)
            key, value = nodes.add_many("Split", [keys_values], 2, axis=-1)
        else:
            together = self._product(all_three, hidden)
            query, key, value = nodes.add_many("Split", [together], 3, axis=-1)
        if parts.positions is None:
            inputs = [query, key, value, nodes.weight(biases), self._lengths]
        else:
            query, key, value = (
                self._with_bias(x, linear) for x, linear in zip((query, key, value), all_three)
            )
            found = self._positions.enter(nodes, parts.positions, query, key, only_first)
            inputs = [found.query, found.key, value, "", self._lengths, found.bias or ""]
            if found.scale is not None:
                settings["scale"] = found.scale
        return nodes.add("MultiHeadAttention", inputs, MICROSOFT, **settings)

    def _inner(self, parts: LayerParts, x: str) -> str:
        """What the feed-forward part computes within, `(texts, rows, feed-forward size)`."""
        if parts.feed_forward_gate is None:
            return self._activation(parts, self._product([parts.feed_forward_in], x))
        together = self._product(parts.inner_linears(), x)
        inner, gate = self._nodes.add_many("Split", [together], 2, axis=-1)
        gate = self._with_bias(gate, parts.feed_forward_gate)
        return self._nodes.add("Mul", [self._activation(parts, inner), gate])

    def _activation(self, parts: LayerParts, inner: str) -> str:
        """Of a product without its bias."""
        operator = _ACTIVATIONS[parts.activation_name]
        if operator in _WITH_BIAS:
            bias = self._nodes.weight(_bias(parts.feed_forward_in))
            return self._nodes.add(operator, [inner, bias], MICROSOFT)
        inner = self._with_bias(inner, parts.feed_forward_in)
        if operator == "QuickGelu":
            return self._nodes.add(operator, [inner], MICROSOFT, alpha=1.0)
        return self._nodes.add(operator, [inner])

    def _add_and_norm(self, x: str, residual: str, norm: nn.Module, linear: Linear) -> str:
        """`norm(x + bias of the linear layer + residual)`"""
        inputs = [x, residual, *_weights_of_norm(self._nodes, norm)]
        inputs.append(self._nodes.weight(_bias(linear)))
        return self._nodes.add("SkipLayerNormalization", inputs, MICROSOFT, epsilon=norm.eps)

    def _with_bias(self, x: str, linear: Linear) -> str:
        return x if linear.bias is None else self._add(x, self._nodes.weight(_bias(linear)))

    def _add(self, x: str, y: str) -> str:
        return self._nodes.add("Add", [x, y])

    @property
    def _is_int8(self) -> bool:
        return self._encoder.precision == "int8"

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


def add_norm(nodes: Nodes, norm: nn.Module, x: str) -> str:
    """
    `norm(x)`, of the shape of `x`.

    # Parameters

    nodes : `Nodes`
        Of the graph.
    norm : `nn.Module`
        An `nn.LayerNorm`, or an `nn.Identity`.
    x : `str`
    """
    if isinstance(norm, nn.Identity):
        return x
    inputs = [x, *_weights_of_norm(nodes, norm)]
    return nodes.add("LayerNormalization", inputs, axis=-1, epsilon=norm.eps)


def _weights_of_norm(nodes: Nodes, norm: nn.Module) -> List[str]:
    """The names of its weight and bias, zeros where it has none."""
    assert isinstance(norm, nn.LayerNorm)
    weight = array_of(norm.weight)
    # Some versions of ONNX Runtime cannot do without.
    bias = np.zeros_like(weight) if norm.bias is None else array_of(norm.bias)
    return [nodes.weight(weight), nodes.weight(bias)]


def _weight(linear: Linear) -> np.ndarray:
    """`(in, out)`"""
    return array_of(linear.weight).T


def _bias(linear: Linear) -> np.ndarray:
    """`(out,)`, zeros where it has none."""
    if linear.bias is None:
        return np.zeros(linear.weight.shape[0], np.float32)
    return array_of(linear.bias)


def array_of(parameter: object) -> np.ndarray:
    """The numbers of a parameter, not copied."""
    assert isinstance(parameter, torch.Tensor)
    array: np.ndarray = parameter.detach().numpy()
    return array

"""Transformer layers as an ONNX graph, built from their own weights.

A layer is a handful of ONNX Runtime's fused operators (its operators of the domain
`com.microsoft`), those that its optimizer makes of an exported BERT. The layers between two exits
are a *block*. All blocks are in one graph, each behind an `If` of its own, so that one session
with one pool of threads runs any of them: pools of several sessions would fight for the cores.
Each takes what the block before it gives, which where that one does not run is what it takes: so
one run is of one block or of several in a row.

Texts are padded here, `(texts, tokens, size)`: few tokens run in such graphs, often those of a
single text.
"""

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from sledgehammer_allennlp.encoders.layer_parts import LayerParts, Linear
from sledgehammer_allennlp.encoders.layer_products import int8_weight, num_int8_steps
from sledgehammer_allennlp.encoders.onnx_layers import HIDDEN, LENGTHS, MEAN_WEIGHTS

_ACTIVATIONS = {
    "gelu": "BiasGelu",
    "gelu_new": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "relu": "Relu",
}
"""ONNX Runtime's operators; all but ReLU add a bias before it."""

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
_OPSET, _IR_VERSION = 17, 8


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
    hidden_size = len(_array(layers[0].query.weight))
    rows: List[Union[str, int, None]] = ["texts", "tokens", hidden_size]
    inputs = [
        helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, rows),
        helper.make_tensor_value_info(MEAN_WEIGHTS, TensorProto.FLOAT, ["texts", 1, "tokens"]),
        helper.make_tensor_value_info(LENGTHS, TensorProto.INT32, ["texts"]),
    ]
    nodes, outputs = [], []
    taken = HIDDEN
    for number, block in enumerate(blocks):
        inputs.append(helper.make_tensor_value_info(condition_of(number), TensorProto.BOOL, []))
        names = outputs_of(number)
        infos = [_any_rows(name, hidden_size) for name in names]
        then = _BlockGraph(f"block_{number}", num_heads, precision).build(layers, block, taken)
        otherwise = _passed_on(f"no_block_{number}", taken, len(names), hidden_size)
        nodes.append(
            helper.make_node(
                "If", [condition_of(number)], names, then_branch=then, else_branch=otherwise
            )
        )
        outputs.extend(infos)
        taken = names[0]
    return serialized(helper.make_graph(nodes, "layers", inputs, outputs))


def serialized(graph: onnx.GraphProto) -> bytes:
    """A graph as a model that ONNX Runtime reads."""
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = _IR_VERSION
    found: bytes = model.SerializeToString()
    return found


def _any_rows(name: str, hidden_size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None, hidden_size])


def _passed_on(name: str, taken: str, num_outputs: int, hidden_size: int) -> onnx.GraphProto:
    """What a block gives that does not run: what it takes, and tensors without any rows."""
    names = [f"{name}_{i}" for i in range(num_outputs)]
    empty = helper.make_tensor(name, TensorProto.FLOAT, [1, 0, hidden_size], [])
    nodes = [helper.make_node("Identity", [taken], names[:1])]
    nodes += [helper.make_node("Constant", [], [name], value=empty) for name in names[1:]]
    return helper.make_graph(nodes, name, [], [_any_rows(name, hidden_size) for name in names])


class _BlockGraph:
    """
    The graph of one block. `name` begins the names of all that is in it.
    """

    def __init__(self, name: str, num_heads: int, precision: str) -> None:
        self._name = name
        self._num_heads = num_heads
        self._is_int8 = precision == "int8"
        self._nodes: List[onnx.NodeProto] = []
        self._weights: List[onnx.TensorProto] = []
        self._num_names = 0

    def build(self, layers: Sequence[LayerParts], block: Block, taken: str) -> onnx.GraphProto:
        """The branch of an `If` that runs the block on `taken`. Its outputs: see `outputs_of`."""
        hidden, entering = taken, taken
        means, first_tokens = [], []
        for i in range(block.first, block.last + 1):
            entering = hidden
            means.append(self._node("MatMul", [MEAN_WEIGHTS, hidden]))
            only_first = block.first_tokens_only and i == block.last
            hidden = self._layer(layers[i], hidden, only_first)
            first_tokens.append(hidden if only_first else self._first_tokens(hidden))
        outputs = [
            self._node("Identity", [hidden]),
            self._node("Identity", [entering]),
            self._node("Concat", means, axis=1),
            self._node("Concat", first_tokens, axis=1),
        ]
        hidden_size = len(_array(layers[0].query.weight))
        infos = [_any_rows(name, hidden_size) for name in outputs]
        return helper.make_graph(self._nodes, self._name, [], infos, self._weights)

    def _layer(self, parts: LayerParts, hidden: str, only_first: bool) -> str:
        """The layer's output for all tokens or for the first of each text."""
        rows = self._first_tokens(hidden) if only_first else hidden
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

    def _attention(self, parts: LayerParts, hidden: str, rows: str, only_first: bool) -> str:
        all_three = [parts.query, parts.key, parts.value]
        bias = self._weight(np.concatenate([_bias(linear) for linear in all_three]))
        if not only_first and not self._is_int8:
            weight = self._weight(np.concatenate([_weight(linear) for linear in all_three], 1))
            inputs = [hidden, weight, bias, LENGTHS]
            return self._node("Attention", inputs, MICROSOFT, num_heads=self._num_heads)
        if only_first:
            query = self._product([parts.query], rows)
            keys_values = self._product([parts.key, parts.value], hidden)
            key, value = self._split(keys_values, 2)
        else:
            query, key, value = self._split(self._product(all_three, hidden), 3)
        inputs = [query, key, value, bias, LENGTHS]
        return self._node("MultiHeadAttention", inputs, MICROSOFT, num_heads=self._num_heads)

    def _activation(self, parts: LayerParts, inner: str) -> str:
        operator = _ACTIVATIONS[parts.activation_name]
        bias = self._weight(_bias(parts.feed_forward_in))
        if operator == "Relu":
            return self._node("Relu", [self._node("Add", [inner, bias])])
        return self._node(operator, [inner, bias], MICROSOFT)

    def _add_and_norm(self, x: str, residual: str, norm: nn.Module, linear: Linear) -> str:
        """`norm(x + bias of the linear layer + residual)`"""
        assert isinstance(norm, nn.LayerNorm)
        weights = [self._weight(_array(norm.weight)), self._weight(_array(norm.bias))]
        inputs = [x, residual, *weights, self._weight(_bias(linear))]
        return self._node("SkipLayerNormalization", inputs, MICROSOFT, epsilon=norm.eps)

    def _product(self, linears: Sequence[Linear], x: str) -> str:
        """`x · weight^T` of several linear layers side by side, without their biases."""
        weight = np.concatenate([_weight(linear) for linear in linears], 1)  # (in, out)
        if not self._is_int8:
            return self._node("MatMul", [x, self._weight(weight)])
        rounded, scale = self._rounded_rows(x)
        int8, scales = (x.numpy() for x in int8_weight(torch.from_numpy(weight.T)))
        one = self._number(1)
        inputs = [rounded, self._weight(int8.T), one, self._weight(scales), self._zero_point()]
        return self._node("Mul", [self._node("MatMulIntegerToFloat", inputs, MICROSOFT), scale])

    def _rounded_rows(self, x: str) -> Tuple[str, str]:
        """
        Rows rounded to 8 bits, each by a scale of its own, as `layer_products` does; and the
        scales. A row of zeros has scale 0, and whatever it is rounded to, its product times 0 is 0.
        """
        magnitude = self._node("ReduceMax", [self._node("Abs", [x])], axes=[-1], keepdims=1)
        scale = self._node("Div", [magnitude, self._number(num_int8_steps())])
        one = self._number(1)
        inputs = [self._node("Div", [x, scale]), one, self._zero_point()]
        return self._node("QuantizeLinear", inputs), scale

    def _zero_point(self) -> str:
        return self._weight(np.array(num_int8_steps() + 1, np.uint8))

    def _first_tokens(self, hidden: str) -> str:
        zero, one = self._weight(np.array([0])), self._weight(np.array([1]))
        return self._node("Slice", [hidden, zero, one, one])

    def _split(self, x: str, parts: int) -> List[str]:
        names = [self._new_name() for _ in range(parts)]
        self._nodes.append(helper.make_node("Split", [x], names, axis=-1))
        return names

    def _node(self, operator: str, inputs: List[str], domain: str = "", **attributes: Any) -> str:
        name = self._new_name()
        self._nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        return name

    def _weight(self, array: np.ndarray) -> str:
        name = self._new_name()
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _number(self, number: float) -> str:
        return self._weight(np.array(number, np.float32))

    def _new_name(self) -> str:
        self._num_names += 1
        return f"{self._name}_{self._num_names}"


def _weight(linear: Linear) -> np.ndarray:
    """`(in, out)`"""
    return _array(linear.weight).T


def _bias(linear: Linear) -> np.ndarray:
    return _array(linear.bias)


def _array(parameter: object) -> np.ndarray:
    assert isinstance(parameter, nn.Parameter)
    array: np.ndarray = parameter.detach().numpy()
    return array

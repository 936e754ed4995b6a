"""How the products of one transformer layer are computed: to be trained, or as fast as they can be.

Which products a layer has, see `layer_parts`.

For inference, weights are laid out in advance for oneDNN, the library that torch uses on CPUs:
such products are up to three times as fast as ordinary ones when there are few tokens, and a
fifth when there are many. They can be had in reduced precision:

- `bfloat16`, `float16`: weights and what runs through the layers.
- `int8`: weights are rounded to 8 bits, with one scale for each output; what enters a product is
  rounded to 8 bits when it is known ("dynamic quantisation"), with one scale for each token, so
  that no text has a say in how another is rounded.
"""

import warnings
from functools import cache
from typing import Callable, Dict, List, Optional, Protocol, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from sledgehammer_allennlp.encoders.layer_parts import LayerParts, Linear
from sledgehammer_allennlp.encoders.positions import Scorer

KeysValues = Tuple[torch.Tensor, torch.Tensor]
Product = Callable[[torch.Tensor], torch.Tensor]

PRECISIONS: Dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.float32,
}
"""What can be chosen for inference, and the type of what runs through the layers then."""

_FUSED_ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
"""oneDNN's names of activations that it computes together with the product before them."""


_IN_PLACE: Dict[Tuple[str, str], Product] = {
    ("gelu", "none"): lambda x: torch.ops.aten.gelu_(x),
    ("relu", ""): lambda x: x.relu_(),
}


class LayerProducts(Protocol):
    """What is computed of a layer beside attention; all tensors are `(num_tokens, size)`."""

    @property
    def scorer(self) -> Optional[Scorer]:
        """Puts positions into attention, where the family does."""
        ...

    def query(self, hidden: torch.Tensor) -> torch.Tensor: ...

    def keys_values(self, hidden: torch.Tensor) -> KeysValues: ...

    def after_attention(self, context: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """The layer's output, given what attention found and what entered the layer."""
        ...


class TrainableProducts:
    """By the modules of the pretrained model, with dropout and gradients."""

    def __init__(self, parts: LayerParts, add_residual: "AddResidual") -> None:
        self._parts = parts
        self._add_residual = add_residual

    @property
    def scorer(self) -> Optional[Scorer]:
        positions = self._parts.positions
        return None if positions is None else positions.scorer(self._add_residual.training)

    def query(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._parts.query(self._entering(hidden))

    def keys_values(self, hidden: torch.Tensor) -> KeysValues:
        hidden = self._entering(hidden)
        return self._parts.key(hidden), self._parts.value(hidden)

    def after_attention(self, context: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        parts = self._parts
        context = parts.attention_output(context)
        attended = self._add_residual(context, hidden, parts.hidden_dropout)
        if parts.is_pre_norm:
            output = parts.feed_forward_out(self._inner(parts.output_norm(attended)))
            return self._add_residual(output, attended, parts.output_dropout)
        attended = parts.attention_norm(attended)
        output = parts.feed_forward_out(self._inner(attended))
        return parts.output_norm(self._add_residual(output, attended, parts.output_dropout))

    def _entering(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._parts.attention_norm(hidden) if self._parts.is_pre_norm else hidden

    def _inner(self, x: torch.Tensor) -> torch.Tensor:
        parts = self._parts
        inner = parts.activation(parts.feed_forward_in(x))
        if parts.feed_forward_gate is not None:
            inner = inner * parts.feed_forward_gate(x)
        return F.dropout(inner, parts.inner_dropout, self._add_residual.training)


class AddResidual(nn.Module):
    """
    `dropout(output) + residual`. A module, because AllenNLP's check of the order in which modules
    run must see that between a linear layer with bias and a normalization there is a sum.
    """

    def forward(self, output: torch.Tensor, residual: torch.Tensor, p: float) -> torch.Tensor:
        if self.training and p > 0:
            output = F.dropout(output, p)
        return output + residual


class InferenceProducts:
    """
    As fast as they can be, without gradients or dropout, from copies of the weights.

    # Parameters

    parts : `LayerParts`
    precision : `str`
        One of `PRECISIONS`.
    """

    def __init__(self, parts: LayerParts, precision: str) -> None:
        dtype = PRECISIONS[precision]
        fused = _FUSED_ACTIVATIONS.get(parts.activation_name)
        self._query = _product([parts.query], precision)
        self._keys_values = _product([parts.key, parts.value], precision)
        self._attention_output = _product([parts.attention_output], precision)
        self._feed_forward_in = _product([parts.feed_forward_in], precision, fused)
        # Applied separately where the product does not compute it.
        self._activation: Optional[Product] = parts.activation
        if fused is not None:
            is_fused = isinstance(self._feed_forward_in, _OneDnnProduct)
            self._activation = None if is_fused else _IN_PLACE.get(fused, parts.activation)
        gate = parts.feed_forward_gate
        self._feed_forward_gate = None if gate is None else _product([gate], precision)
        self._feed_forward_out = _product([parts.feed_forward_out], precision)
        self._attention_norm = _norm(parts.attention_norm, dtype)
        self._output_norm = _norm(parts.output_norm, dtype)
        self._is_pre_norm = parts.is_pre_norm
        with torch.no_grad():
            self.scorer = None if parts.positions is None else parts.positions.scorer()

    def query(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._query(self._attention_norm(hidden) if self._is_pre_norm else hidden)

    def keys_values(self, hidden: torch.Tensor) -> KeysValues:
        if self._is_pre_norm:
            hidden = self._attention_norm(hidden)
        keys, values = self._keys_values(hidden).chunk(2, dim=-1)
        return keys, values

    def after_attention(self, context: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        attended = self._attention_output(context).add_(hidden)
        if self._is_pre_norm:
            inner = self._inner(self._output_norm(attended))
            return self._feed_forward_out(inner).add_(attended)
        attended = self._attention_norm(attended)
        return self._output_norm(self._feed_forward_out(self._inner(attended)).add_(attended))

    def _inner(self, x: torch.Tensor) -> torch.Tensor:
        inner = self._feed_forward_in(x)
        if self._activation is not None:
            inner = self._activation(inner)
        if self._feed_forward_gate is not None:
            inner = inner.mul_(self._feed_forward_gate(x))
        return inner


def inference_products(
    parts: LayerParts, precision: str, device: torch.device
) -> Optional[InferenceProducts]:
    """
    The products of a layer for inference, or `None` if nothing is faster than the modules.

    # Raises

    ValueError
        If the device cannot compute in this precision.
    """
    check_precision(precision, device)
    if precision == "float32" and not (device.type == "cpu" and _has_onednn()):
        return None
    return InferenceProducts(parts, precision)


def check_precision_name(precision: str) -> None:
    """
    # Raises

    ValueError
        If there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}: wanted one of {', '.join(PRECISIONS)}")


def check_precision(precision: str, device: torch.device) -> None:
    """
    # Raises

    ValueError
        If there is no such precision, or the device cannot compute in it.
    """
    check_precision_name(precision)
    if precision == "float16" and device.type == "cpu":
        raise ValueError("precision is 'float16', which needs a GPU: on a CPU, wanted bfloat16")
    if precision == "int8" and device.type != "cpu":
        raise ValueError(
            f"precision is 'int8', which needs a CPU: on '{device}', wanted float16 or bfloat16"
        )
    if precision == "int8" and not _has_onednn_int8():
        raise ValueError("precision is 'int8', which needs a torch with oneDNN, 2.4 or newer")
    if precision == "bfloat16" and device.type == "cpu" and not _has_bfloat16():
        raise ValueError("precision is 'bfloat16', which needs a CPU with AVX-512 or better")
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(f"precision is 'bfloat16', which '{device}' has not: wanted float16")


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_reorder_linear_weight"
    )


def _has_bfloat16() -> bool:
    return not _has_onednn() or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _has_onednn_int8() -> bool:
    return _has_onednn() and hasattr(torch.ops.onednn, "qlinear_pointwise")


def _product(
    linears: Sequence[Linear],
    precision: str,
    fused_activation: Optional[Tuple[str, str]] = None,
) -> Product:
    """Several linear layers over the same input as one product, their outputs side by side."""
    weights = [_tensor(linear.weight) for linear in linears]
    biases = [
        torch.zeros_like(weight[:, 0]) if linear.bias is None else _tensor(linear.bias)
        for linear, weight in zip(linears, weights)
    ]
    weight = torch.cat(weights) if len(weights) > 1 else weights[0]
    bias = torch.cat(biases) if len(biases) > 1 else biases[0]
    if precision == "int8":
        return _Int8Product(weight, bias)
    dtype = PRECISIONS[precision]
    weight, bias = weight.to(dtype), bias.to(dtype)
    if weight.device.type == "cpu" and _has_onednn():
        return _OneDnnProduct(weight, bias, fused_activation)
    return lambda hidden: F.linear(hidden, weight, bias)


def _tensor(parameter: object) -> torch.Tensor:
    assert isinstance(parameter, torch.Tensor)
    return parameter.detach()


def _norm(norm: nn.Module, dtype: torch.dtype) -> Product:
    if isinstance(norm, nn.Identity):
        return norm
    assert isinstance(norm, nn.LayerNorm)
    weight = norm.weight.detach().to(dtype)
    bias = None if norm.bias is None else norm.bias.detach().to(dtype)
    shape, eps = norm.normalized_shape, norm.eps
    return lambda hidden: F.layer_norm(hidden, shape, weight, bias, eps)


class _OneDnnProduct:
    """`activation(hidden · weight^T + bias)` with the weight laid out in advance."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, activation: Optional[Tuple[str, str]]
    ) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self._bias = bias
        self._activation, self._algorithm = activation or ("none", "")

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(
            hidden, self._weight, self._bias, self._activation, _NO_SCALARS, self._algorithm
        )


_NO_SCALARS: List[Optional[float]] = []


class _Int8Product:
    """
    `hidden · weight^T + bias` in 8 bits, summed in 32 bits.

    A row of `hidden` is rounded to steps of its largest magnitude / 127, a row of `weight`
    likewise. The product takes unsigned numbers, so that 0 stands at 128.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._steps = num_int8_steps()
        _use_up_warning()
        rounded, scales = int8_weight(weight)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._scales = scales
        self._zero_points = torch.zeros_like(scales, dtype=torch.int32)
        self._bias = bias

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        magnitude = torch.maximum(hidden.amax(1, True), hidden.amin(1, True).neg_())
        # A row of zeros, or of what is no number, is not to be divided by that.
        scale = magnitude.div_(self._steps).clamp_(min=torch.finfo(hidden.dtype).tiny)
        product = torch.ops.onednn.qlinear_pointwise(
            _rounded(hidden / scale, self._steps + 1),
            1.0,
            self._steps + 1,
            self._weight,
            self._scales,
            self._zero_points,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            _NO_SCALARS,
            "",
        )
        return torch.addcmul(self._bias, product, scale, out=product)


def int8_weight(weight: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    A weight rounded to 8 bits.

    # Returns

    The rounded weight, `(out, in)`, and the step of each output, `(out,)`.
    """
    scales = weight.abs().amax(1).clamp(min=torch.finfo(weight.dtype).tiny) / 127
    return (weight / scales.unsqueeze(1)).round().to(torch.int8), scales


def num_int8_steps() -> int:
    """How many steps above zero, and below it, what enters a product in 8 bits is rounded to."""
    # Without VNNI, sums of pairs are kept in 16 bits, which 7 bits never overflow.
    return 127 if _has_vnni() else 63


def _rounded(x: torch.Tensor, zero_point: int) -> torch.Tensor:
    """`x`, which is overwritten, rounded to integers + `zero_point`, as unsigned bytes."""
    if not _has_quantized_tensors():
        return x.round_().add_(zero_point).to(torch.uint8)
    quantized = torch.quantize_per_tensor(x, 1.0, zero_point, torch.quint8)
    # Its integers as they are: int_repr() would copy them, which takes as long as rounding.
    integers = torch.empty(0, dtype=torch.uint8)
    return integers.set_(quantized.untyped_storage(), 0, x.shape, x.stride())


def _has_quantized_tensors() -> bool:
    """They are deprecated. Rounding to them takes 0.6 of the time of rounding and casting."""
    return hasattr(torch, "quantize_per_tensor")


@cache
def _use_up_warning() -> None:
    """Newer versions of torch warn, once, that quantized tensors will be removed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _rounded(torch.zeros(1, 1), 0)


def _has_vnni() -> bool:
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())


def with_round_number_of_rows(x: torch.Tensor) -> torch.Tensor:
    """
    `(num_rows, size)` with some rows repeated, so that the number of rows is one of few: oneDNN
    makes a program for every number of rows, and keeps some.
    """
    num_rows = x.size(0)
    step = 1 if num_rows <= 128 else 32 if num_rows <= 1024 else 64
    missing = -num_rows % step
    return x if missing == 0 else torch.cat([x, x[:missing]])

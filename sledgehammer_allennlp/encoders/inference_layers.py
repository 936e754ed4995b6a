"""An encoder's layers as inference runs them, made of the weights as they are.

Either weights are laid out in advance, in some precision, see `layer_products`; or the layers are
in sessions of ONNX Runtime, see `onnx_layers`.
"""

import ctypes
from contextlib import suppress
from dataclasses import replace
from typing import Any, Callable, Dict, Hashable, List, Optional, Sequence, Tuple

import torch
from torch import nn

from sledgehammer_allennlp.encoders.layer_parts import EncoderParts
from sledgehammer_allennlp.encoders.layer_products import (
    LayerProducts,
    check_precision,
    check_precision_name,
    inference_products,
)
from sledgehammer_allennlp.encoders.locks import fork_safe_lock
from sledgehammer_allennlp.encoders.onnx_layers import ONNXRUNTIME, check_runtime_name, why_no_onnx
from sledgehammer_allennlp.encoders.onnx_session import AnySession, KeptSessions
from sledgehammer_allennlp.encoders.weights_stamp import stamp_of

# Of all encoders, because what has locks could not be copied.
_LAYING_OUT = fork_safe_lock()


class InferenceLayers:
    """
    What is made of an encoder's layers for inference. Nothing of it is copied or pickled.

    # Parameters

    encoder : `EncoderParts`
    norms : `Sequence[nn.Module]`
        Those beside the layers that sessions contain.
    runtime : `str`
        One of `onnx_layers.RUNTIMES`.

    # Raises

    ValueError
        If there is no such precision or runtime.
    """

    def __init__(self, encoder: EncoderParts, norms: Sequence[nn.Module], runtime: str) -> None:
        modules = [module for parts in encoder.layers for module in parts.modules()]
        for parts in encoder.layers:
            modules += [] if parts.positions is None else parts.positions.modules
        modules = list(dict.fromkeys([*modules, *norms]))  # several layers may share some
        self._parameters = [module._parameters for module in modules]
        self._hooks = [
            hooks
            for module in modules
            for hooks in (module._forward_hooks, module._forward_pre_hooks)
        ]
        self._encoder = encoder
        self._has_weights = True
        self._products: Dict[int, LayerProducts]
        self._stamp: Optional[List[Tuple[int, object]]]
        self._sessions: KeptSessions
        self.precision = encoder.precision
        self.runtime = runtime

    @property
    def precision(self) -> str:
        """One of `layer_products.PRECISIONS`."""
        return self._encoder.precision

    @precision.setter
    def precision(self, precision: str) -> None:
        check_precision_name(precision)
        self.forget()
        self._encoder = replace(self._encoder, precision=precision)

    @property
    def runtime(self) -> str:
        """What runs the layers, one of `onnx_layers.RUNTIMES`."""
        return self._runtime

    @runtime.setter
    def runtime(self, runtime: str) -> None:
        check_runtime_name(runtime)
        self.refuse_without_weights()
        self._runtime = runtime

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._encoder.layers[0].query.weight.device  # type: ignore[return-value]

    @property
    def are_ready(self) -> bool:
        """Whether `prepare` found weights that inference may be run from."""
        return self._stamp is not None

    def prepare(self) -> None:
        """
        Makes what is missing or was made of other weights, unless a hook wants to see the modules
        at work, or they were cast to another type.

        # Raises

        ValueError
            If the device cannot compute in the precision.
        """
        if not self._has_weights:
            return
        if self._are_modules_wanted:
            self.forget()
            return
        stamp = stamp_of(self._parameters)
        if stamp == self._stamp:
            return
        with _LAYING_OUT:
            if stamp != self._stamp:
                self._sessions = KeptSessions()
                self._products = self._laid_out()
                # Last, because another thread takes it for a sign that all is laid out.
                self._stamp = stamp

    @property
    def _are_modules_wanted(self) -> bool:
        """Whether a hook wants to see the modules at work, or they were cast to another type."""
        return any(self._hooks) or self._encoder.layers[0].query.weight.dtype != torch.float32

    def _laid_out(self) -> Dict[int, LayerProducts]:
        """The products of each layer that has any for inference."""
        made: Dict[int, Optional[LayerProducts]] = {}
        products: Dict[int, LayerProducts] = {}
        for i, parts in enumerate(self._encoder.layers):
            shared = id(parts.query)  # ALBERT's layers share their weights
            if shared not in made:
                made[shared] = inference_products(parts, self.precision, self.device)
            this = made[shared]
            if this is not None:
                products[i] = this
        return products

    def products(self, i: int) -> Optional[LayerProducts]:
        """Those of layer `i`; `None` where the modules are to be used."""
        return self._products.get(i)

    @property
    def has_products(self) -> bool:
        """Whether any layer has products, which then take what is in this precision."""
        return bool(self._products)

    def check(self) -> None:
        """
        # Raises

        ValueError
            If the device cannot compute in this precision, or the layers cannot run in the runtime.
        """
        check_precision(self.precision, self.device)
        if self.runtime == ONNXRUNTIME:
            self._may_run_in_onnx()

    def _may_run_in_onnx(self) -> bool:
        """Whether the layers can run there. Raises ValueError if no other runtime may be taken."""
        why_not = self._why_no_onnx()
        if why_not is not None and self.runtime == ONNXRUNTIME:
            raise ValueError(f"runtime is 'onnxruntime': {why_not}")
        return why_not is None

    def _why_no_onnx(self) -> Optional[str]:
        return why_no_onnx(self._encoder.layers, self.precision, self.device)

    @property
    def can_make_sessions(self) -> bool:
        """Whether ONNX Runtime can run the layers as they are now."""
        may_be_read = self._has_weights and not self._are_modules_wanted
        return may_be_read and self._why_no_onnx() is None

    def session(
        self,
        key: Hashable,
        make: Callable[[EncoderParts], AnySession],
        is_current: Callable[[AnySession], bool] = lambda made: True,
    ) -> Optional[AnySession]:
        """See `LayeredEncoder.onnx_session`."""
        session = self._sessions.find(key, is_current)
        if session is None and self._has_weights and self._may_run_in_onnx():
            encoder = self._encoder
            session = self._sessions.find_or_make(key, lambda: make(encoder), is_current)
        return session

    def give_up_weights(self) -> None:
        """Frees the weights of the layers' products, if all layers have been laid out."""
        if len(self._products) < len(self._encoder.layers):
            return
        self._has_weights = False
        for parts in self._encoder.layers:
            for linear in parts.linear_modules():
                assert isinstance(linear.weight, nn.Parameter)
                linear.weight.data = linear.weight.data.new_empty(0)
        _return_freed_memory()

    def refuse_without_weights(self) -> None:
        """Raises RuntimeError if the weights were given up."""
        if not self._has_weights:
            raise RuntimeError(
                "this encoder has given up its weights: it cannot be trained, moved, copied or "
                "saved, nor change its precision; load it again for that"
            )

    def forget(self) -> None:
        """Has all be made anew. Raises RuntimeError if the weights were given up."""
        self.refuse_without_weights()
        self._products, self._stamp = {}, None
        self._sessions = KeptSessions()

    def __getstate__(self) -> Dict[str, Any]:
        self.refuse_without_weights()
        return {**self.__dict__, "_products": {}, "_stamp": None, "_sessions": KeptSessions()}


def _return_freed_memory() -> None:
    """Asks the C library to give the system what it keeps for later, where it can be asked."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

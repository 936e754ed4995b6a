"""An exit for a single instance, in ONNX Runtime.

Of so few numbers, calls of torch take most of the time; and the threads of its products, or of
NumPy's, wait by spinning and keep those of the layers from the cores. One session with one thread
serves all exits of a kind, because it takes their weights as inputs: it copies none, and changed
weights are used at once.
"""

import os
from functools import cache
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np
import torch

from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.exits.pair_texts import FIRST, SECOND, PairTexts


class WordsOfPair(NamedTuple):
    """The positions of the words of each text of a pair, `(num_words,)`; none is empty."""

    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, pair_texts: PairTexts, pair: TokenBatch) -> "Optional[WordsOfPair]":
        """Of a single pair; `None` where a text has no words."""
        sides = pair_texts(pair).numpy()
        first, second = np.flatnonzero(sides == FIRST), np.flatnonzero(sides == SECOND)
        return cls(first, second) if len(first) and len(second) else None


class _Kind(NamedTuple):
    """What a session is made for."""

    has_mix: bool
    takes_first_token: bool
    eps: float
    eps_of_states: Optional[float]
    """Of an alignment; `None` without one."""


def score_one_instance(
    classifier: Any,
    layer_vectors: np.ndarray,
    first_token: Optional[np.ndarray],
    states: Optional[np.ndarray],
    words: Optional[WordsOfPair],
) -> List[float]:
    """
    The logits of an exit, see `ExitClassifiers`, with pooling `"mean"`, up to rounding.

    # Parameters

    classifier : `nn.Module`
        The exit, in float32.
    layer_vectors : `np.ndarray`
        `(num_vectors, hidden_size)`, the vectors to mix.
    first_token : `np.ndarray`, optional
        `(1, hidden_size)`, the first token's output of its layer; `None` before layer 0.
    states : `np.ndarray`, optional
        `(num_tokens, hidden_size)`, what enters its layer; needed with an alignment.
    words : `WordsOfPair`, optional
        Needed with an alignment.
    """
    mix, alignment = classifier.mix.weights, classifier.alignment
    feeds: Dict[str, np.ndarray] = {"vectors": layer_vectors}
    modules = {"norm": classifier.norm, "linear": classifier.linear}
    if mix is not None:
        feeds["mix"] = _array(mix)[None]
    if first_token is not None:
        feeds["first_token"] = first_token
    if alignment is not None:
        assert states is not None and words is not None
        feeds.update(states=states, **words._asdict())
        feeds["scale"] = _array(alignment.scale).reshape(1) / np.float32(alignment.size)
        modules["norm_of_states"] = alignment.norm
        modules["project"], modules["compare"] = alignment.project, alignment.compare
        modules["hidden"] = classifier.hidden[0]
    for name, module in modules.items():
        feeds[f"{name}.weight"], feeds[f"{name}.bias"] = _array(module.weight), _array(module.bias)
    kind = _Kind(
        mix is not None,
        first_token is not None,
        classifier.norm.eps,
        None if alignment is None else alignment.norm.eps,
    )
    logits: List[float] = _session(os.getpid(), kind).run(["logits"], feeds)[0][0].tolist()
    return logits


def _array(parameter: torch.Tensor) -> np.ndarray:
    array: np.ndarray = parameter.detach().numpy()
    return array


@cache
def _session(process: int, kind: _Kind) -> Any:
    """The session of a process for a kind of exits, made when it is first needed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = _Graph().build(kind)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class _Graph:
    """The model, as ONNX Runtime reads it. Every size is free, so it is that of any exit."""

    def __init__(self) -> None:
        # Here, because it is not installed everywhere.
        from onnx import TensorProto, helper

        self._types, self._helper = TensorProto, helper
        self._inputs: List[Any] = []
        self._nodes: List[Any] = []

    def build(self, kind: _Kind) -> bytes:
        """What `ExitClassifiers` computes for an exit of this kind."""
        from sledgehammer_allennlp.encoders.onnx_graph import MICROSOFT, serialized

        seen = [self._floats("vectors", 2)]
        if kind.has_mix:
            mix = self._floats("mix", 2)
            length = self._node("ReduceL2", [mix], "length", axes=[1])
            mix = self._node("Div", [mix, length], "unit")
            seen = [self._node("MatMul", [mix, *seen], "mixed")]
        if kind.takes_first_token:
            seen.append(self._floats("first_token", 2))
        if kind.eps_of_states is not None:
            seen += self._aligned(kind.eps_of_states)
        all_seen = self._norm("norm", self._node("Concat", seen, "seen", axis=1), kind.eps)
        if kind.eps_of_states is not None:
            hidden = self._linear("hidden", all_seen, "h")
            all_seen = self._node("Gelu", [hidden], "activated", domain=MICROSOFT)
        self._linear("linear", all_seen, "logits")
        logits = self._helper.make_tensor_value_info("logits", self._types.FLOAT, [1, "labels"])
        return serialized(self._helper.make_graph(self._nodes, "exit", self._inputs, [logits]))

    def _aligned(self, eps: float) -> List[str]:
        """`Alignment`: the mean and the maximum over each text's words."""
        states = self._norm("norm_of_states", self._floats("states", 2), eps)
        z_of_all = self._linear("project", states, "z")
        texts = [self._input(name, self._types.INT64, 1) for name in WordsOfPair._fields]
        z = [self._node("Gather", [z_of_all, text], f"z_of_{text}", axis=0) for text in texts]
        scaled = self._node("Mul", [z[0], self._floats("scale", 1)], "scaled")
        # (words of the first text, words of the second)
        scores = self._node("Gemm", [scaled, z[1]], "scores", transB=1)
        of_first = self._node("Softmax", [scores], "weights_of_first", axis=1)
        of_second = self._node("Softmax", [scores], "weights_of_second", axis=0)
        matched = [
            self._node("Gemm", [of_first, z[1]], "a_of_first"),
            self._node("Gemm", [of_second, z[0]], "a_of_second", transA=1),
        ]
        found = []
        for text, own, other in zip(texts, z, matched):
            difference = self._node("Sub", [own, other], f"difference_of_{text}")
            product = self._node("Mul", [own, other], f"product_of_{text}")
            inputs = [own, difference, product]
            together = self._node("Concat", inputs, f"together_of_{text}", axis=1)
            compared = self._linear("compare", together, f"compared_of_{text}")
            compared = self._node("Relu", [compared], f"c_of_{text}")
            for operator in ("ReduceMean", "ReduceMax"):
                found.append(self._node(operator, [compared], f"{operator}_of_{text}", axes=[0]))
        return found

    def _linear(self, name: str, x: str, output: str) -> str:
        return self._node("Gemm", [x, *self._weights(name, 2)], output, transB=1)

    def _norm(self, name: str, x: str, eps: float) -> str:
        inputs = [x, *self._weights(name, 1)]
        return self._node("LayerNormalization", inputs, f"{x}_normed", axis=-1, epsilon=eps)

    def _weights(self, name: str, num_dimensions: int) -> List[str]:
        return [self._floats(f"{name}.weight", num_dimensions), self._floats(f"{name}.bias", 1)]

    def _floats(self, name: str, num_dimensions: int) -> str:
        return self._input(name, self._types.FLOAT, num_dimensions)

    def _input(self, name: str, kind: int, num_dimensions: int) -> str:
        if all(one.name != name for one in self._inputs):
            shape = [f"{name}_{i}" for i in range(num_dimensions)]
            self._inputs.append(self._helper.make_tensor_value_info(name, kind, shape))
        return name

    def _node(self, operator: str, inputs: List[str], output: str, **attributes: Any) -> str:
        self._nodes.append(self._helper.make_node(operator, inputs, [output], **attributes))
        return output

"""An exit with an alignment for a single pair, in ONNX Runtime.

Of so few numbers, calls of torch take most of the time; and the threads of its products, or of
NumPy's, wait by spinning and keep those of the layers from the cores. One session with one thread
serves all exits, because it takes their weights as inputs: it copies none, and changed weights are
used at once.
"""

import os
from functools import lru_cache
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np
import torch

from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.exits.pair_texts import FIRST, SECOND, PairTexts

_TEXTS = ("first", "second")
_NORMS = ("norm of states", "norm of seen")
_LINEARS = ("project", "compare", "inner", "outer")
"""What of an exit has weights, each a weight and a bias."""

_OPSET, _IR_VERSION = 17, 8


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


def score_one_pair(
    classifier: Any, seen: np.ndarray, hidden: np.ndarray, words: WordsOfPair
) -> List[float]:
    """
    The logits of an exit with an alignment, see `ExitClassifiers`, up to rounding.

    # Parameters

    classifier : `nn.Module`
        The exit, in float32.
    seen : `np.ndarray`
        `(size,)`, what it sees beside the alignment.
    hidden : `np.ndarray`
        `(num_tokens, hidden_size)`, what enters its layer.
    words : `WordsOfPair`
    """
    alignment = classifier.alignment
    feeds: Dict[str, np.ndarray] = {
        "states": hidden,
        "seen": seen[None],
        "scale": _array(alignment.scale).reshape(1) / np.float32(alignment.size),
        "first": words.first,
        "second": words.second,
    }
    norms = alignment.norm, classifier.norm
    linears = alignment.project, alignment.compare, classifier.hidden[0], classifier.linear
    for name, module in zip((*_NORMS, *_LINEARS), (*norms, *linears)):
        feeds[f"{name}.weight"], feeds[f"{name}.bias"] = _array(module.weight), _array(module.bias)
    session = _session(os.getpid(), *(norm.eps for norm in norms))
    logits: List[float] = session.run(["logits"], feeds)[0][0].tolist()
    return logits


def _array(parameter: torch.Tensor) -> np.ndarray:
    array: np.ndarray = parameter.detach().numpy()
    return array


@lru_cache(maxsize=8)
def _session(process: int, eps_of_states: float, eps_of_seen: float) -> Any:
    """The session of a process, made when it is first needed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        _graph(eps_of_states, eps_of_seen), options, providers=["CPUExecutionProvider"]
    )


def _graph(eps_of_states: float, eps_of_seen: float) -> bytes:
    """
    The model, as ONNX Runtime reads it: `Alignment`, and what an exit does after it. Every size is
    free, so it is that of any exit.
    """
    from onnx import TensorProto, helper

    nodes = []

    def node(operator: str, inputs: List[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def linear(name: str, x: str, output: str) -> str:
        return node("Gemm", [x, f"{name}.weight", f"{name}.bias"], output, transB=1)

    def norm(name: str, x: str, eps: float) -> str:
        inputs = [x, f"{name}.weight", f"{name}.bias"]
        return node("LayerNormalization", inputs, f"{x} normed", axis=-1, epsilon=eps)

    z_of_all = linear("project", norm("norm of states", "states", eps_of_states), "z")
    z = [node("Gather", [z_of_all, text], f"z of {text}", axis=0) for text in _TEXTS]
    scaled = node("Mul", [z[0], "scale"], "scaled")
    scores = node("Gemm", [scaled, z[1]], "scores", transB=1)  # (words of first, of second)
    of_first = node("Softmax", [scores], "weights of first", axis=1)
    of_second = node("Softmax", [scores], "weights of second", axis=0)
    aligned = [
        node("Gemm", [of_first, z[1]], "a of first"),
        node("Gemm", [of_second, z[0]], "a of second", transA=1),
    ]
    seen = ["seen"]
    for text, own, other in zip(_TEXTS, z, aligned):
        difference = node("Sub", [own, other], f"difference of {text}")
        product = node("Mul", [own, other], f"product of {text}")
        together = node("Concat", [own, difference, product], f"together of {text}", axis=1)
        compared = linear("compare", together, f"compared of {text}")
        compared = node("Relu", [compared], f"c of {text}")
        over_words = {"axes": [0], "keepdims": 1}
        seen.append(node("ReduceMean", [compared], f"mean of {text}", **over_words))
        seen.append(node("ReduceMax", [compared], f"maximum of {text}", **over_words))
    all_seen = norm("norm of seen", node("Concat", seen, "all seen", axis=1), eps_of_seen)
    inner = node("Gelu", [linear("inner", all_seen, "h")], "GELU of h", domain="com.microsoft")
    linear("outer", inner, "logits")

    def floats(name: str, shape: List[Any]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    inputs = [
        floats("states", ["tokens", "hidden size"]),
        floats("seen", [1, "seen size"]),
        floats("scale", [1]),
        *(floats(f"{name}.weight", [f"size of {name}"]) for name in _NORMS),
        *(floats(f"{name}.weight", [f"size of {name}", f"input of {name}"]) for name in _LINEARS),
        *(floats(f"{name}.bias", [f"size of {name}"]) for name in (*_NORMS, *_LINEARS)),
        *(
            helper.make_tensor_value_info(text, TensorProto.INT64, [f"words of {text}"])
            for text in _TEXTS
        ),
    ]
    graph = helper.make_graph(nodes, "exit", inputs, [floats("logits", [1, "labels"])])
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = _IR_VERSION
    serialized: bytes = model.SerializeToString()
    return serialized

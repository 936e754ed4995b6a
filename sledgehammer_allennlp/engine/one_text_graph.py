"""The whole way of a single text as one ONNX graph: embeddings, layers, exits, and when to stop.

Each call of ONNX Runtime costs as much as half a layer of a short text, because its threads sleep
in between. So the graph goes on by itself from exit to exit as long as the confidence is below a
bound. It gives the logits of the exits that the text reached; where it exits is for the exit rule
to say, which looks at each of them.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import onnx
from torch import nn

from sledgehammer_allennlp.encoders.layer_parts import LayerParts
from sledgehammer_allennlp.encoders.onnx_graph import LayerNodes, array_of
from sledgehammer_allennlp.encoders.onnx_nodes import Nodes, boolean, floats, integers, serialized
from sledgehammer_allennlp.engine.one_text_session import (
    BOUND,
    EMBEDDED,
    FITTED,
    LOGITS,
    WORDS,
    asked,
    weights_at,
)
from sledgehammer_allennlp.exits.classifiers import EMBEDDING_EXIT, ExitClassifiers
from sledgehammer_allennlp.exits.exit_graph import ExitInputs, ExitNodes


class _Way(NamedTuple):
    """
    What is known of a text on its way, by names in the graph: what enters the next layer, `(1,
    tokens, hidden_size)`; the mean over tokens of what entered each layer, `(1, hidden_size)`; and
    the logits of the exits so far, `(exits, labels)`, `None` before the first.
    """

    hidden: str
    means: Dict[int, str]
    logits: Optional[str]


class OneTextGraph:
    """
    # Parameters

    layers : `Sequence[LayerParts]`
    embedding_norm : `nn.LayerNorm`, optional
        What stands between what is fed and layer 0.
    exits : `ExitClassifiers`
        With pooling `"mean"`.
    num_heads : `int`
    precision : `str`
        Of the layers, `"float32"` or `"int8"`.
    """

    def __init__(
        self,
        layers: Sequence[LayerParts],
        embedding_norm: Optional[nn.LayerNorm],
        exits: ExitClassifiers,
        num_heads: int,
        precision: str,
    ) -> None:
        self._layers = layers
        self._embedding_norm = embedding_norm
        self._exits = exits
        self._last_exit = len(exits.exit_layers) - 1
        self._num_heads = num_heads
        self._precision = precision

    def build(self) -> bytes:
        """The model, as ONNX Runtime reads it."""
        exits = self._exits
        hidden_size = len(array_of(self._layers[0].query.weight))
        inputs = [floats(EMBEDDED, [1, "tokens", hidden_size]), floats(BOUND, [1])]
        if exits.num_fitted:
            inputs.append(floats(FITTED, [exits.num_fitted, exits.num_labels]))
        if exits.alignment is not None:
            inputs += [integers(text, [f"words_{text}"]) for text in WORDS]
        for k in range(exits.num_fitted, self._last_exit):
            inputs += [boolean(asked(k)), floats(weights_at(k), [1, k + 1])]
        nodes = Nodes("text")
        hidden = EMBEDDED
        if self._embedding_norm is not None:
            norm = self._embedding_norm
            weights = [nodes.weight(array_of(one)) for one in (norm.weight, norm.bias)]
            hidden = nodes.add("LayerNormalization", [hidden, *weights], epsilon=norm.eps)
        way = _Way(hidden, {}, FITTED if exits.num_fitted else None)
        nodes.output(self._go_on(nodes, exits.num_fitted, way), LOGITS)
        return serialized(nodes.graph([floats(LOGITS)], inputs))

    def _go_on(self, nodes: Nodes, k: int, way: _Way) -> str:
        """Runs on to exit `k`, and from there as far as it goes; gives the logits of all exits."""
        layer = self._exits.exit_layers[k]
        first_layer = 0 if k == 0 else self._exits.exit_layers[k - 1] + 1
        is_last = k == self._last_exit
        hidden = entering = way.hidden
        means, first_token = dict(way.means), None
        if layer == EMBEDDING_EXIT:
            means[0] = nodes.add("ReduceMean", [hidden], axes=[1], keepdims=0)
        layer_nodes = LayerNodes(nodes, self._num_heads, self._precision)
        for i in range(first_layer, layer + 1):
            if i not in means:
                means[i] = nodes.add("ReduceMean", [hidden], axes=[1], keepdims=0)
            entering = hidden
            hidden = layer_nodes.add(self._layers[i], hidden, is_last and i == layer)
        if layer != EMBEDDING_EXIT:
            first_token = nodes.add("Gather", [hidden, nodes.weight(np.array(0))], axis=1)
        seen = ExitInputs(list(means.values()), first_token)
        if self._exits.alignment is not None:
            states = nodes.add("Squeeze", [entering, nodes.weight(np.array([0]))])
            seen = seen._replace(states=states, words=WORDS)
        if is_last:
            return self._with_own_logits(nodes, k, way, seen)
        logits, goes_on = nodes.branch(
            asked(k), self._asked(f"exit_{k}", k, way, seen), self._passed(f"pass_{k}", way), 2
        )
        then = Nodes(f"after_{k}")
        all_logits = self._go_on(then, k + 1, _Way(hidden, means, logits))
        otherwise = Nodes(f"stop_{k}")
        stopped = otherwise.add("Identity", [logits])
        (found,) = nodes.branch(
            goes_on, then.graph([floats(all_logits)]), otherwise.graph([floats(stopped)]), 1
        )
        return found

    def _asked(self, name: str, k: int, way: _Way, seen: ExitInputs) -> onnx.GraphProto:
        """Of an exit that is asked: the logits so far, and whether the text goes on, `(1,)`."""
        nodes = Nodes(name)
        logits = self._with_own_logits(nodes, k, way, seen)
        calibrated = nodes.add("MatMul", [weights_at(k), logits])  # (1, labels)
        probs = nodes.add("Softmax", [calibrated], axis=-1)
        confidence = nodes.add("ReduceMax", [probs], axes=[-1], keepdims=0)
        goes_on = nodes.add("Less", [confidence, BOUND])  # not what is no number
        return nodes.graph([floats(logits), boolean(goes_on, [1])])

    def _passed(self, name: str, way: _Way) -> onnx.GraphProto:
        """The same of an exit that is not asked: zeros, and that it goes on."""
        nodes = Nodes(name)
        zeros = nodes.weight(np.zeros((1, self._exits.num_labels), np.float32))
        logits = nodes.add("Concat", [*_known(way), zeros], axis=0)
        goes_on = nodes.add("Identity", [nodes.weight(np.array([True]))])
        return nodes.graph([floats(logits), boolean(goes_on, [1])])

    def _with_own_logits(self, nodes: Nodes, k: int, way: _Way, seen: ExitInputs) -> str:
        own = ExitNodes(nodes).add(self._exits.classifiers[k], seen)
        return nodes.add("Concat", [*_known(way), own], axis=0)


def _known(way: _Way) -> List[str]:
    return [] if way.logits is None else [way.logits]

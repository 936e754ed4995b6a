"""The whole way of a single text as one ONNX graph: embeddings, layers, exits, and when to stop.

Each call of ONNX Runtime costs as much as half a layer of a short text, because its threads sleep
in between. So the graph goes on by itself from exit to exit as long as the confidence is below a
bound. It gives the logits of the exits that the text reached; where it exits is for the exit rule
to say, which looks at each of them.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import onnx
from torch import nn

from sledgehammer_allennlp.encoders.layer_parts import EncoderParts
from sledgehammer_allennlp.encoders.onnx_graph import LayerNodes, add_norm
from sledgehammer_allennlp.encoders.onnx_nodes import Nodes, boolean, floats, integers, serialized
from sledgehammer_allennlp.encoders.onnx_positions import PositionNodes
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
    tokens, hidden_size)`; the means over tokens of what entered each layer, in parts, each
    `(layers, hidden_size)`; the logits of the exits so far, `(exits, labels)`, `None` before the
    first; and whether it goes on, `(1,)`, `None` where it does.
    """

    hidden: str
    means: List[str]
    logits: Optional[str]
    goes_on: Optional[str] = None


class OneTextGraph:
    """
    The graph of one model.

    # Parameters

    encoder : `EncoderParts`
    embedding_norm : `nn.LayerNorm`, optional
        What stands between what is fed and layer 0.
    exits : `ExitClassifiers`
        With pooling `"mean"`.
    """

    def __init__(
        self,
        encoder: EncoderParts,
        embedding_norm: Optional[nn.LayerNorm],
        exits: ExitClassifiers,
    ) -> None:
        self._encoder = encoder
        self._embedding_norm = embedding_norm
        self._exits = exits
        self._last_exit = len(exits.exit_layers) - 1
        self._around = Nodes("text")
        self._positions = PositionNodes(self._around, EMBEDDED, encoder)

    def build(self) -> bytes:
        """The model, as ONNX Runtime reads it."""
        exits = self._exits
        inputs = [floats(EMBEDDED, [1, "tokens", self._encoder.hidden_size]), floats(BOUND, [1])]
        if exits.num_fitted:
            inputs.append(floats(FITTED, [exits.num_fitted, exits.num_labels]))
        if exits.alignment is not None:
            inputs += [integers(text, [f"words_{text}"]) for text in WORDS]
        for k in range(exits.num_fitted, self._last_exit):
            inputs += [boolean(asked(k)), floats(weights_at(k), [1, k + 1])]
        nodes = self._around
        hidden = EMBEDDED
        if self._embedding_norm is not None:
            hidden = add_norm(nodes, self._embedding_norm, hidden)
        way = _Way(hidden, [], FITTED if exits.num_fitted else None)
        for k in range(exits.num_fitted, self._last_exit + 1):
            way = self._run_to(nodes, k, way) if way.goes_on is None else self._try(nodes, k, way)
        assert way.logits is not None
        nodes.output(way.logits, LOGITS)
        return serialized(nodes.graph([floats(LOGITS)], inputs))

    def _try(self, nodes: Nodes, k: int, way: _Way) -> _Way:
        """
        `_run_to`, if the text goes on. One after the other, not one within the other, because all
        that a branch has is copied for each branch around it.
        """
        then = Nodes(f"to_{k}")
        found = self._run_to(then, k, way)
        otherwise = Nodes(f"not_to_{k}")
        assert way.goes_on and way.logits and found.logits
        same = otherwise.add("Identity", [way.logits])
        if found.goes_on is None:
            (logits,) = nodes.branch(
                way.goes_on, then.graph([floats(found.logits)]), otherwise.graph([floats(same)]), 1
            )
            return _Way(way.hidden, way.means, logits)
        names = [found.hidden, found.means[-1], found.logits, found.goes_on]
        nothing = [self._nothing(otherwise, shape) for shape in ((1, 0), (0,))]
        stops = otherwise.add("Identity", [otherwise.weight(np.array([False]))])
        hidden, means, logits, goes_on = nodes.branch(
            way.goes_on, _four(then, names), _four(otherwise, [*nothing, same, stops]), 4
        )
        return _Way(hidden, [*way.means, means], logits, goes_on)

    def _run_to(self, nodes: Nodes, k: int, way: _Way) -> _Way:
        """The layers up to exit `k`, and the exit."""
        layer = self._exits.exit_layers[k]
        first_layer = 0 if k == 0 else self._exits.exit_layers[k - 1] + 1
        is_last = k == self._last_exit
        hidden = way.hidden
        means, first_token, states = [], None, None
        sees_tokens = self._exits.sees_tokens_at(k)
        needs_means = not is_last or self._exits.classifiers[k].mix is not None
        layer_nodes = LayerNodes(nodes, self._encoder, self._positions)
        for i in range(first_layer, max(layer + 1, 1)):
            is_exits = i == max(layer, 0)
            # The exit before layer 0 has had the mean of what enters it.
            needs_mean = needs_means and (i > 0 or not way.means)
            if needs_mean or (is_exits and sees_tokens):
                states = layer_nodes.seen_by_exits(hidden)
                if needs_mean:
                    means.append(_token_mean(nodes, states))
            if layer != EMBEDDING_EXIT:
                hidden = layer_nodes.add(i, hidden, is_last and is_exits)
        if layer != EMBEDDING_EXIT:
            first = nodes.add("Gather", [hidden, nodes.weight(np.array(0))], axis=1)
            first_token = layer_nodes.seen_by_exits(first)
        own_means = nodes.add("Concat", means, axis=0) if means else self._nothing(nodes, (0,))
        seen = ExitInputs([*way.means, own_means], first_token)
        if sees_tokens:
            assert states is not None
            states = nodes.add("Squeeze", [states, nodes.weight(np.array([0]))])
            seen = seen._replace(states=states, words=WORDS)
        way = _Way(hidden, [*way.means, own_means], way.logits)
        if is_last:
            return way._replace(logits=self._with_own_logits(nodes, k, way, seen))
        logits, goes_on = nodes.branch(asked(k), self._asked(k, way, seen), self._passed(k, way), 2)
        return way._replace(logits=logits, goes_on=goes_on)

    def _nothing(self, nodes: Nodes, shape: Tuple[int, ...]) -> str:
        """Vectors of the size of hidden states, of which there are none."""
        zeros = nodes.weight(np.zeros((*shape, self._encoder.hidden_size), np.float32))
        return nodes.add("Identity", [zeros])  # A branch cannot give a weight itself.

    def _asked(self, k: int, way: _Way, seen: ExitInputs) -> onnx.GraphProto:
        """Of an exit that is asked: the logits so far, and whether the text goes on, `(1,)`."""
        nodes = Nodes(f"exit_{k}")
        logits = self._with_own_logits(nodes, k, way, seen)
        calibrated = nodes.add("MatMul", [weights_at(k), logits])  # (1, labels)
        probs = nodes.add("Softmax", [calibrated], axis=-1)
        confidence = nodes.add("ReduceMax", [probs], axes=[-1], keepdims=0)
        goes_on = nodes.add("Less", [confidence, BOUND])  # not what is no number
        return nodes.graph([floats(logits), boolean(goes_on, [1])])

    def _passed(self, k: int, way: _Way) -> onnx.GraphProto:
        """The same of an exit that is not asked: zeros, and that it goes on."""
        nodes = Nodes(f"no_exit_{k}")
        zeros = nodes.weight(np.zeros((1, self._exits.num_labels), np.float32))
        logits = nodes.add("Concat", [*_known(way), zeros], axis=0)
        goes_on = nodes.add("Identity", [nodes.weight(np.array([True]))])
        return nodes.graph([floats(logits), boolean(goes_on, [1])])

    def _with_own_logits(self, nodes: Nodes, k: int, way: _Way, seen: ExitInputs) -> str:
        own = ExitNodes(nodes).add(self._exits.classifiers[k], seen)
        return nodes.add("Concat", [*_known(way), own], axis=0)


def _token_mean(nodes: Nodes, hidden: str) -> str:
    """From `(1, tokens, hidden_size)` to `(1, hidden_size)`."""
    return nodes.add("ReduceMean", [hidden], axes=[1], keepdims=0)


def _four(nodes: Nodes, names: Sequence[str]) -> onnx.GraphProto:
    """A branch that gives the next hidden states, means, logits, and whether the text goes on."""
    return nodes.graph([*map(floats, names[:3]), boolean(names[3], [1])])


def _known(way: _Way) -> List[str]:
    return [] if way.logits is None else [way.logits]

"""An exit as part of an ONNX graph, for a single instance."""

from typing import Any, List, NamedTuple, Optional, Sequence

from torch import nn

from sledgehammer_allennlp.encoders.onnx_graph import add_norm, array_of
from sledgehammer_allennlp.encoders.onnx_nodes import MICROSOFT, Nodes


class ExitInputs(NamedTuple):
    """
    The names of what an exit sees with pooling `"mean"`: the vectors to mix, in parts, each
    `(vectors, hidden_size)`; the first token's output of its layer, `(1, hidden_size)`, `None`
    before layer 0; for an alignment and token features what enters its layer, `(tokens,
    hidden_size)`; and for an alignment the positions of the words of each text, `(words,)`, neither
    empty.
    """

    vectors: Sequence[str]
    first_token: Optional[str]
    states: Optional[str] = None
    words: Sequence[str] = ()


class ExitNodes:
    """
    Adds what `ExitClassifiers` computes, with pooling `"mean"`, to a graph.

    # Parameters

    nodes : `Nodes`
        Of the graph.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def add(self, classifier: Any, inputs: ExitInputs) -> str:
        """
        The logits of an exit, `(1, labels)`.

        # Parameters

        classifier : `nn.Module`
            The exit.
        inputs : `ExitInputs`
        """
        nodes = self._nodes
        seen = []
        if classifier.mix is not None:
            seen.append(self._mix(classifier.mix.weights, inputs.vectors))
        if inputs.first_token is not None:
            seen.append(inputs.first_token)
        if classifier.alignment is not None:
            assert inputs.states is not None
            seen += self._aligned(classifier.alignment, inputs.states, inputs.words)
        if classifier.token_features is not None:
            assert inputs.states is not None
            seen += self._mean_and_maximum(
                self._linear(classifier.token_features.project, inputs.states)
            )
        together = nodes.add("Concat", seen, axis=1) if len(seen) > 1 else seen[0]
        together = add_norm(nodes, classifier.norm, together)
        if classifier.hidden is not None:
            hidden = self._linear(classifier.hidden[0], together)
            together = nodes.add("Gelu", [hidden], MICROSOFT)
        return self._linear(classifier.linear, together)

    def _mix(self, weights: Optional[nn.Parameter], vectors: Sequence[str]) -> str:
        if weights is None:
            return vectors[0]
        unit = (weights.detach() / weights.detach().norm()).numpy()[None]
        stacked = self._nodes.add("Concat", vectors, axis=0)  # (vectors, hidden_size)
        return self._nodes.add("MatMul", [self._nodes.weight(unit), stacked])

    def _aligned(self, alignment: Any, states: str, words: Sequence[str]) -> List[str]:
        """`Alignment`: the mean and the maximum over each text's words."""
        nodes = self._nodes
        z_of_all = self._linear(alignment.project, add_norm(nodes, alignment.norm, states))
        z = [nodes.add("Gather", [z_of_all, text], axis=0) for text in words]
        scale = nodes.number(float(alignment.scale.detach()) / alignment.size)
        # (words of the first text, words of the second)
        scores = nodes.add("Gemm", [nodes.add("Mul", [z[0], scale]), z[1]], transB=1)
        of_first = nodes.add("Softmax", [scores], axis=1)
        of_second = nodes.add("Softmax", [scores], axis=0)
        matched = [
            nodes.add("Gemm", [of_first, z[1]]),
            nodes.add("Gemm", [of_second, z[0]], transA=1),
        ]
        found = []
        for own, other in zip(z, matched):
            parts = [own, nodes.add("Sub", [own, other]), nodes.add("Mul", [own, other])]
            compared = self._linear(alignment.compare, nodes.add("Concat", parts, axis=1))
            found += self._mean_and_maximum(compared)
        return found

    def _mean_and_maximum(self, features: str) -> List[str]:
        """Over tokens, of what is not negative of the features; each `(1, size)`."""
        positive = self._nodes.add("Relu", [features])
        return [
            self._nodes.add(operator, [positive], axes=[0])
            for operator in ("ReduceMean", "ReduceMax")
        ]

    def _linear(self, linear: nn.Linear, x: str) -> str:
        weights = [self._nodes.weight(array_of(part)) for part in (linear.weight, linear.bias)]
        return self._nodes.add("Gemm", [x, *weights], transB=1)

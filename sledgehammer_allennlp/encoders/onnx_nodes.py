"""Building an ONNX graph: its nodes and weights, each with a name of its own."""

from typing import Any, List, Optional, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
_OPSET, _IR_VERSION = 17, 8


class Nodes:
    """
    The nodes and weights of a graph, or of one branch of an `If`.

    # Parameters

    name : `str`
        Begins the names of all that is in it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: List[onnx.NodeProto] = []
        self._weights: List[onnx.TensorProto] = []
        self._num_names = 0

    def add(self, operator: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output, whose name it gives."""
        return self.add_many(operator, inputs, 1, domain, **attributes)[0]

    def add_many(
        self,
        operator: str,
        inputs: Sequence[str],
        num_outputs: int,
        domain: str = "",
        **attributes: Any,
    ) -> List[str]:
        """Adds a node with several outputs, whose names it gives."""
        names = [self._new_name() for _ in range(num_outputs)]
        node = helper.make_node(operator, list(inputs), names, domain=domain, **attributes)
        self._nodes.append(node)
        return names

    def output(self, name: str, output: str) -> None:
        """Has what has this name be an output of another name."""
        self._nodes.append(helper.make_node("Identity", [name], [output]))

    def weight(self, array: np.ndarray) -> str:
        """Adds a constant, whose name it gives."""
        name = self._new_name()
        self._weights.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def number(self, number: float) -> str:
        """Adds a constant of float32, `()`."""
        return self.weight(np.array(number, np.float32))

    def first_of(self, name: str, axis: int) -> str:
        """Adds what has only the first of an axis, which stays."""
        zero, one = self.weight(np.array([0])), self.weight(np.array([1]))
        return self.add("Slice", [name, zero, one, self.weight(np.array([axis]))])

    def branch(
        self, condition: str, then: onnx.GraphProto, otherwise: onnx.GraphProto, num_outputs: int
    ) -> List[str]:
        """Adds an `If`, whose outputs' names it gives."""
        return self.add_many(
            "If", [condition], num_outputs, then_branch=then, else_branch=otherwise
        )

    def graph(
        self,
        outputs: Sequence[onnx.ValueInfoProto],
        inputs: Sequence[onnx.ValueInfoProto] = (),
    ) -> onnx.GraphProto:
        """All of it. A branch of an `If` has no inputs: it sees what is around it."""
        return helper.make_graph(
            self._nodes, self._name, list(inputs), list(outputs), self._weights
        )

    def _new_name(self) -> str:
        self._num_names += 1
        return f"{self._name}_{self._num_names}"


def floats(name: str, shape: Optional[Sequence[Any]] = None) -> onnx.ValueInfoProto:
    """An input or output of float32; without a shape, of any."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def boolean(name: str, shape: Sequence[Any] = ()) -> onnx.ValueInfoProto:
    """An input or output of booleans."""
    return helper.make_tensor_value_info(name, TensorProto.BOOL, list(shape))


def integers(name: str, shape: Sequence[Any], kind: int = TensorProto.INT64) -> onnx.ValueInfoProto:
    """An input or output of integers, by default of 64 bits."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def serialized(graph: onnx.GraphProto) -> bytes:
    """A graph as a model that ONNX Runtime reads."""
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = _IR_VERSION
    found: bytes = model.SerializeToString()
    return found

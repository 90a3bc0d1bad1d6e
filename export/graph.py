"""A small builder of ONNX graphs: stable, readable names, explicit shapes, a fixed opset.

Every node is called after its first output, `lstm/gates` and the like, so that a graph viewer, a
profile and an error message all speak of the layer that a person wrote. The same model gives the
same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

# ONNX Runtime's CUDA provider has LSTM, GRU and RNN up to opset 21; a later one moves them to the
# CPU. Opset 18 came with IR 8, which every ONNX Runtime since 1.14 reads.
OPSET = 18
IR_VERSION = 8

Dims = tuple[int | str, ...]  # a str names a dynamic axis, "batch" or "time"


class GraphBuilder:
    """Nodes, initialisers, inputs and outputs of one graph, in the order in which they came."""

    def __init__(self, name: str, outer: GraphBuilder | None = None) -> None:
        """`outer` is the graph around it: initialisers go to the outermost, where all see them."""
        self.name = name
        self._outer = outer
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: dict[str, NDArray[Any]] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def __repr__(self) -> str:
        ops = [node.op_type for node in self._nodes]
        return f"GraphBuilder({self.name!r}, nodes={ops})"

    def input(self, name: str, shape: Dims | None, dtype: DTypeLike = np.float32) -> str:
        """Declare an input, of any shape if `shape` is None; returns its name."""
        self._inputs.append(_value(name, shape, dtype))
        return name

    def output(self, name: str, shape: Dims | None, dtype: DTypeLike = np.float32) -> str:
        """Declare an output, which some node must produce; returns its name."""
        self._outputs.append(_value(name, shape, dtype))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add an initialiser; returns its name. The same name may come again with the same value.

        Raises:
            ValueError: the name is taken by another value.
        """
        if self._outer is not None:
            return self._outer.constant(name, value)
        known = self._initialisers.setdefault(name, np.asarray(value, order="C"))
        # Bytes, because a NaN is not equal to itself.
        same_form = (known.dtype, known.shape) == (value.dtype, value.shape)
        if not same_form or known.tobytes() != value.tobytes():
            raise ValueError(f"two different initialisers are called {name!r}")
        return name

    def node(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        return self.nodes(op_type, inputs, [output], **attributes)[0]

    def nodes(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs, "" for one that nobody reads; returns their names."""
        name = next(output for output in outputs if output)
        self._nodes.append(helper.make_node(op_type, inputs, outputs, name, **attributes))
        return list(outputs)

    def turned(self, x: str, output: str, rank: int) -> str:
        """`x`, batch and time, its first two axes, in each other's place."""
        return self.node("Transpose", [x], output, perm=[1, 0, *range(2, rank)])

    def flipped(self, x: str, output: str) -> str:
        """`x` with its first axis in the other direction."""
        begin, end, axis, step = (self.ints(n) for n in (-1, np.iinfo(np.int64).min + 1, 0, -1))
        return self.node("Slice", [x, begin, end, axis, step], output)

    def append(self, node: onnx.NodeProto) -> None:
        """Add a node as it is."""
        self._nodes.append(node)

    def ints(self, *values: int) -> str:
        """An int64 initialiser (n,), as Squeeze, Slice and their like take axes; its name."""
        return self.constant(f"ints/{'_'.join(map(str, values))}", np.array(values, np.int64))

    def absorb(self, other: onnx.GraphProto, prefix: str, names: Mapping[str, str]) -> None:
        """Add the nodes and initialisers of another graph, its values called as `renamed` does."""
        copy = renamed(other, prefix, names)
        self.keep_weights(copy)
        self._nodes.extend(copy.node)

    def keep_weights(self, other: onnx.GraphProto) -> None:
        """Add the initialisers of another graph."""
        for tensor in other.initializer:
            self.constant(tensor.name, numpy_helper.to_array(tensor))

    def build(self) -> onnx.GraphProto:
        """The graph, as the body of a Scan or as the whole of a model."""
        initialisers = [numpy_helper.from_array(v, k) for k, v in self._initialisers.items()]
        return helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, initializer=initialisers
        )


def to_model(graph: GraphBuilder, *, producer: tuple[str, str]) -> onnx.ModelProto:
    """Wrap a graph into a model and check it.

    Args:
        graph: the whole graph.
        producer: name and version of the program that made it.

    Raises:
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError: the graph is not valid
            ONNX, which is a bug of an emitter.
    """
    model = helper.make_model(
        graph.build(), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    model.producer_name, model.producer_version = producer
    onnx.checker.check_model(model, full_check=True)
    return model


def _value(name: str, shape: Dims | None, dtype: DTypeLike) -> onnx.ValueInfoProto:
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, elem_type, None if shape is None else list(shape))


def renamed(graph: onnx.GraphProto, prefix: str, names: Mapping[str, str]) -> onnx.GraphProto:
    """A copy of a graph whose values are called as `names` says, or else with `prefix` in front."""
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)

    def rename(name: str) -> str:
        return names.get(name, prefix + name) if name else ""

    _rename(copy, rename)
    return copy


def _rename(graph: onnx.GraphProto, rename: Callable[[str], str]) -> None:
    """Every value in the graph, those inside its nodes included."""
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.name = rename(value.name)
    for tensor in graph.initializer:
        tensor.name = rename(tensor.name)
    for node in graph.node:
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
        node.name = rename(node.name)
        for attribute in node.attribute:
            inside = attribute.type == onnx.AttributeProto.GRAPH
            for inner in [attribute.g] if inside else attribute.graphs:
                _rename(inner, rename)

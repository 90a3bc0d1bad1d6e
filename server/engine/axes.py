"""Graph surgery on inputs and outputs: requests have the batch axis first and the axes that the
configuration says, models whatever they were exported with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from server.engine.reshape import reshaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx

    from server.repository.spec import TensorSpec


def from_first(axis: int, rank: int) -> list[int]:
    """The permutation that moves the first of `rank` axes to `axis`."""
    return [*range(1, axis + 1), 0, *range(axis + 1, rank)]


def to_first(axis: int, rank: int) -> list[int]:
    """The permutation that moves `axis` to the front."""
    return [axis, *(other for other in range(rank) if other != axis)]


def outer_inputs(
    graph: onnx.GraphProto, tensors: Iterable[TensorSpec], prefix: str
) -> tuple[dict[str, str], list[onnx.NodeProto]]:
    """What the graph calls its inputs once they are as requests have them, and the nodes that make
    of them what it had before.
    """
    names: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    values = {value.name: value for value in graph.input}
    for tensor in tensors:
        name = names[tensor.name] = _name(tensor, f"{prefix}{tensor.name}.fed")
        if name != tensor.name:
            _redeclare(values[tensor.name], name, tensor)
            nodes += _inwards(tensor, name)
    return names, nodes


def outer_outputs(
    graph: onnx.GraphProto, tensors: Iterable[TensorSpec], prefix: str
) -> tuple[dict[str, str], list[onnx.NodeProto]]:
    """As `outer_inputs`, for outputs."""
    names: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    values = {value.name: value for value in graph.output}
    for tensor in tensors:
        name = names[tensor.name] = _name(tensor, f"{prefix}{tensor.name}.served")
        if name != tensor.name:
            _redeclare(values[tensor.name], name, tensor)
            nodes += _outwards(tensor, name)
    return names, nodes


def _name(tensor: TensorSpec, other: str) -> str:
    return other if tensor.graph_axis or tensor.graph_shape is not None else tensor.name


def _inwards(tensor: TensorSpec, name: str) -> Iterator[onnx.NodeProto]:
    axis, inner, moved = tensor.graph_axis, tensor.graph_shape, name
    if inner is not None:
        moved = f"{name}.rows" if axis else tensor.name
        yield from reshaped(name, moved, _in_a_run(tensor, inner), inner)
    if axis:
        order = from_first(axis, len(tensor.shape if inner is None else inner))
        yield helper.make_node("Transpose", [moved], [tensor.name], perm=order)


def _outwards(tensor: TensorSpec, name: str) -> Iterator[onnx.NodeProto]:
    axis, inner, moved = tensor.graph_axis, tensor.graph_shape, tensor.name
    if axis:
        moved = name if inner is None else f"{name}.rows"
        order = to_first(axis, len(tensor.shape if inner is None else inner))
        yield helper.make_node("Transpose", [tensor.name], [moved], perm=order)
    if inner is not None:
        yield from reshaped(moved, name, inner, _in_a_run(tensor, inner))


def _in_a_run(tensor: TensorSpec, inner: tuple[int, ...]) -> tuple[int, ...]:
    """The outer shape in one run of the graph: requests of any length may run step by step."""
    if tensor.shape.count(-1) == inner.count(-1):
        return tensor.shape
    return tuple(1 if axis == tensor.time_axis else n for axis, n in enumerate(tensor.shape))


def _redeclare(value: onnx.ValueInfoProto, name: str, tensor: TensorSpec) -> None:
    """Gives an input or output its new name and the shape that it has under it."""
    shape = [None if size == -1 else size for size in tensor.shape]
    elem_type = value.type.tensor_type.elem_type
    value.CopyFrom(helper.make_tensor_value_info(name, elem_type, shape))

"""Graph surgery on batch axes: requests have them first, models wherever they were exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

    from server.repository.spec import TensorSpec


def from_first(axis: int, rank: int) -> list[int]:
    """The permutation that moves the first of `rank` axes to `axis`."""
    return [*range(1, axis + 1), 0, *range(axis + 1, rank)]


def to_first(axis: int, rank: int) -> list[int]:
    """The permutation that moves `axis` to the front."""
    return [axis, *(other for other in range(rank) if other != axis)]


def batch_first_inputs(
    graph: onnx.GraphProto, tensors: Iterable[TensorSpec], prefix: str
) -> tuple[dict[str, str], list[onnx.NodeProto]]:
    """What the graph calls its inputs once their batch axes are first, and the nodes that do it."""
    names, nodes = {}, []
    values = {value.name: value for value in graph.input}
    for tensor in tensors:
        name = names[tensor.name] = _name(tensor, f"{prefix}{tensor.name}.fed")
        if name != tensor.name:
            rank, axis = len(tensor.shape), tensor.graph_axis
            _rename(values[tensor.name], name, to_first(axis, rank))
            order = from_first(axis, rank)
            nodes.append(helper.make_node("Transpose", [name], [tensor.name], perm=order))
    return names, nodes


def batch_first_outputs(
    graph: onnx.GraphProto, tensors: Iterable[TensorSpec], prefix: str
) -> tuple[dict[str, str], list[onnx.NodeProto]]:
    """As `batch_first_inputs`, for outputs."""
    names, nodes = {}, []
    values = {value.name: value for value in graph.output}
    for tensor in tensors:
        name = names[tensor.name] = _name(tensor, f"{prefix}{tensor.name}.served")
        if name != tensor.name:
            order = to_first(tensor.graph_axis, len(tensor.shape))
            _rename(values[tensor.name], name, order)
            nodes.append(helper.make_node("Transpose", [tensor.name], [name], perm=order))
    return names, nodes


def _name(tensor: TensorSpec, other: str) -> str:
    return other if tensor.graph_axis else tensor.name


def _rename(value: onnx.ValueInfoProto, name: str, order: list[int]) -> None:
    """Gives an input or output its new name and the shape that it has under it."""
    value.name = name
    shape = value.type.tensor_type.shape
    if shape.dim:
        dims = [type(dim).FromString(dim.SerializeToString()) for dim in shape.dim]
        del shape.dim[:]
        shape.dim.extend(dims[axis] for axis in order)

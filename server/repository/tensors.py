"""Configuration against graph: names, element types and shapes of inputs, outputs and states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

from server import datatypes
from server.repository.parameters import CONSTANT, TIME_AXIS
from server.repository.problem import Problem, there_is
from server.repository.reshape import outer_dims
from server.repository.spec import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from server.repository.onnx_file import GraphTensor

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """A tensor as the configuration has it. `label` is how messages call it.

    `dims` are those that the graph has, without the batch axis, which stands at `batch_axis`; None
    where there is none. `field` is where they come from. `direction` is "input" or "output".
    `axis_key` is the parameter that puts the batch axis elsewhere; empty: none does.
    """

    label: str
    name: str
    direction: str
    data_type: int
    dims: Sequence[int]
    batch_axis: int | None
    max_batch_size: int
    axis_key: str = ""
    field: str = "dims"


def tensor_spec(
    declared: Declared,
    graph: Mapping[str, GraphTensor],
    time_axis: int | None,
    outer: Sequence[int] | None = None,
) -> TensorSpec:
    """A tensor that requests or answers carry, with the dims `outer` if those are not the graph's.
    Raises Problem.
    """
    datatype, dims = resolve(declared, graph)
    inner = None
    if outer is not None:
        inner = dims if declared.batch_axis is None else (-1, *dims)
        dims = outer_dims(outer, declared.dims, dims, declared.label)
    shape = dims if declared.batch_axis is None else (-1, *dims)
    first = len(shape) - len(dims)  # of the axes that are not the batch
    if time_axis is not None and not first <= time_axis < len(shape):
        axes = f"an axis from {first} to {len(shape) - 1}" if dims else "none"
        batch = "" if declared.batch_axis is None else ", of which axis 0 is the batch"
        raise Problem(
            f"parameters: {TIME_AXIS}{declared.name}: {time_axis}; expected {axes} of the shape"
            f" {list(shape)}{batch}"
        )
    return TensorSpec(
        declared.name,
        datatype.name,
        datatype.dtype,
        shape,
        time_axis,
        graph_axis=declared.batch_axis or 0,
        graph_shape=inner,
    )


def resolve(
    declared: Declared, graph: Mapping[str, GraphTensor]
) -> tuple[datatypes.Datatype, Shape]:
    """The datatype and the dims, as exact as configuration and graph together have them."""
    label, tensor = declared.label, find(graph, declared.name, declared.label, declared.direction)
    datatype = datatype_of(tensor, label)
    check_type(declared.data_type, datatype, label)
    return datatype, _dims(declared, tensor.shape)


def find(
    graph: Mapping[str, GraphTensor], name: str, label: str, direction: str = "input"
) -> GraphTensor:
    """The model's input or output of that name. Raises Problem."""
    if name not in graph:
        listed = there_is((other.name for other in graph.values() if not other.optional), name)
        raise Problem(f"{label}: the model has no such {direction}; it has: {listed}")
    return graph[name]


def datatype_of(tensor: GraphTensor, label: str) -> datatypes.Datatype:
    """The type of the elements. Raises Problem where it is none that requests can carry."""
    if tensor.elem_type == TensorProto.UNDEFINED:
        raise Problem(f"{label}: {tensor.name!r} is no tensor in the model; expected a tensor")
    try:
        return datatypes.of_onnx(tensor.elem_type)
    except datatypes.UnsupportedDatatype as error:
        raise Problem(f"{label}: {error}; the model has it for {tensor.name!r}") from None


def check_type(data_type: int, found: datatypes.Datatype, label: str) -> None:
    """Raises Problem where the configuration says another type than the graph."""
    try:
        datatype = datatypes.of_config(data_type)
    except datatypes.UnsupportedDatatype as error:
        raise Problem(f"{label}: {error}; the model has {found.config_name}") from None
    if datatype != found:
        raise Problem(
            f"{label}: data_type {datatype.config_name}; the model has {found.config_name}"
        )


def agree(ours: Sequence[int], theirs: Sequence[int]) -> Shape | None:
    """The shape that satisfies both, -1 giving way to a size; None where there is none."""
    if len(ours) != len(theirs):
        return None
    pairs = list(zip(ours, theirs, strict=True))
    if any(one != other and -1 not in (one, other) for one, other in pairs):
        return None
    return tuple(max(pair) for pair in pairs)


def _dims(declared: Declared, shape: Shape | None) -> Shape:
    label, dims, axis = declared.label, tuple(declared.dims), declared.batch_axis
    said = f"{declared.field} {list(dims)}"
    if any(size < 1 and size != -1 for size in dims):
        raise Problem(f"{label}: {said}; expected sizes of 1 or more, or -1 for any")
    if axis is not None and axis > len(dims):
        raise Problem(f"{label}: batch axis {axis}; expected at most {len(dims)}")
    if shape is None:  # the graph does not tell
        return dims
    full = dims if axis is None else (*dims[:axis], -1, *dims[axis:])
    together = agree(full, shape)
    if together is None:
        raise Problem(f"{label}: {said}{_why(declared, dims, shape)}")
    if 0 in together:
        raise Problem(f"{label}: the model has {list(shape)}; expected no axis of size 0")
    if axis is None:
        return together
    _check_batch_axis(declared, shape)
    return together[:axis] + together[axis + 1 :]


def _why(declared: Declared, dims: Shape, shape: Shape) -> str:
    """The shape that the model has, and what may have been meant."""
    has = f"; the model has {list(shape)}"
    if declared.batch_axis is None:
        counted = agree((-1, *dims), shape) is None
        return has if counted else f"{has}: with max_batch_size: 0 dims count every axis"
    has += f", of which axis {declared.batch_axis} is the batch"
    if agree(dims, shape) is None:
        return has + _elsewhere(declared, shape)
    return (
        f"{has}; dims are without it. For a model without a batch axis: expected"
        f" max_batch_size: 0{_constant(declared)}"
    )


def _constant(declared: Declared) -> str:
    """What else an input may be, other than a state."""
    is_input = declared.label.startswith("input")
    return f" or a parameter {CONSTANT}{declared.name}" if is_input else ""


def _elsewhere(declared: Declared, shape: Shape) -> str:
    """The axis that may have been meant, where the dims fit the model without it."""
    dims = tuple(declared.dims)
    for size, axis in sorted((size, axis) for axis, size in enumerate(shape) if size in (-1, 1)):
        fits = agree((*dims[:axis], -1, *dims[axis:]), shape) is not None
        if declared.axis_key and axis != declared.batch_axis and fits:
            alone = " with max_batch_size: 1" if size == 1 != declared.max_batch_size else ""
            key = f"{declared.axis_key}: {axis}{alone}"
            return f"; or if axis {axis} is the batch, a parameter {key}"
    return ""


def _check_batch_axis(declared: Declared, shape: Shape) -> None:
    """An output that exporters gave a fixed size by mistake is looked at when the model runs."""
    assert declared.batch_axis is not None
    size = shape[declared.batch_axis]
    if declared.direction == "output" or size == -1 or size == declared.max_batch_size == 1:
        return
    expected = "max_batch_size: 1" if size == 1 else "max_batch_size: 0 with dims that count it"
    raise Problem(
        f"{declared.label}: the model's batch axis is fixed at {size}; expected one of any size for"
        f" max_batch_size: {declared.max_batch_size}, or {expected}"
        f"{_constant(declared)}{_elsewhere(declared, shape)}"
    )

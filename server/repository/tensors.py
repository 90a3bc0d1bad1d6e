"""Configuration against graph: names, element types and shapes of inputs, outputs and states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from server import datatypes
from server.repository.parameters import DEFAULT
from server.repository.problem import Problem, there_is
from server.repository.spec import TensorSpec
from server.repository.values import parse_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from server.repository.onnx_file import GraphTensor

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """A tensor as the configuration has it. `label` is how messages call it.

    `dims` are without the batch axis, which stands at `batch_axis`; None where there is none.
    `direction` is "input" or "output".
    """

    label: str
    name: str
    direction: str
    data_type: int
    dims: Sequence[int]
    batch_axis: int | None
    max_batch_size: int


def tensor_spec(
    declared: Declared,
    graph: Mapping[str, GraphTensor],
    time_axis: int | None,
    default: str | None = None,
) -> TensorSpec:
    """A tensor that requests or answers carry; `default` is the text of a number that stands for an
    input that is left out. Raises Problem.
    """
    datatype, dims = resolve(declared, graph)
    shape = dims if declared.batch_axis is None else (-1, *dims)
    if time_axis is not None and not len(shape) - len(dims) <= time_axis < len(shape):
        raise Problem(
            f"parameters: rnnserve.time_axis.{declared.name}: {time_axis}; the shape with the batch"
            f" axis is {list(shape)}"
        )
    spec = TensorSpec(declared.name, datatype.name, datatype.dtype, shape, time_axis)
    if declared.batch_axis:
        spec = replace(spec, graph_axis=declared.batch_axis)
    if default is None:
        return spec
    return replace(spec, default=_default(spec, default, datatype, len(shape) - len(dims)))


def _default(spec: TensorSpec, text: str, datatype: datatypes.Datatype, first: int) -> NDArray[Any]:
    label = f"parameters: {DEFAULT}{spec.name}"
    chosen = [axis for axis in range(first, len(spec.shape)) if spec.shape[axis] == -1]
    if chosen not in ([], [spec.time_axis]):
        raise Problem(
            f"{label}: the input has the shape {list(spec.shape)}; expected no axis of any size"
            " other than the batch's and time"
        )
    return parse_number(text, label, datatype)


def resolve(
    declared: Declared, graph: Mapping[str, GraphTensor]
) -> tuple[datatypes.Datatype, Shape]:
    """The datatype and the dims, as exact as configuration and graph together have them."""
    label, tensor = declared.label, graph.get(declared.name)
    if tensor is None:
        names = (other.name for other in graph.values() if not other.optional)
        listed = there_is(names, declared.name)
        raise Problem(f"{label}: the model has no such {declared.direction}; it has: {listed}")
    datatype = datatype_of(tensor, label)
    check_type(declared.data_type, datatype, label)
    return datatype, _dims(declared, tensor.shape)


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
    if any(size < 1 and size != -1 for size in dims):
        raise Problem(f"{label}: dims {list(dims)}; expected sizes of 1 or more, or -1 for any")
    if axis is not None and axis > len(dims):
        raise Problem(f"{label}: batch axis {axis}; expected at most {len(dims)}")
    if shape is None:  # the graph does not tell
        return dims
    full = dims if axis is None else (*dims[:axis], -1, *dims[axis:])
    together = agree(full, shape)
    if together is None:
        raise Problem(f"{label}: dims {list(dims)}{_why(declared, dims, shape)}")
    if 0 in together:
        raise Problem(f"{label}: the model has {list(shape)}; expected no axis of size 0")
    if axis is None:
        return together
    _check_batch_axis(declared, shape[axis])
    return together[:axis] + together[axis + 1 :]


def _why(declared: Declared, dims: Shape, shape: Shape) -> str:
    """The shape that the model has, and what may have been meant."""
    missing = " (dims missing?)" if not dims else ""
    has = f"{missing}; the model has {list(shape)}"
    if declared.batch_axis is None:
        counted = agree((-1, *dims), shape) is None
        return has if counted else f"{has}: with max_batch_size: 0 dims count every axis"
    has += f", of which axis {declared.batch_axis} is the batch"
    if agree(dims, shape) is None:
        return has
    is_input = declared.label.startswith("input")  # and no state
    constant = f" or a parameter rnnserve.constant.{declared.name}" if is_input else ""
    return (
        f"{has}; dims are without it. For a model without a batch axis: expected"
        f" max_batch_size: 0{constant}"
    )


def _check_batch_axis(declared: Declared, size: int) -> None:
    """An output that exporters gave a fixed size by mistake is looked at when the model runs."""
    if declared.direction == "output" or size == -1 or size == declared.max_batch_size == 1:
        return
    expected = "max_batch_size: 1" if size == 1 else "max_batch_size: 0 with dims that count it"
    raise Problem(
        f"{declared.label}: the model's batch axis is fixed at {size}; expected one of any size for"
        f" max_batch_size: {declared.max_batch_size}, or {expected}"
    )

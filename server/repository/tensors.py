"""Configuration against graph: names, element types and shapes of inputs, outputs and states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from server import datatypes
from server.repository.problem import Problem
from server.repository.spec import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    declared: Declared, graph: Mapping[str, GraphTensor], time_axis: int | None
) -> TensorSpec:
    """A tensor that requests or answers carry. Raises Problem."""
    datatype, dims = resolve(declared, graph)
    shape = dims if declared.batch_axis is None else (-1, *dims)
    if time_axis is not None and not len(shape) - len(dims) <= time_axis < len(shape):
        raise Problem(
            f"parameters: rnnserve.time_axis.{declared.name}: {time_axis}; the shape with the batch"
            f" axis is {list(shape)}"
        )
    return TensorSpec(declared.name, datatype.name, datatype.dtype, shape, time_axis)


def resolve(
    declared: Declared, graph: Mapping[str, GraphTensor]
) -> tuple[datatypes.Datatype, Shape]:
    """The datatype and the dims, as exact as configuration and graph together have them."""
    label, tensor = declared.label, graph.get(declared.name)
    if tensor is None:
        listed = ", ".join(sorted(graph)) or "none"
        raise Problem(f"{label}: the model has no such {declared.direction}; it has: {listed}")
    try:
        datatype = datatypes.of_config(declared.data_type)
        found = datatypes.of_onnx(tensor.elem_type)
    except datatypes.UnsupportedDatatype as error:
        raise Problem(f"{label}: {error}") from None
    if datatype != found:
        raise Problem(
            f"{label}: data_type {datatype.config_name}; the model has {found.config_name}"
        )
    return datatype, _dims(declared, tensor.shape)


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
        missing = " (dims missing?)" if not dims else ""
        batch = "" if axis is None else f", of which axis {axis} is the batch"
        raise Problem(f"{label}: dims {list(dims)}{missing}; the model has {list(shape)}{batch}")
    if axis is None:
        return together
    _check_batch_axis(declared, shape[axis])
    return together[:axis] + together[axis + 1 :]


def _check_batch_axis(declared: Declared, size: int) -> None:
    if size != -1 and not size == declared.max_batch_size == 1:
        raise Problem(
            f"{declared.label}: the model's batch axis is fixed at {size}; expected one of any size"
            f" for max_batch_size {declared.max_batch_size}"
        )

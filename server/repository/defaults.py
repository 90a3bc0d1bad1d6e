"""Inputs that a request may leave out, and what the model is given then: a number that the
configuration says, or the value that the model's file holds for the input.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from server import datatypes
from server.repository.parameters import DEFAULT
from server.repository.problem import Problem
from server.repository.values import parse_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from server.repository.onnx_file import OnnxFile
    from server.repository.spec import TensorSpec


def with_default(
    spec: TensorSpec, model: OnnxFile, text: str | None, *, batched: bool
) -> TensorSpec:
    """An optional input with its default, which is `text` if the configuration has one. Raises
    Problem where there is none, or where a request that leaves it out would not tell its shape.
    """
    key, label = f"{DEFAULT}{spec.name}", f"input {spec.name!r}"
    where = label if text is None else f"parameters: {key}"
    first = int(batched)
    chosen = [axis for axis in range(first, len(spec.shape)) if spec.shape[axis] == -1]
    if chosen not in ([], [spec.time_axis]):
        raise Problem(
            f"{where}: the input has the shape {list(spec.shape)}; expected no axis of any size"
            " other than the batch's and time"
        )
    if text is not None:
        number = parse_number(text, where, datatypes.BY_NAME[spec.datatype])
        return replace(spec, default=number)
    value = model.value(spec.name)
    if value is None:
        raise Problem(
            f"{label}: optional, but the model's file has no value for it; expected a parameter"
            f" {key}, a number"
        )
    return replace(spec, default=_row(value, spec, label, batched=batched))


def _row(value: NDArray[Any], spec: TensorSpec, label: str, *, batched: bool) -> NDArray[Any]:
    """What the file holds, as one row has it. It counts for every row and every timestep alike."""
    inner = spec.shape if spec.graph_shape is None else spec.graph_shape
    in_graph = [1 if size == -1 else size for size in inner]
    if batched:
        in_graph.insert(spec.graph_axis, in_graph.pop(0))
    if value.dtype != spec.dtype or list(value.shape) != in_graph:
        raise Problem(
            f"{label}: optional, and the model's file has {value.dtype} {list(value.shape)} for it;"
            f" expected {spec.dtype} {in_graph}, or a parameter {DEFAULT}{spec.name}, a number"
        )
    rows = np.moveaxis(value, spec.graph_axis, 0) if spec.graph_axis else value
    row = rows.reshape([1 if size == -1 else size for size in spec.shape[int(batched) :]]).copy()
    row.flags.writeable = False
    return row

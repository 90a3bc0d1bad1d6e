"""Arrays from bytes and back, checked against what the model expects.

The texts of the errors are those that clients of the Open Inference protocol know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from server.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from server.repository.spec import StateSpec, TensorSpec
    from server.serving import ServedModel


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of one request: how many rows and timesteps they have, and which other steps they
    can share a batch with.
    """

    arrays: dict[str, NDArray[Any]]
    batch_size: int
    timesteps: int
    shapes: Hashable


def decode(
    model: str, spec: TensorSpec, datatype: str, shape: Sequence[int], contents: bytes
) -> NDArray[Any]:
    """An input as a read-only array over `contents`. Raises InvalidRequest."""
    if datatype != spec.datatype:
        raise InvalidRequest(
            f"inference input '{spec.name}' data-type is '{datatype}', but model '{model}' "
            f"expects '{spec.datatype}'"
        )
    if not _fits(shape, spec.shape):
        raise InvalidRequest(
            f"unexpected shape for input '{spec.name}' for model '{model}'. Expected "
            f"{list(spec.shape)}, got {list(shape)}. A dimension of -1 takes any size above 0."
        )
    return _array(model, spec.name, spec.dtype, shape, contents)


def decode_state(
    model: str,
    spec: StateSpec,
    batch_size: int,
    datatype: str,
    shape: Sequence[int],
    contents: bytes,
) -> NDArray[Any]:
    """A state of all rows of a session. Raises InvalidRequest."""
    expected = (batch_size, *spec.shape)
    if datatype != spec.datatype:
        raise InvalidRequest(
            f"state '{spec.name}' data-type is '{datatype}', but model '{model}' "
            f"expects '{spec.datatype}'"
        )
    if tuple(shape) != expected:
        raise InvalidRequest(
            f"unexpected shape for state '{spec.name}' for model '{model}'. Expected "
            f"{list(expected)}, got {list(shape)}"
        )
    return _array(model, spec.name, spec.dtype, shape, contents)


def combine(model: ServedModel, arrays: dict[str, NDArray[Any]]) -> Inputs:
    """Check that the inputs are complete and agree with each other. Raises InvalidRequest."""
    if len(arrays) != len(model.inputs):
        missing = ", ".join(f"'{name}'" for name in model.inputs if name not in arrays)
        raise InvalidRequest(
            f"expected {len(model.inputs)} inputs but got {len(arrays)} inputs for model "
            f"'{model.spec.name}'. Got input(s) {sorted(arrays)}, but missing required input(s) "
            f"[{missing}]. Please provide all required input(s)."
        )
    batch_size = _common(model, arrays, dict.fromkeys(arrays, 0), "batch size")
    timesteps = _common(model, arrays, model.layout.inputs, "number of timesteps")
    may_be_cut = model.scheduler.limits.max_chunk is not None
    shapes = tuple(
        _shape_of_company(array.shape, model.layout.inputs[name] if may_be_cut else None)
        for name, array in arrays.items()
    )
    return Inputs(arrays, batch_size, timesteps, shapes)


def last_timestep(
    model: ServedModel, outputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Of outputs that have a time axis, what stands at its end."""
    return {
        name: array if (axis := model.layout.outputs[name]) is None else array.take(-1, axis)
        for name, array in outputs.items()
    }


def _fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    return len(shape) == len(expected) and all(
        size == wanted or (wanted == -1 and size > 0)
        for size, wanted in zip(shape, expected, strict=True)
    )


def _array(
    model: str, name: str, dtype: np.dtype[Any], shape: Sequence[int], contents: bytes
) -> NDArray[Any]:
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes != len(contents):
        raise InvalidRequest(
            f"input byte size mismatch for input '{name}' for model '{model}'. Expected {nbytes}, "
            f"got {len(contents)}"
        )
    return np.frombuffer(contents, dtype).reshape(shape)


def _common(
    model: ServedModel,
    arrays: Mapping[str, NDArray[Any]],
    axes: Mapping[str, int | None],
    what: str,
) -> int:
    """The size that all inputs have along their axis in `axes`; 1 if none has such an axis."""
    sizes = {arrays[name].shape[axis] for name, axis in axes.items() if axis is not None}
    if len(sizes) > 1:
        raise InvalidRequest(
            f"the inputs of a request for model '{model.spec.name}' must have the same {what}, "
            f"got { {name: array.shape for name, array in arrays.items()} }"
        )
    return sizes.pop() if sizes else 1


def _shape_of_company(shape: tuple[int, ...], time_axis: int | None) -> tuple[int, ...]:
    """What must be equal among the steps of a batch: not the batch axis, nor time if it is cut."""
    return shape[1:] if time_axis is None else (*shape[1:time_axis], *shape[time_axis + 1 :])

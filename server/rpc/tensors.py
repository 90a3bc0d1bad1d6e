"""Arrays from bytes and back, checked against what the model expects.

The texts of the errors are those that clients of the Open Inference protocol know.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from server.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from server.repository.spec import StateSpec, TensorSpec
    from server.serving import ServedModel


class Inputs(NamedTuple):
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
    shape = tuple(shape)
    if not _fits(shape, spec.shape):
        raise InvalidRequest(
            f"unexpected shape for input '{spec.name}' for model '{model}'. Expected "
            f"{_shown(spec.shape)}, got {_shown(shape)}. A dimension of -1 takes any size above 0."
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
            f"{_shown(expected)}, got {_shown(shape)}"
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
    batch_size = timesteps = 0
    shapes = []
    for name, array in arrays.items():
        axis = model.layout.inputs[name]
        shape = array.shape
        if model.spec.max_batch_size:
            batch_size = _same(model, arrays, batch_size, shape[0], "batch size")
        if axis is not None:
            timesteps = _same(model, arrays, timesteps, shape[axis], "number of timesteps")
        shapes.append(
            shape[1:] if axis is None or not model.may_be_cut else shape[1:axis] + shape[axis + 1 :]
        )
    return Inputs(arrays, batch_size or 1, timesteps or 1, tuple(shapes))


def last_timestep(
    model: ServedModel, outputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Of outputs that have a time axis, what stands at its end."""
    return {
        name: array if (axis := model.layout.outputs[name]) is None else array.take(-1, axis)
        for name, array in outputs.items()
    }


def _fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    if len(shape) != len(expected):
        return False
    for size, wanted in zip(shape, expected, strict=True):
        if size <= 0 or wanted not in (-1, size):
            return False
    return True


def _shown(shape: Sequence[int]) -> str:
    """As other servers of the protocol write it."""
    return f"[{','.join(map(str, shape))}]"


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


def _same(
    model: ServedModel, arrays: Mapping[str, NDArray[Any]], known: int, size: int, what: str
) -> int:
    """`size`, which is `known` already or not known (0) yet."""
    if known and size != known:
        raise InvalidRequest(
            f"the inputs of a request for model '{model.spec.name}' must have the same {what}, "
            f"got { {name: array.shape for name, array in arrays.items()} }"
        )
    return size

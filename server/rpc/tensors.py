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

MAX_REMEMBERED = 1024  # descriptions per model


class Inputs(NamedTuple):
    """The inputs of one request: how many rows and timesteps they have, and which other steps they
    can share a batch with.
    """

    arrays: dict[str, NDArray[Any]]
    batch_size: int
    timesteps: int
    shapes: Hashable


class Described(NamedTuple):
    """An input as the request describes it."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Accepted(NamedTuple):
    """A description of all inputs that the model can run on."""

    inputs: tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...]  # the last: bytes
    batch_size: int
    timesteps: int
    shapes: Hashable


def accept(model: ServedModel, inputs: tuple[Described, ...]) -> Accepted:
    """Check that the inputs are what the model expects, complete, and agree with each other. What
    was right once is remembered: clients send the same shapes again and again.

    Raises InvalidRequest.
    """
    accepted: Accepted | None = model.accepted.get(inputs)
    if accepted is None:
        if len(model.accepted) >= MAX_REMEMBERED:
            model.accepted.clear()
        accepted = model.accepted[inputs] = _check(model, inputs)
    return accepted


def read(model: ServedModel, accepted: Accepted, contents: Sequence[bytes]) -> Inputs:
    """The inputs as read-only arrays over `contents`, in the order in which they were accepted.
    Raises InvalidRequest.
    """
    arrays = {}
    for (name, dtype, shape, nbytes), content in zip(accepted.inputs, contents, strict=True):
        if len(content) != nbytes:
            raise _wrong_size(model.spec.name, name, nbytes, len(content))
        arrays[name] = np.ndarray(shape, dtype, content)
    return Inputs(arrays, accepted.batch_size, accepted.timesteps, accepted.shapes)


def _check(model: ServedModel, inputs: tuple[Described, ...]) -> Accepted:
    seen: dict[str, tuple[int, ...]] = {}
    for name, datatype, shape in inputs:
        spec = model.inputs.get(name)
        if spec is None:
            raise InvalidRequest(
                f"unexpected inference input '{name}' for model '{model.spec.name}', "
                f"which has {list(model.inputs)}"
            )
        if name in seen:
            raise InvalidRequest(f"input '{name}' for model '{model.spec.name}' is given twice")
        _check_one(model.spec.name, spec, datatype, shape)
        seen[name] = shape
    if len(seen) != len(model.inputs):
        missing = ", ".join(f"'{name}'" for name in model.inputs if name not in seen)
        raise InvalidRequest(
            f"expected {len(model.inputs)} inputs but got {len(seen)} inputs for model "
            f"'{model.spec.name}'. Got input(s) {sorted(seen)}, but missing required input(s) "
            f"[{missing}]. Please provide all required input(s)."
        )
    return _agree(model, seen)


def _check_one(model: str, spec: TensorSpec, datatype: str, shape: tuple[int, ...]) -> None:
    if datatype != spec.datatype:
        raise InvalidRequest(
            f"inference input '{spec.name}' data-type is '{datatype}', but model '{model}' "
            f"expects '{spec.datatype}'"
        )
    fits = len(shape) == len(spec.shape) and all(
        size > 0 and wanted in (-1, size) for size, wanted in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise InvalidRequest(
            f"unexpected shape for input '{spec.name}' for model '{model}'. Expected "
            f"{_shown(spec.shape)}, got {_shown(shape)}. A dimension of -1 takes any size above 0."
        )


def _agree(model: ServedModel, seen: dict[str, tuple[int, ...]]) -> Accepted:
    """What the inputs have in common."""
    batch_size = timesteps = 0
    inputs, shapes = [], []
    for name, shape in seen.items():
        axis, dtype = model.layout.inputs[name], model.inputs[name].dtype
        if model.spec.max_batch_size:
            batch_size = _same(model, seen, batch_size, shape[0], "batch size")
        if axis is not None:
            timesteps = _same(model, seen, timesteps, shape[axis], "number of timesteps")
        inputs.append((name, dtype, shape, math.prod(shape) * dtype.itemsize))
        shapes.append(
            shape[1:] if axis is None or not model.may_be_cut else shape[1:axis] + shape[axis + 1 :]
        )
    return Accepted(tuple(inputs), batch_size or 1, timesteps or 1, tuple(shapes))


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
    if spec.nbytes * batch_size != len(contents):
        raise _wrong_size(model, spec.name, spec.nbytes * batch_size, len(contents))
    return np.frombuffer(contents, spec.dtype).reshape(expected)


def last_timestep(
    model: ServedModel, outputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Of outputs that have a time axis, what stands at its end."""
    return {
        name: array if (axis := model.layout.outputs[name]) is None else array.take(-1, axis)
        for name, array in outputs.items()
    }


def _shown(shape: Sequence[int]) -> str:
    """As other servers of the protocol write it."""
    return f"[{','.join(map(str, shape))}]"


def _wrong_size(model: str, name: str, expected: int, got: int) -> InvalidRequest:
    return InvalidRequest(
        f"input byte size mismatch for input '{name}' for model '{model}'. Expected {expected}, "
        f"got {got}"
    )


def _same(
    model: ServedModel, seen: dict[str, tuple[int, ...]], known: int, size: int, what: str
) -> int:
    """`size`, which is `known` already or not known (0) yet."""
    if known and size != known:
        raise InvalidRequest(
            f"the inputs of a request for model '{model.spec.name}' must have the same {what}, "
            f"got {seen}"
        )
    return size

"""Arrays from bytes and back, checked against what the model expects.

The texts of the errors are those that clients of the Open Inference protocol know.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from server.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from server.repository.spec import TensorSpec
    from server.serving import ServedModel

MAX_REMEMBERED = 1024  # descriptions per model


class Inputs(NamedTuple):
    """The inputs of one request: how many rows and timesteps they have, and which other steps they
    can share a batch with. `batch_size` is 0 where no input tells it. `nbytes` came with it.
    """

    arrays: dict[str, NDArray[Any]]
    batch_size: int
    timesteps: int
    shapes: Hashable
    nbytes: int


class Described(NamedTuple):
    """An input as the request describes it."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Accepted(NamedTuple):
    """A description of all inputs that the model can run on. Inputs that were left out are
    `filled`: with their default, in all rows if there is a batch axis, of the shape that follows.
    """

    inputs: tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...]  # the last: bytes
    filled: tuple[tuple[str, NDArray[Any], tuple[int, ...]], ...]
    batch_size: int
    timesteps: int
    shapes: Hashable
    nbytes: int


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


def read(
    model: ServedModel, accepted: Accepted, contents: Sequence[bytes], batch_size: int = 1
) -> Inputs:
    """The inputs as read-only arrays over `contents`, in the order in which they were accepted, and
    those that were left out. `batch_size` counts where no input tells it. Raises InvalidRequest.
    """
    arrays = {}
    for (name, dtype, shape, nbytes), content in zip(accepted.inputs, contents, strict=True):
        if len(content) != nbytes:
            raise wrong_size(model, "input", name, nbytes, len(content))
        arrays[name] = np.ndarray(shape, dtype, content)
    for name, default, shape in accepted.filled:
        rows = (accepted.batch_size or batch_size,) if model.batched else ()
        arrays[name] = np.full((*rows, *shape), default)
    return Inputs(arrays, *accepted[2:])


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
    missing = [n for n, spec in model.inputs.items() if n not in seen and spec.default is None]
    if missing:
        raise missing_inputs(model, len(model.inputs), seen, missing)
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
            f"{shown(spec.shape)}, got {shown(shape)}. A dimension of -1 takes any size above 0."
        )


def _agree(model: ServedModel, seen: dict[str, tuple[int, ...]]) -> Accepted:
    """What the inputs have in common."""
    batch_size = timesteps = 0
    inputs, filled, shapes = [], [], []
    for name, shape in seen.items():
        axis, dtype = model.layout.inputs[name], model.inputs[name].dtype
        if model.batched:
            _same(model, seen, name, batch_size, shape[0], "batch size")
            batch_size = shape[0]
        if axis is not None:
            _same(model, seen, name, timesteps, shape[axis], "number of timesteps")
            timesteps = shape[axis]
        inputs.append((name, dtype, shape, math.prod(shape) * dtype.itemsize))
    timesteps = timesteps or 1
    for name, spec in model.inputs.items():
        sizes = seen.get(name)
        if sizes is None:
            assert spec.default is not None
            sizes = tuple(timesteps if a == spec.time_axis else n for a, n in enumerate(spec.shape))
            filled.append((name, spec.default, sizes[model.batched :]))
        shapes.append(_apart_from_batch_and_time(model, spec, sizes))
    nbytes = sum(nbytes for *_, nbytes in inputs)
    return Accepted(tuple(inputs), tuple(filled), batch_size, timesteps, tuple(shapes), nbytes)


def _apart_from_batch_and_time(
    model: ServedModel, spec: TensorSpec, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """What must be equal in two requests of the model that share a batch."""
    axis = spec.time_axis
    if axis is None or not model.may_be_cut:
        return shape[1:]
    return shape[1:axis] + shape[axis + 1 :]


def last_timestep(
    model: ServedModel, outputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Of outputs that have a time axis, what stands at its end: views."""
    return {
        name: array
        if (axis := model.layout.outputs[name]) is None
        else array[(slice(None),) * axis + (-1,)]
        for name, array in outputs.items()
    }


def shown(shape: Sequence[int]) -> str:
    """As other servers of the protocol write it."""
    return f"[{','.join(map(str, shape))}]"


def missing_inputs(
    model: ServedModel, expected: int, got: Collection[str], missing: Iterable[str]
) -> InvalidRequest:
    """`expected` is how many there can be; those that have a default may be left out."""
    optional = sum(spec.default is not None for spec in model.inputs.values())
    least = f"number of inputs between {expected - optional} and " if optional else ""
    return InvalidRequest(
        f"expected {least}{expected}{'' if optional else ' inputs'} but got {len(got)} inputs for "
        f"model '{model.spec.name}'. Got input(s) {_listed(sorted(got))}, but missing required "
        f"input(s) {_listed(missing)}. Please provide all required input(s)."
    )


def _listed(names: Iterable[str]) -> str:
    """As other servers of the protocol write it."""
    return f"[{','.join(map(repr, names))}]"


def wrong_size(model: ServedModel, kind: str, name: str, expected: int, got: int) -> InvalidRequest:
    return InvalidRequest(
        f"{kind} byte size mismatch for {kind} '{name}' for model '{model.spec.name}'. Expected "
        f"{expected}, got {got}"
    )


def _same(
    model: ServedModel,
    seen: dict[str, tuple[int, ...]],
    name: str,
    known: int,
    size: int,
    what: str,
) -> None:
    """Raises InvalidRequest where others have said it is `known`, not `size`. 0: nobody has."""
    if known and size != known:
        raise InvalidRequest(
            f"input '{name}' {what} does not match other inputs for '{model.spec.name}': the "
            f"inputs of a request must have the same {what}, got {seen}"
        )

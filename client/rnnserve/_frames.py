"""Frames between numpy and the wire: a step of each of many sessions, by column.

A session is a row of every array here; nothing is done for each of them in Python. No input or
output.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from rnnserve._codec import Codec
from rnnserve.errors import RnnserveError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnnserve._codec import Asked, Output
    from rnnserve.specs import Signature, TensorSpec
    from rnnserve.v1 import session_pb2 as pb

# The wire is little-endian whatever the machine is.
NUMBER = np.dtype("<u4")  # of a session on its stream
STEP = np.dtype("<u8")

Steps = NDArray[np.uint64]
Positions = NDArray[np.intp]

_ANY = -1


class FrameCodec:
    """Writes the inputs of frames and reads their outputs; every session has one row."""

    def __init__(self, model: Signature) -> None:
        model = _with_sessions_axis(model)
        self._codec = Codec(model, _ANY)
        self._outputs = model.outputs

    def put(
        self,
        frame: pb.Frame,
        count: int,
        x: object,
        named: Mapping[str, object],
        return_sequences: bool,
    ) -> Asked:
        """Writes inputs and flags of a step of `count` sessions into an empty frame, or raises
        ValueError or TypeError.
        """
        # As far as inputs and outputs go, a frame is a step of a session with many rows.
        step = cast("pb.StepRequest", frame)
        asked = self._codec.put_step(step, x, named, return_sequences, False)
        for tensor in frame.inputs:
            if tensor.shape[0] != count:
                raise ValueError(
                    f"input {tensor.name!r}: expected a first axis of {count}, one for each "
                    f"session, given {tensor.shape[0]}"
                )
        return asked

    def read(self, answer: pb.FrameResponse, count: int, asked: Asked) -> Output:
        """New arrays `(count, …)`, zeros where a session has an error. Where all have one, nobody
        knows the size of axes of any size: it is 0.
        """
        if not answer.outputs and len(answer.errors) == count:
            arrays = {spec.name: _nothing(spec, count, asked) for spec in self._outputs}
            return arrays[self._outputs[0].name] if len(self._outputs) == 1 else arrays
        for tensor in answer.outputs:
            if list(tensor.shape[:1]) != [count]:
                raise RnnserveError(
                    f"the server sent an output {tensor.name!r} of shape {list(tensor.shape)} for "
                    f"{count} sessions"
                )
        return self._codec.read_step(cast("pb.StepResponse", answer), asked)


def read_steps(column: bytes, count: int) -> Steps:
    """The steps of `count` sessions; a view of the bytes."""
    if len(column) != count * STEP.itemsize:
        raise RnnserveError(
            f"the server sent {len(column)} bytes of steps for {count} sessions, of "
            f"{STEP.itemsize} bytes each"
        )
    return np.frombuffer(column, STEP)


def positions(sessions: object, count: int) -> Positions:
    """Where in a group of `count` the sessions of a frame stand; ValueError, TypeError."""
    given = np.asarray(sessions)
    if given.ndim != 1 or given.size == 0:
        raise ValueError(f"sessions: expected positions, (n,), given shape {given.shape}")
    if given.dtype.kind not in "iu":
        raise TypeError(f"sessions: expected integers, given {given.dtype.name}")
    if given.min() < 0 or given.max() >= count:
        raise ValueError(
            f"sessions: expected positions from 0 to {count - 1}, given {given.min()} to "
            f"{given.max()}"
        )
    there = np.zeros(count, np.bool_)
    there[given] = True
    if np.count_nonzero(there) != given.size:
        raise ValueError("sessions: expected each position once")
    return given.astype(np.intp)


def _nothing(spec: TensorSpec, count: int, asked: Asked) -> NDArray[Any]:
    sizes = [0 if size == _ANY else size for size in spec.shape]
    sizes[0] = count
    if spec.time_axis is not None and not (asked.return_sequences and asked.layout.time):
        del sizes[spec.time_axis]
    return np.zeros(sizes, spec.dtype)


def _with_sessions_axis(model: Signature) -> Signature:
    """The model as its frames have it: sessions stand one below the other, also those of a model
    without a batch axis.
    """
    if model.batched:
        return model
    return replace(
        model,
        batched=True,
        inputs=tuple(map(_led, model.inputs)),
        outputs=tuple(map(_led, model.outputs)),
    )


def _led(spec: TensorSpec) -> TensorSpec:
    time: Any = None if spec.time_axis is None else spec.time_axis + 1
    return replace(spec, shape=(_ANY, *spec.shape), time_axis=time)

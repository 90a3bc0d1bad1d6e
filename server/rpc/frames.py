"""Frames between the wire and the core, by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnserve.v1 import session_pb2 as pb
from server.core.frame import Frame
from server.errors import InvalidRequest, LimitReached, RequestError, StepGap
from server.rpc import tensors
from server.rpc.actions import read_inputs
from server.rpc.handles import MAX_IN_FRAMES
from server.rpc.snapshots import MAX_STEP
from server.rpc.status import code_of, expected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from server.core.requests import Framed
    from server.rpc.handles import Handles
    from server.serving import ServedModel

_NUMBERS = np.dtype("<u4")
_STEPS = np.dtype("<u8")


def decode_frame(handles: Handles, message: pb.Frame) -> tuple[ServedModel, Frame]:
    """Raises InvalidRequest."""
    numbers = numbers_of(message.sessions)
    model, slots, gone = handles.find(numbers)
    if not model.batched:
        raise InvalidRequest(
            f"model '{model.spec.name}' has no batch axis: its sessions cannot step in frames"
        )
    largest = model.scheduler.limits.max_pending_in_frames
    if len(numbers) > largest:
        raise InvalidRequest(
            f"a frame may hold {largest} sessions on this server, got {len(numbers)}: send several"
        )
    inputs = read_inputs(model, message.inputs, len(numbers))
    if inputs.batch_size not in (0, len(numbers)):
        raise InvalidRequest(
            f"the frame has {len(numbers)} sessions, but its inputs have {inputs.batch_size} rows"
        )
    frame = Frame(
        inputs=inputs.arrays,
        slots=slots,
        indices=_indices(message.steps, len(numbers)),
        timesteps=inputs.timesteps,
        shapes=inputs.shapes,
        nbytes=inputs.nbytes,
    )
    never_given = InvalidRequest("this stream has no such session; open or resume it first")
    for position in np.flatnonzero(gone).tolist():
        number = int(numbers[position])
        frame.errors[position] = _why(handles, number) if number in handles else never_given
    return model, frame


def numbers_of(column: bytes) -> NDArray[np.int64]:
    """The sessions' numbers. Raises InvalidRequest."""
    if not column or len(column) % _NUMBERS.itemsize:
        raise InvalidRequest(
            f"sessions must be one or more uint32, {_NUMBERS.itemsize} bytes each, got "
            f"{len(column)} bytes"
        )
    return np.frombuffer(column, _NUMBERS).astype(np.int64)


def encode_frame(
    model: ServedModel, framed: Framed, sequences: bool, answer: pb.FrameResponse
) -> None:
    """Fill in an empty answer: to make one and put it into another message would copy it."""
    outputs = framed.outputs
    if not sequences:
        outputs = tensors.last_timestep(model, outputs)
    for name, array in outputs.items():
        tensor = answer.outputs.add()
        tensor.name, tensor.datatype = name, model.outputs[name].datatype
        tensor.shape.extend(array.shape)
        tensor.contents = array.tobytes()
    answer.steps = framed.steps.astype(_STEPS).tobytes()
    if framed.errors:
        answer.errors.extend(encode_errors(framed.errors))


def encode_errors(errors: Mapping[int, Exception]) -> list[pb.FrameError]:
    encoded = {id(error): encode_error(error) for error in dict.fromkeys(errors.values())}
    return [
        pb.FrameError(position=position, error=encoded[id(errors[position])])
        for position in sorted(errors)
    ]


def encode_error(error: Exception) -> pb.Error:
    """What a unary call would have ended with."""
    shown = expected(error)
    answer = pb.Error(code=code_of(shown).value[0], kind=type(shown).__name__, message=str(shown))
    if isinstance(shown, LimitReached):
        answer.retry_after_s = shown.retry_after_s
    if isinstance(shown, StepGap):
        answer.expected_step = shown.expected_step
    return answer


def _indices(column: bytes, count: int) -> NDArray[np.int64]:
    if not column:
        return np.zeros(count, np.int64)
    if len(column) != count * _STEPS.itemsize:
        raise InvalidRequest(
            f"steps must be {count} uint64, one for each session, got {len(column)} bytes"
        )
    steps = np.frombuffer(column, _STEPS)
    if (steps > MAX_STEP).any():
        raise InvalidRequest(f"steps must be at most {MAX_STEP}, got {steps.max()}")
    return steps.astype(np.int64)


def _why(handles: Handles, number: int) -> RequestError:
    """Why there is no such session."""
    try:
        handles.get(number)
    except RequestError as error:
        return error
    if number >= MAX_IN_FRAMES:
        return InvalidRequest(
            f"sessions in frames have numbers below {MAX_IN_FRAMES}, got {number}: resume it under "
            "another one"
        )
    return InvalidRequest(f"session {number} of this stream is closed")


def steps_column(steps: list[int]) -> bytes:
    column: Any = np.array(steps, _STEPS)
    contents: bytes = column.tobytes()
    return contents

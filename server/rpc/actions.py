"""What a SessionService message asks for: a session, a request to it, and how to say the result.

Unary calls and streams share these; they differ only in how the answer travels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rnnserve.v1 import session_pb2 as pb
from server.core.requests import Close, Done, Read, States, Step, Stepped, Write
from server.errors import InvalidRequest, RequestError
from server.rpc import tensors
from server.rpc.snapshots import pack
from server.rpc.states import decode_states, encode_states, to_write
from server.serving import home_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from server.core.requests import Arrays, Request, Result
    from server.core.session import Session
    from server.rpc.handover import Source
    from server.serving import ServedModel

R = TypeVar("R")


class Action(NamedTuple):
    """`encode` turns the request's result into the answering message, or raises it if it is an
    error. A request that opens a session may need the states of a `source`.
    """

    session: Session
    request: Request
    encode: Callable[[Any], Message]
    source: Source | None = None


def encoder(expected: type[R], encode: Callable[[R], Message]) -> Callable[[Result], Message]:
    """`encode` for results that are `expected`; errors are raised."""

    def checked(result: Result) -> Message:
        if isinstance(result, RequestError):
            raise result
        assert isinstance(result, expected), f"{result!r} is no {expected.__name__}"
        return encode(result)

    return checked


def step(session: Session, message: pb.StepRequest) -> Action:
    """Raises InvalidRequest."""
    model = home_of(session)
    inputs = read_inputs(model, message.inputs, session.batch_size)
    if inputs.batch_size not in (0, session.batch_size):
        raise InvalidRequest(
            f"session {session.id!r} has batch size {session.batch_size}, but the inputs have "
            f"{inputs.batch_size}; the batch size is fixed when the session is opened"
        )
    if message.peek and message.step:
        raise InvalidRequest(f"a step that peeks has no number, got step {message.step}")
    request = Step(
        inputs=inputs.arrays,
        timesteps=inputs.timesteps,
        shapes=inputs.shapes,
        nbytes=inputs.nbytes,
        return_state=message.return_state,
        index=message.step,
        acknowledged=message.acknowledged,
        peek=message.peek,
    )
    sequences, wants_states = message.return_sequences, message.return_state

    def encode(result: Stepped) -> pb.StepResponse:
        outputs = result.outputs if sequences else tensors.last_timestep(model, result.outputs)
        return pb.StepResponse(
            outputs=encode_outputs(model, outputs),
            states=encode_states(model, result.states) if wants_states and result.states else (),
            step=result.step,
        )

    return Action(session, request, encoder(Stepped, encode))


def reset_states(session: Session, message: pb.ResetStatesRequest) -> Action:
    """Raises InvalidRequest."""
    states = decode_states(home_of(session), session.batch_size, message.states)
    write = Write(
        states=to_write(session, states),
        initial=states is None,
        id=message.order.id,
        after=message.order.after_step,
    )
    return Action(session, write, _done(pb.ResetStatesResponse))


def set_states(session: Session, message: pb.SetStatesRequest) -> Action:
    """Raises InvalidRequest."""
    model = home_of(session)
    states = decode_states(model, session.batch_size, message.states)
    if states is None:
        raise InvalidRequest(f"expected the states {list(model.states)}, got none")
    write = Write(
        states=to_write(session, states),
        id=message.order.id,
        after=message.order.after_step,
    )
    return Action(session, write, _done(pb.SetStatesResponse))


def get_states(session: Session) -> Action:
    model = home_of(session)

    def encode(result: States) -> pb.GetStatesResponse:
        return pb.GetStatesResponse(states=encode_states(model, result.states), step=result.step)

    return Action(session, Read(), encoder(States, encode))


def snapshot(session: Session) -> Action:
    def encode(result: States) -> pb.SnapshotResponse:
        return pb.SnapshotResponse(snapshot=pack(session, result), step=result.step)

    return Action(session, Read(), encoder(States, encode))


def close_session(session: Session) -> Action:
    return Action(session, Close(), _done(pb.CloseSessionResponse))


def _done(response: Callable[..., Message]) -> Callable[[Result], Message]:
    return encoder(Done, lambda done: response(step=done.step))


def read_inputs(
    model: ServedModel, messages: Sequence[pb.Tensor], batch_size: int
) -> tensors.Inputs:
    """Raises InvalidRequest."""
    described = tuple(
        [
            tensors.Described(message.name or model.only_input, message.datatype, (*message.shape,))
            for message in messages
        ]
    )
    accepted = tensors.accept(model, described)
    return tensors.read(model, accepted, [message.contents for message in messages], batch_size)


def encode_outputs(model: ServedModel, outputs: Arrays) -> list[pb.Tensor]:
    return [
        pb.Tensor(
            name=name,
            datatype=model.outputs[name].datatype,
            shape=array.shape,
            contents=array.tobytes(),
        )
        for name, array in outputs.items()
    ]

"""What a SessionService message asks for: a session, a request to it, and how to say the result.

Unary calls and streams share these; they differ only in how the answer travels.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from rnnserve.v1 import session_pb2 as pb
from server.core.requests import Close, Done, Read, Request, States, Step, Stepped, Write
from server.errors import InvalidRequest
from server.rpc import tensors
from server.rpc.handover import Source
from server.rpc.signature import opened
from server.rpc.states import decode_constants, decode_states, encode_states, to_write
from server.serving import home_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from server.core.requests import Arrays
    from server.core.session import Session
    from server.serving import ServedModel, Serving


class Action(NamedTuple):
    """`encode` turns the request's result, an `expected`, into the answering message. A request
    that opens a session may need the states of a `source`.
    """

    session: Session
    request: Request
    expected: type[Any]
    encode: Callable[[Any], Message]
    source: Source | None = None


def open_session(
    serving: Serving,
    message: pb.OpenSessionRequest,
    find: Callable[[pb.StatesOf], Session],
) -> Action:
    """`find` finds the session that the new one is to have its states of.

    Raises ModelNotFound, InvalidRequest, ShuttingDown, SessionExists, LimitReached, SessionClosed,
    and what `find` raises.
    """
    model = serving.model(message.model_name, message.model_version)
    batch_size = message.batch_size or 1
    model.check_batch_size(batch_size)
    states = decode_states(model, batch_size, message.initial_state)
    source = None
    if message.HasField("states_of"):
        if states is not None:
            raise InvalidRequest("expected initial_state or states_of, got both")
        wanted = message.states_of
        source = Source(find(wanted), model, batch_size, wanted.states)
    constants = source.constants if source and not message.constants else None
    if constants is None:
        constants = decode_constants(model, batch_size, message.constants)
    if not 0 <= message.idle_ttl_s < math.inf:
        raise InvalidRequest(
            "idle_ttl_s must be a finite number of seconds, or 0 for the model's own, "
            f"got {message.idle_ttl_s:g}"
        )
    session = serving.open(
        model,
        id=message.session_id or None,
        batch_size=batch_size,
        idle_ttl_s=message.idle_ttl_s or None,
        token=secrets.token_urlsafe(24),
    )
    session.constants = constants or None
    write = Write(states=to_write(session, states), start=True, initial=states is None)
    return Action(session, write, Done, lambda _: opened(session), source)


def step(session: Session, message: pb.StepRequest) -> Action:
    """Raises InvalidRequest."""
    model = home_of(session)
    inputs = _inputs(model, message.inputs, session.batch_size)
    if inputs.batch_size not in (0, session.batch_size):
        raise InvalidRequest(
            f"session {session.id!r} has batch size {session.batch_size}, but the inputs have "
            f"{inputs.batch_size}; the batch size is fixed when the session is opened"
        )
    request = Step(
        inputs=inputs.arrays,
        timesteps=inputs.timesteps,
        shapes=inputs.shapes,
        return_state=message.return_state,
    )
    sequences = message.return_sequences

    def encode(result: Stepped) -> pb.StepResponse:
        outputs = result.outputs if sequences else tensors.last_timestep(model, result.outputs)
        return pb.StepResponse(
            outputs=_encode(model, outputs),
            states=encode_states(model, result.states) if result.states else None,
            step=result.step,
        )

    return Action(session, request, Stepped, encode)


def reset_states(session: Session, message: pb.ResetStatesRequest) -> Action:
    """Raises InvalidRequest."""
    states = decode_states(home_of(session), session.batch_size, message.states)
    write = Write(states=to_write(session, states), initial=states is None)
    return Action(session, write, Done, lambda done: pb.ResetStatesResponse(step=done.step))


def set_states(session: Session, message: pb.SetStatesRequest) -> Action:
    """Raises InvalidRequest."""
    model = home_of(session)
    states = decode_states(model, session.batch_size, message.states)
    if states is None:
        raise InvalidRequest(f"expected the states {list(model.states)}, got none")
    write = Write(states=to_write(session, states))
    return Action(session, write, Done, lambda done: pb.SetStatesResponse(step=done.step))


def get_states(session: Session) -> Action:
    model = home_of(session)

    def encode(result: States) -> pb.GetStatesResponse:
        return pb.GetStatesResponse(states=encode_states(model, result.states), step=result.step)

    return Action(session, Read(), States, encode)


def close_session(session: Session) -> Action:
    return Action(session, Close(), Done, lambda done: pb.CloseSessionResponse(step=done.step))


def _inputs(model: ServedModel, messages: Sequence[pb.Tensor], batch_size: int) -> tensors.Inputs:
    described = tuple(
        [
            tensors.Described(message.name or model.only_input, message.datatype, (*message.shape,))
            for message in messages
        ]
    )
    accepted = tensors.accept(model, described)
    return tensors.read(model, accepted, [message.contents for message in messages], batch_size)


def _encode(model: ServedModel, outputs: Arrays) -> list[pb.Tensor]:
    return [
        pb.Tensor(
            name=name,
            datatype=model.outputs[name].datatype,
            shape=array.shape,
            contents=array.tobytes(),
        )
        for name, array in outputs.items()
    ]

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
from server.serving import home_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from google.protobuf.message import Message
    from numpy.typing import NDArray

    from server.core.session import Session
    from server.repository.spec import StateSpec, TensorSpec
    from server.serving import ServedModel, Serving


class Action(NamedTuple):
    """`encode` turns the request's result, an `expected`, into the answering message."""

    session: Session
    request: Request
    expected: type[Any]
    encode: Callable[[Any], Message]


def open_session(serving: Serving, message: pb.OpenSessionRequest) -> Action:
    """Raises ModelNotFound, InvalidRequest, ShuttingDown, SessionExists, LimitReached."""
    model = serving.model(message.model_name, message.model_version)
    batch_size = message.batch_size or 1
    states = _states(model, batch_size, message.initial_state)
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
    return Action(session, Write(states=states, start=True), Done, lambda _: opened(session))


def step(session: Session, message: pb.StepRequest) -> Action:
    """Raises InvalidRequest."""
    model = home_of(session)
    inputs = _inputs(model, message.inputs)
    if inputs.batch_size != session.batch_size:
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
            outputs=_encode(outputs, model.outputs),
            states=_encode(result.states, model.states) if result.states else None,
            step=result.step,
        )

    return Action(session, request, Stepped, encode)


def reset_states(session: Session, message: pb.ResetStatesRequest) -> Action:
    """Raises InvalidRequest."""
    states = _states(home_of(session), session.batch_size, message.states)
    return Action(
        session, Write(states=states), Done, lambda done: pb.ResetStatesResponse(step=done.step)
    )


def set_states(session: Session, message: pb.SetStatesRequest) -> Action:
    """Raises InvalidRequest."""
    model = home_of(session)
    states = _states(model, session.batch_size, message.states)
    if states is None:
        raise InvalidRequest(f"expected the states {list(model.states)}, got none")
    return Action(
        session, Write(states=states), Done, lambda done: pb.SetStatesResponse(step=done.step)
    )


def get_states(session: Session) -> Action:
    model = home_of(session)

    def encode(result: States) -> pb.GetStatesResponse:
        return pb.GetStatesResponse(states=_encode(result.states, model.states), step=result.step)

    return Action(session, Read(), States, encode)


def close_session(session: Session) -> Action:
    return Action(session, Close(), Done, lambda done: pb.CloseSessionResponse(step=done.step))


def opened(session: Session) -> pb.OpenSessionResponse:
    """All that a client has to know of its session."""
    spec = home_of(session).spec
    return pb.OpenSessionResponse(
        session=pb.SessionKey(session_id=str(session.id), token=session.token),
        model_name=spec.name,
        model_version=str(spec.version),
        model_digest=spec.digest,
        batch_size=session.batch_size,
        idle_ttl_s=session.idle_ttl_s,
        step=session.step,
        inputs=[_spec(tensor) for tensor in spec.inputs],
        outputs=[_spec(tensor) for tensor in spec.outputs],
        states=[
            pb.TensorSpec(name=state.name, datatype=state.datatype, shape=(-1, *state.shape))
            for state in spec.states
        ],
    )


def _inputs(model: ServedModel, messages: Sequence[pb.Tensor]) -> tensors.Inputs:
    described = tuple(
        [
            tensors.Described(message.name or model.only_input, message.datatype, (*message.shape,))
            for message in messages
        ]
    )
    accepted = tensors.accept(model, described)
    return tensors.read(model, accepted, [message.contents for message in messages])


def _states(
    model: ServedModel, batch_size: int, messages: Iterable[pb.Tensor]
) -> dict[str, NDArray[Any]] | None:
    """All states of the model, or None if there are no messages."""
    arrays: dict[str, NDArray[Any]] = {}
    for message in messages:
        spec = _named(model, model.states, message.name, "state", arrays)
        arrays[spec.name] = tensors.decode_state(
            model.spec.name, spec, batch_size, message.datatype, message.shape, message.contents
        )
    if arrays and len(arrays) != len(model.states):
        raise InvalidRequest(
            f"expected the states {list(model.states)} of model '{model.spec.name}', "
            f"got {list(arrays)}; give all of them or none"
        )
    return arrays or None


def _named(
    model: ServedModel, specs: Mapping[str, Any], name: str, kind: str, seen: Mapping[str, Any]
) -> Any:
    """The spec of that name, or the only one if none is given. Raises InvalidRequest where there is
    no such spec, or it was `seen` before.
    """
    spec = next(iter(specs.values())) if not name and len(specs) == 1 else specs.get(name)
    if spec is None:
        raise InvalidRequest(
            f"unexpected inference {kind} '{name}' for model '{model.spec.name}', "
            f"which has {list(specs)}"
        )
    if spec.name in seen:
        raise InvalidRequest(f"{kind} '{spec.name}' for model '{model.spec.name}' is given twice")
    return spec


def _encode(
    arrays: Mapping[str, NDArray[Any]], specs: Mapping[str, TensorSpec] | Mapping[str, StateSpec]
) -> list[pb.Tensor]:
    return [
        pb.Tensor(
            name=name,
            datatype=specs[name].datatype,
            shape=array.shape,
            contents=array.tobytes(),
        )
        for name, array in arrays.items()
    ]


def _spec(tensor: TensorSpec) -> pb.TensorSpec:
    return pb.TensorSpec(
        name=tensor.name,
        datatype=tensor.datatype,
        shape=tensor.shape,
        time_axis=tensor.time_axis,
    )

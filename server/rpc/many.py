"""Many sessions opened, resumed or closed by one message of a stream, for frames of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnserve.v1 import session_pb2 as pb
from server.core.requests import Write
from server.errors import InvalidRequest, LimitReached, RequestError, SessionNotFound
from server.rpc.beginnings import new_session, opened_before
from server.rpc.frames import encode_errors, numbers_of, steps_column
from server.rpc.handles import MAX_IN_FRAMES
from server.rpc.signature import opened
from server.rpc.states import decode_constants, to_write
from server.serving import home_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from server.core.requests import Arrays
    from server.core.session import Session
    from server.rpc.handles import Handles
    from server.serving import Serving

AT_ONCE = 512  # sessions, before others get their turn


def open_many(
    serving: Serving, handles: Handles, first: int, message: pb.OpenManyRequest
) -> Generator[None, None, pb.OpenManyResponse]:
    """All of them or none, some at a time. Raises what opening one raises, and InvalidRequest."""
    model = serving.model(message.open.model_name, message.open.model_version)
    _check(message)
    constants = decode_constants(model, 1, message.open.constants)
    numbers = _free_numbers(handles, first, message.count, serving.sessions.max_sessions)
    sessions: list[Session] = []
    new: list[Session] = []
    try:
        for index in range(message.count):
            one = _numbered(message.open, index)
            session = opened_before(serving, model, one, 1)
            if session is None:
                session = new_session(serving, model, one, 1)
                new.append(session)
                _give(session, constants)
            sessions.append(session)
            if index % AT_ONCE == AT_ONCE - 1:
                yield
    except BaseException:  # nobody waits any more, for one thing
        for session in new:
            if not session.closed:
                session.home.close(session)
        raise
    for number, session in zip(numbers, sessions, strict=True):
        handles.put(number, session)
    keys = [pb.SessionKey(session_id=str(s.id), token=s.token) for s in sessions]
    return pb.OpenManyResponse(opened=_in_common(sessions), sessions=keys)


def resume_many(
    serving: Serving, handles: Handles, first: int, keys: Sequence[pb.SessionKey]
) -> Generator[None, None, pb.ResumeManyResponse]:
    """Some at a time. Raises InvalidRequest, and what resuming one raises where none of them is
    there.
    """
    numbers = _free_numbers(handles, first, len(keys), serving.sessions.max_sessions)
    steps: list[int] = []
    errors: dict[int, Exception] = {}
    found: list[tuple[int, Session]] = []
    for position, (number, key) in enumerate(zip(numbers, keys, strict=True)):
        if position % AT_ONCE == AT_ONCE - 1:
            yield
        try:
            session = serving.sessions.get(key.session_id, key.token)
        except RequestError as error:
            errors[position] = error
            steps.append(0)
            continue
        found.append((number, session))
        steps.append(session.step)
    if not found:
        raise errors[0]
    in_common = _in_common([session for _, session in found])
    for number, session in found:
        handles.put(number, session)
    return pb.ResumeManyResponse(
        opened=in_common, steps=steps_column(steps), errors=encode_errors(errors)
    )


def close_many(handles: Handles, column: bytes) -> Generator[None, None, pb.CloseManyResponse]:
    """Closes those that are still open, whatever waits there, some at a time. Raises
    InvalidRequest.
    """
    closed = 0
    for index, number in enumerate(numbers_of(column).tolist(), start=1):
        if index % AT_ONCE == 0:
            yield
        try:
            session = handles.get(number)
        except (InvalidRequest, SessionNotFound):
            continue
        except RequestError:  # it has expired: its number is free
            continue
        if not session.closed:
            session.home.close(session)
            closed += 1
        handles.drop(number, session)
    return pb.CloseManyResponse(closed=closed)


def _check(message: pb.OpenManyRequest) -> None:
    asked = message.open
    if asked.batch_size > 1 or asked.initial_state or asked.HasField("states_of"):
        raise InvalidRequest(
            "sessions that are opened together have one row and the model's initial state: "
            "expected no batch_size, initial_state or states_of"
        )


def _give(session: Session, constants: Arrays) -> None:
    """The constants, before anything else. Raises LimitReached."""
    if constants:
        session.constants = constants
        write = Write(states=to_write(session, None), initial=True, start=True)
        session.home.submit(session, write)


def _numbered(message: pb.OpenSessionRequest, index: int) -> pb.OpenSessionRequest:
    one = pb.OpenSessionRequest(idle_ttl_s=message.idle_ttl_s)
    if message.session_id:
        one.session_id = f"{message.session_id}/{index}"
    if message.token:
        one.token = f"{message.token}/{index}"
    return one


def _free_numbers(handles: Handles, first: int, count: int, at_most: int) -> Iterable[int]:
    """Raises InvalidRequest or LimitReached."""
    if not 0 < count <= MAX_IN_FRAMES - first:
        raise InvalidRequest(
            f"expected at least one session, with numbers below {MAX_IN_FRAMES}, got {count} from "
            f"{first} on"
        )
    if count > at_most:
        raise LimitReached(f"{count} sessions are more than this server takes, {at_most}")
    numbers = range(first, first + count)
    for number in numbers:
        handles.must_be_free(number)
    return numbers


def _in_common(sessions: Sequence[Session]) -> pb.OpenSessionResponse:
    """What is said of one of them, without its key and its step. Raises InvalidRequest where they
    are of different models.
    """
    if any(home_of(session) is not home_of(sessions[0]) for session in sessions):
        raise InvalidRequest("sessions that are resumed together must be of one model")
    answer = opened(sessions[0])
    answer.ClearField("session")
    answer.ClearField("step")
    return answer

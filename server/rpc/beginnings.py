"""How sessions begin: opened, forked off another one, or restored from a snapshot.

A client that chooses id and token itself may ask twice, because the first answer was lost: it gets
the session that it has opened.
"""

from __future__ import annotations

import hmac
import math
import secrets
from typing import TYPE_CHECKING, Any

from server.core.requests import Done, Touch, Write
from server.errors import InvalidRequest, SnapshotRefused
from server.rpc.actions import Action, encoder
from server.rpc.handover import Source
from server.rpc.signature import opened
from server.rpc.snapshots import model_of, unpack
from server.rpc.states import decode_constants, decode_states, to_write
from server.serving import home_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnnserve.v1 import session_pb2 as pb
    from server.core.session import Session
    from server.serving import ServedModel, Serving

MAX_ID_BYTES = 256
MAX_TOKEN_BYTES = 64
TOKEN_BYTES = 18  # of ours


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
    if (session := opened_before(serving, model, message, batch_size)) is not None:
        return _action(session, Touch())
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
    session = new_session(serving, model, message, batch_size)
    session.constants = constants or None
    write = Write(states=to_write(session, states), start=True, initial=states is None)
    return _action(session, write, source)


def fork(serving: Serving, session: Session, message: pb.ForkRequest) -> Action:
    """Raises InvalidRequest, ShuttingDown, SessionExists, LimitReached, SessionClosed."""
    model = home_of(session)
    if (before := opened_before(serving, model, message, session.batch_size)) is not None:
        return _action(before, Touch())
    source = Source(session, model, session.batch_size, {}, count_on=True)
    idle_ttl_s = message.idle_ttl_s or session.idle_ttl_s
    new = new_session(serving, model, message, session.batch_size, idle_ttl_s)
    new.constants = session.constants
    return _action(new, Write(start=True), source)


def restore(serving: Serving, message: pb.RestoreRequest) -> Action:
    """Raises SnapshotRefused, ModelNotFound, InvalidRequest, ShuttingDown, SessionExists,
    LimitReached.
    """
    contents = unpack(message.snapshot)
    model = model_of(serving, contents, message.model_name, message.model_version)
    if (before := opened_before(serving, model, message, contents.batch_size)) is not None:
        return _action(before, Touch())
    states = decode_states(model, contents.batch_size, contents.states)
    if states is None and model.states and not contents.fresh:
        raise SnapshotRefused("the snapshot is damaged: it has no states")
    constants = decode_constants(model, contents.batch_size, contents.constants)
    session = new_session(serving, model, message, contents.batch_size)
    session.constants = constants or None
    write = Write(
        states=to_write(session, states),
        start=True,
        initial=contents.fresh,
        step=contents.step,
    )
    return _action(session, write)


def opened_before(
    serving: Serving, model: ServedModel, message: Any, batch_size: int
) -> Session | None:
    """The session that the same client has opened by the same message. Raises InvalidRequest for a
    token that cannot be one.
    """
    if not message.token:
        return None
    if len(message.token.encode()) > MAX_TOKEN_BYTES:
        raise InvalidRequest(f"token: expected at most {MAX_TOKEN_BYTES} bytes")
    if not message.session_id:
        raise InvalidRequest("a client that chooses the token chooses session_id, too")
    session = serving.sessions.find(message.session_id)
    if session is None or session.ending or home_of(session) is not model:
        return None
    same = hmac.compare_digest(session.secret, message.token.encode())
    return session if same and session.batch_size == batch_size else None


def new_session(
    serving: Serving,
    model: ServedModel,
    message: Any,
    batch_size: int,
    idle_ttl_s: float | None = None,
) -> Session:
    """Raises InvalidRequest, ShuttingDown, SessionExists, LimitReached."""
    if len(message.session_id.encode()) > MAX_ID_BYTES:
        raise InvalidRequest(f"session_id: expected at most {MAX_ID_BYTES} bytes")
    if not 0 <= message.idle_ttl_s < math.inf:
        raise InvalidRequest(
            "idle_ttl_s must be a finite number of seconds, or 0 for the model's own, "
            f"got {message.idle_ttl_s:g}"
        )
    return serving.open(
        model,
        id=message.session_id or None,
        batch_size=batch_size,
        idle_ttl_s=idle_ttl_s or message.idle_ttl_s or None,
        token=message.token or secrets.token_urlsafe(TOKEN_BYTES),
    )


def _action(session: Session, request: Touch | Write, source: Source | None = None) -> Action:
    return Action(session, request, encoder(Done, lambda _: opened(session)), source)

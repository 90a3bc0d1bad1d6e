"""One stream of SessionService, whose sessions may be held by several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.errors import (
    InvalidRequest,
    RequestError,
    SessionExists,
    SessionExpired,
    SessionNotFound,
)
from server.processes.upstream import NumberedUpstream
from server.rpc.frames import numbers_of
from server.rpc.session_stream import SessionStream, failed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnnserve.v1 import session_pb2 as pb
    from server.processes.routes import Peer, Routes
    from server.rpc.replies import Slot
    from server.serving import Serving

BEGINS = {"open", "resume", "open_many", "resume_many"}  # give numbers to sessions
# what a request is refused with whose session is elsewhere, expired here or not
MISSED = (SessionNotFound, SessionExpired, SessionExists)
ENDED = {"SessionNotFound", "SessionExpired", "SessionClosed"}


class RoutedSessionStream:
    """Passes on what concerns a number whose session is `_away`. Those in `_free` had one that has
    ended, and may be given again.
    """

    def __init__(self, serving: Serving, routes: Routes) -> None:
        self._serving = serving
        self._routes = routes
        self._here = SessionStream(serving)
        self._upstreams: dict[Peer, NumberedUpstream] = {}
        self._away: dict[int, NumberedUpstream] = {}
        self._free: set[int] = set()

    def handle(self, message: pb.StreamRequest, slot: Slot[pb.StreamResponse]) -> None:
        """Begin what the message asks for; its answer, or error, goes to `slot`."""
        kind = message.WhichOneof("action")
        try:
            if kind in BEGINS:
                return self._begin(str(kind), message, slot)
            upstream = self._upstream_of(kind, message) if self._away else None
        except Exception as error:
            return slot.fill(failed(message, error))
        if upstream is None:
            return self._here.handle(message, slot)
        if kind == "close":
            self._free.add(message.session)
        self._pass_on(upstream, message, slot)

    def cancel(self) -> None:
        """The stream is over: what has not run will not."""
        self._here.cancel()
        for upstream in self._upstreams.values():
            upstream.cancel()

    def _begin(self, kind: str, message: pb.StreamRequest, slot: Slot[pb.StreamResponse]) -> None:
        """Raises what beginning raises where no other process knows better."""
        numbers = _given_by(kind, message)
        self._must_be_free(numbers)
        upstream = self._known_source(kind, message)
        if upstream is None:
            upstream = self._one_for_all(message) if kind == "resume_many" else None
        if upstream is None:
            try:
                self._here.begin(message, slot)
            except MISSED:
                peer = self._routes.elsewhere(_named_by(kind, message))
                if peer is None:
                    raise
                upstream = self._upstream(peer)
            else:
                return self._forget(numbers)
        for number in numbers:
            self._here.handles.must_be_free(number)
        self._away.update(dict.fromkeys(numbers, upstream))
        self._free.difference_update(numbers)
        self._pass_on(upstream, message, slot)

    def _pass_on(
        self,
        upstream: NumberedUpstream,
        message: pb.StreamRequest,
        slot: Slot[pb.StreamResponse],
    ) -> None:
        kind, request_id = message.WhichOneof("action"), message.request_id
        numbers = _given_by(kind, message) if kind in BEGINS else (message.session,)

        def receive(answer: pb.StreamResponse | RequestError) -> None:
            if isinstance(answer, RequestError):
                message.request_id = request_id
                answer = failed(message, answer)
            if answer.HasField("error") and (kind in BEGINS or answer.error.kind in ENDED):
                self._free.update(numbers)
            slot.fill(answer)

        upstream.send(message, receive)

    def _upstream_of(self, kind: str | None, message: pb.StreamRequest) -> NumberedUpstream | None:
        """Where the sessions are that the message speaks of; None: here. Raises InvalidRequest."""
        match kind:
            case "frame":
                return self._together(message.frame.sessions)
            case "close_many":
                upstream = self._together(message.close_many.sessions)
                if upstream is not None:
                    self._free.update(numbers_of(message.close_many.sessions).tolist())
                return upstream
        return self._away.get(message.session)

    def _together(self, column: bytes) -> NumberedUpstream | None:
        """Raises InvalidRequest where the sessions are held by several processes."""
        places = {self._away.get(number) for number in numbers_of(column).tolist()}
        if len(places) > 1:
            raise _apart("send them in frames of their own")
        return places.pop()

    def _one_for_all(self, message: pb.StreamRequest) -> NumberedUpstream | None:
        """Who holds all of these sessions, as far as anybody does; None: this process. Raises
        InvalidRequest where several do.
        """
        ids = [key.session_id for key in message.resume_many.sessions]
        missing = [id for id in ids if self._serving.sessions.find(id) is None]
        peers = {peer for id in missing if (peer := self._routes.elsewhere((id,))) is not None}
        if len(peers) + (len(missing) < len(ids)) > 1:
            raise _apart("resume them one by one")
        return self._upstream(peers.pop()) if peers else None

    def _known_source(self, kind: str, message: pb.StreamRequest) -> NumberedUpstream | None:
        """Where the session is whose states a new one is to have, by its number here."""
        if kind != "open" or not message.open.HasField("states_of"):
            return None
        source = message.open.states_of
        return None if source.HasField("session") else self._away.get(source.stream_session)

    def _upstream(self, peer: Peer) -> NumberedUpstream:
        upstream = self._upstreams.get(peer)
        if upstream is None or upstream.broken:
            upstream = self._upstreams[peer] = NumberedUpstream(self._routes, peer)
        return upstream

    def _must_be_free(self, numbers: range) -> None:
        for number in self._away.keys() - self._free:
            if number in numbers:
                raise InvalidRequest(
                    f"this stream has a session {number} already; close it or choose another number"
                )

    def _forget(self, numbers: range) -> None:
        """They are given to sessions of this process."""
        for number in [number for number in self._away if number in numbers]:
            del self._away[number]
            self._free.discard(number)


def _given_by(kind: str | None, message: pb.StreamRequest) -> range:
    """The numbers that the message gives to sessions."""
    many = {"open_many": message.open_many.count, "resume_many": len(message.resume_many.sessions)}
    return range(message.session, message.session + many.get(str(kind), 1))


def _named_by(kind: str, message: pb.StreamRequest) -> Iterable[str]:
    """The ids of the sessions that the message would open, or needs."""
    match kind:
        case "resume":
            yield message.resume.session_id
        case "open":
            yield message.open.states_of.session.session_id
            yield message.open.session_id
        case "open_many":
            yield f"{message.open_many.open.session_id}/0"  # all are where the first one is


def _apart(advice: str) -> Any:
    return InvalidRequest(
        f"these sessions are held by several processes of this server: {advice}, or open them "
        "over one connection"
    )

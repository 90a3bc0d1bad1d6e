"""One stream of SessionService: many sessions, by the client's numbers, and frames of them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from rnnserve.v1 import session_pb2 as pb
from server.core.requests import Framed
from server.errors import InvalidRequest, RequestError
from server.rpc import actions, beginnings
from server.rpc.calls import Outstanding
from server.rpc.frames import decode_frame, encode_error, encode_frame
from server.rpc.handles import Handles
from server.rpc.many import close_many, open_many, resume_many
from server.rpc.signature import opened

if TYPE_CHECKING:
    from collections.abc import Generator

    from google.protobuf.message import Message

    from server.core.requests import Result
    from server.core.session import Session
    from server.rpc.actions import Action
    from server.rpc.replies import Slot
    from server.serving import Serving


class SessionStream:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.handles = Handles(serving)
        self._outstanding = Outstanding()
        self._later: deque[tuple[pb.StreamRequest, Slot[pb.StreamResponse]]] = deque()

    def handle(self, message: pb.StreamRequest, slot: Slot[pb.StreamResponse]) -> None:
        """Begin what the message asks for; its answer, or error, goes to `slot`."""
        try:
            self.begin(message, slot)
        except Exception as error:
            slot.fill(failed(message, error))

    def cancel(self) -> None:
        """The stream is over: what has not run will not."""
        self._outstanding.cancel()

    def begin(self, message: pb.StreamRequest, slot: Slot[pb.StreamResponse]) -> None:
        """The same, but what cannot begin is raised."""
        if self._outstanding.busy:  # many sessions are being opened or closed: it may be about them
            return self._later.append((message, slot))
        kind = message.WhichOneof("action")
        if kind == "step":
            action = actions.step(self.handles.get(message.session), message.step)
            return self._submit(message, kind, action, slot)
        if kind == "frame":
            return self._submit_frame(message, slot)
        if (answer := self._at_once(kind, message)) is not None:
            return slot.fill(_response(message, *answer))
        if (work := self._by_and_by(str(kind), message)) is not None:
            return self._do(message, str(kind), work, slot)
        self._submit(message, str(kind), self._action(kind, message), slot)

    def _submit(
        self, message: pb.StreamRequest, kind: str, action: Action, slot: Slot[pb.StreamResponse]
    ) -> None:
        self._outstanding.submit(
            action.session,
            action.request,
            lambda result: self._answer(message, kind, action, result, slot),
            action.source,
        )

    def _answer(
        self,
        message: pb.StreamRequest,
        kind: str,
        action: Action,
        result: Result,
        slot: Slot[pb.StreamResponse],
    ) -> None:
        try:
            slot.fill(_response(message, kind, action.encode(result)))
        except Exception as error:
            slot.fill(failed(message, error))
        if action.session.closed:
            self.handles.drop(message.session, action.session)

    def _submit_frame(self, message: pb.StreamRequest, slot: Slot[pb.StreamResponse]) -> None:
        model, frame = decode_frame(self.handles, message.frame)
        sequences = message.frame.return_sequences

        def answer(result: Result) -> None:
            try:
                if isinstance(result, RequestError):
                    raise result
                assert isinstance(result, Framed)
                response = pb.StreamResponse(request_id=message.request_id)
                encode_frame(model, result, sequences, response.frame)
                slot.fill(response)
            except Exception as error:
                slot.fill(failed(message, error))

        self._outstanding.submit_frame(model, frame, answer)

    def _do(
        self,
        message: pb.StreamRequest,
        kind: str,
        work: Generator[None, None, Message],
        slot: Slot[pb.StreamResponse],
    ) -> None:
        def answer(result: Message | Exception) -> None:
            failure = failed(message, result) if isinstance(result, Exception) else None
            slot.fill(failure or _response(message, kind, result))
            while self._later and not self._outstanding.busy:
                self.handle(*self._later.popleft())

        self._outstanding.do_by_and_by(work, answer)

    def _at_once(self, kind: str | None, message: pb.StreamRequest) -> tuple[str, Any] | None:
        """The answer to what no model has to be asked for."""
        match kind:
            case "resume":
                return "open", opened(self._resume(message))
        return None

    def _by_and_by(
        self, kind: str, message: pb.StreamRequest
    ) -> Generator[None, None, Message] | None:
        """What makes the answer to a message about many sessions, some at a time."""
        if kind == "open_many":
            asked = message.open_many
            return open_many(self._serving, self.handles, message.session, asked)
        if kind == "resume_many":
            keys = message.resume_many.sessions
            return resume_many(self._serving, self.handles, message.session, keys)
        if kind == "close_many":
            return close_many(self.handles, message.close_many.sessions)
        return None

    def _action(self, kind: str | None, message: pb.StreamRequest) -> Action:
        match kind:
            case "open":
                self.handles.must_be_free(message.session)
                action = beginnings.open_session(self._serving, message.open, self._source)
                self.handles.put(message.session, action.session)
                return action
            case "reset":
                return actions.reset_states(self.handles.get(message.session), message.reset)
            case "close":
                return actions.close_session(self.handles.get(message.session))
        raise InvalidRequest(
            "a message of a stream must open, resume, step, reset or close a session, or many, or "
            "be a frame"
        )

    def _resume(self, message: pb.StreamRequest) -> Session:
        key = message.resume
        session = self._serving.sessions.get(key.session_id, key.token)
        self.handles.must_be_free(message.session)
        self.handles.put(message.session, session)
        return session

    def _source(self, wanted: pb.StatesOf) -> Session:
        if not wanted.HasField("session"):
            return self.handles.get(wanted.stream_session)
        return self._serving.sessions.get(wanted.session.session_id, wanted.session.token)


def failed(message: pb.StreamRequest, error: Exception) -> pb.StreamResponse:
    return _response(message, "error", encode_error(error))


def _response(message: pb.StreamRequest, kind: str, answer: Any) -> pb.StreamResponse:
    fields = {"request_id": message.request_id, "session": message.session, kind: answer}
    return pb.StreamResponse(**cast("Any", fields))

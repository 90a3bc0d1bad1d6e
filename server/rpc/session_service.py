"""rnnserve.v1.SessionService: decode, one call to the core, encode."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc
from server.errors import InvalidRequest, LimitReached, RequestError
from server.rpc import actions
from server.rpc.calls import Outstanding, ask
from server.rpc.replies import Replies, Slot
from server.rpc.signature import described, opened
from server.rpc.status import answers_errors, code_of, expected
from server.serving import home_of

if TYPE_CHECKING:
    import grpc

    from server.core.requests import Result
    from server.core.session import Session
    from server.rpc.actions import Action
    from server.serving import Serving

MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 100


class SessionService(session_pb2_grpc.SessionServiceServicer):
    def __init__(self, serving: Serving, max_open_per_stream: int) -> None:
        self._serving = serving
        self._max_open = max_open_per_stream

    @answers_errors
    async def DescribeModel(self, request: pb.DescribeModelRequest, context: Any) -> Any:
        return described(self._serving.model(request.model_name, request.model_version))

    @answers_errors
    async def OpenSession(self, request: pb.OpenSessionRequest, context: Any) -> Any:
        return await _do(actions.open_session(self._serving, request, self._source))

    @answers_errors
    async def Step(self, request: pb.StepRequest, context: Any) -> Any:
        return await _do(actions.step(self._session(request.session), request))

    @answers_errors
    async def ResetStates(self, request: pb.ResetStatesRequest, context: Any) -> Any:
        return await _do(actions.reset_states(self._session(request.session), request))

    @answers_errors
    async def GetStates(self, request: pb.GetStatesRequest, context: Any) -> Any:
        return await _do(actions.get_states(self._session(request.session)))

    @answers_errors
    async def SetStates(self, request: pb.SetStatesRequest, context: Any) -> Any:
        return await _do(actions.set_states(self._session(request.session), request))

    @answers_errors
    async def CloseSession(self, request: pb.CloseSessionRequest, context: Any) -> Any:
        return await _do(actions.close_session(self._session(request.session)))

    @answers_errors
    async def ListSessions(self, request: pb.ListSessionsRequest, context: Any) -> Any:
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        rows = sorted(
            (
                _info(session)
                for session in self._serving.sessions
                if home_of(session).keeps_something
            ),
            key=lambda info: info.session_id,
        )
        page = [
            info
            for info in rows
            if info.session_id > request.page_token and request.model_name in ("", info.model_name)
        ]
        more = page[size - 1].session_id if len(page) > size else ""
        return pb.ListSessionsResponse(sessions=page[:size], next_page_token=more)

    async def Stream(  # type: ignore[override]  # grpc.aio also takes methods that read and write
        self,
        request_iterator: Any,
        context: grpc.aio.ServicerContext[pb.StreamRequest, pb.StreamResponse],
    ) -> None:
        stream = SessionStream(self._serving)
        replies: Replies[pb.StreamResponse] = Replies(self._max_open, ordered=False)
        try:
            await replies.pump(context, stream.handle)
        finally:
            stream.outstanding.cancel()

    def _session(self, key: pb.SessionKey) -> Session:
        return self._serving.sessions.get(key.session_id, key.token)

    def _source(self, wanted: pb.StatesOf) -> Session:
        if not wanted.HasField("session"):
            raise InvalidRequest("states_of must name a session by its id and token")
        return self._session(wanted.session)


class SessionStream:
    """The sessions that one stream speaks of, by the client's numbers."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._sessions: dict[int, Session] = {}
        self.outstanding = Outstanding()

    def handle(self, message: pb.StreamRequest, slot: Slot[pb.StreamResponse]) -> None:
        """Begin what the message asks for; its answer, or error, goes to `slot`."""
        kind = message.WhichOneof("action")
        try:
            if kind == "resume":
                return slot.fill(_response(message, "open", opened(self._resume(message))))
            action = self._action(kind, message)
            self.outstanding.submit(
                action.session,
                action.request,
                lambda result: self._answer(message, str(kind), action, result, slot),
                action.source,
            )
        except Exception as error:
            slot.fill(_failed(message, error))

    def _answer(
        self,
        message: pb.StreamRequest,
        kind: str,
        action: Action,
        result: Result,
        slot: Slot[pb.StreamResponse],
    ) -> None:
        try:
            if isinstance(result, RequestError):
                raise result
            slot.fill(_response(message, kind, action.encode(result)))
        except Exception as error:
            slot.fill(_failed(message, error))
        if action.session.closed and self._sessions.get(message.session) is action.session:
            del self._sessions[message.session]

    def _action(self, kind: str | None, message: pb.StreamRequest) -> Action:
        match kind:
            case "step":
                return actions.step(self._session(message.session), message.step)
            case "open":
                self._must_be_free(message.session)
                action = actions.open_session(self._serving, message.open, self._source)
                self._sessions[message.session] = action.session
                return action
            case "reset":
                return actions.reset_states(self._session(message.session), message.reset)
            case "close":
                return actions.close_session(self._session(message.session))
        raise InvalidRequest("a message of a stream must open, resume, step, reset or close")

    def _resume(self, message: pb.StreamRequest) -> Session:
        key = message.resume
        session = self._serving.sessions.get(key.session_id, key.token)
        self._must_be_free(message.session)
        self._sessions[message.session] = session
        return session

    def _must_be_free(self, number: int) -> None:
        known = self._sessions.get(number)
        if known is not None and not known.ending:
            raise InvalidRequest(
                f"this stream has a session {number} already; close it or choose another number"
            )

    def _source(self, wanted: pb.StatesOf) -> Session:
        if not wanted.HasField("session"):
            return self._session(wanted.stream_session)
        return self._serving.sessions.get(wanted.session.session_id, wanted.session.token)

    def _session(self, number: int) -> Session:
        try:
            session = self._sessions[number]
        except KeyError:
            raise InvalidRequest(
                f"this stream has no session {number}; open or resume one first"
            ) from None
        if session.closed:  # not by this stream: by expiry, or by another call
            self._serving.sessions.get(session.id, session.token)
        return session


async def _do(action: Action) -> Any:
    return action.encode(await ask(action.session, action.request, action.expected, action.source))


def _failed(message: pb.StreamRequest, error: Exception) -> pb.StreamResponse:
    shown = expected(error)
    answer = pb.Error(code=code_of(shown).value[0], kind=type(shown).__name__, message=str(shown))
    if isinstance(shown, LimitReached):
        answer.retry_after_s = shown.retry_after_s
    return _response(message, "error", answer)


def _response(message: pb.StreamRequest, kind: str, answer: Any) -> pb.StreamResponse:
    fields = {"request_id": message.request_id, "session": message.session, kind: answer}
    return pb.StreamResponse(**cast("Any", fields))


def _info(session: Session) -> pb.SessionInfo:
    spec = home_of(session).spec
    return pb.SessionInfo(
        session_id=str(session.id),
        model_name=spec.name,
        model_version=str(spec.version),
        batch_size=session.batch_size,
        step=session.step,
        idle_s=time.monotonic() - session.last_used_s,
        idle_ttl_s=session.idle_ttl_s,
    )

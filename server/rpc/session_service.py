"""rnnserve.v1.SessionService: decode, one call to the core, encode."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc
from server.errors import InvalidRequest
from server.rpc import actions, beginnings
from server.rpc.caller import of_context
from server.rpc.calls import begin
from server.rpc.methods import at_once, later, methods_of
from server.rpc.replies import Replies
from server.rpc.session_stream import SessionStream
from server.rpc.signature import described
from server.serving import home_of

if TYPE_CHECKING:
    import grpc

    from server.core.requests import Result
    from server.core.session import Session
    from server.rpc.actions import Action
    from server.rpc.caller import Caller
    from server.rpc.methods import AnyStream, Cancel, Method, Respond
    from server.serving import Serving

MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 100


class SessionService(session_pb2_grpc.SessionServiceServicer):
    def __init__(self, serving: Serving, max_open_per_stream: int) -> None:
        self._serving = serving
        self._max_open = max_open_per_stream

    def unary(self) -> list[Method]:
        """Its unary methods, for transports of other kinds."""
        return methods_of(self, pb.DESCRIPTOR.services_by_name["SessionService"], pb)

    @at_once
    def DescribeModel(self, request: pb.DescribeModelRequest) -> pb.DescribeModelResponse:
        return described(self._serving.model(request.model_name, request.model_version))

    @later
    def OpenSession(self, request: pb.OpenSessionRequest, respond: Respond) -> Cancel:
        return _do(beginnings.open_session(self._serving, request, self._source), respond)

    @later
    def Fork(self, request: pb.ForkRequest, respond: Respond) -> Cancel:
        session = self._session(request.session)
        return _do(beginnings.fork(self._serving, session, request), respond)

    @later
    def Restore(self, request: pb.RestoreRequest, respond: Respond) -> Cancel:
        return _do(beginnings.restore(self._serving, request), respond)

    @later
    def Step(self, request: pb.StepRequest, respond: Respond) -> Cancel:
        return _do(actions.step(self._session(request.session), request), respond)

    @later
    def ResetStates(self, request: pb.ResetStatesRequest, respond: Respond) -> Cancel:
        return _do(actions.reset_states(self._session(request.session), request), respond)

    @later
    def GetStates(self, request: pb.GetStatesRequest, respond: Respond) -> Cancel:
        return _do(actions.get_states(self._session(request.session)), respond)

    @later
    def SetStates(self, request: pb.SetStatesRequest, respond: Respond) -> Cancel:
        return _do(actions.set_states(self._session(request.session), request), respond)

    @later
    def Snapshot(self, request: pb.SnapshotRequest, respond: Respond) -> Cancel:
        return _do(actions.snapshot(self._session(request.session)), respond)

    @later
    def CloseSession(self, request: pb.CloseSessionRequest, respond: Respond) -> Cancel:
        return _do(actions.close_session(self._session(request.session)), respond)

    @at_once
    def KeepAlive(self, request: pb.KeepAliveRequest) -> pb.KeepAliveResponse:
        session = self._session(request.session)
        session.last_used_s = time.monotonic()
        return pb.KeepAliveResponse(idle_ttl_s=session.idle_ttl_s, step=session.step)

    @at_once
    def DescribeSession(self, request: pb.DescribeSessionRequest) -> pb.SessionInfo:
        return _info(self._session(request.session))

    @at_once
    def ListSessions(self, request: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        later = sorted(
            (
                (str(session.id), session)
                for session in self._serving.sessions
                if str(session.id) > request.page_token
                and home_of(session).keeps_something
                and request.model_name in ("", home_of(session).spec.name)
            ),
            key=lambda named: named[0],
        )
        more = later[size - 1][0] if len(later) > size else ""
        page = [_info(session) for _, session in later[:size]]
        return pb.ListSessionsResponse(sessions=page, next_page_token=more)

    async def Stream(  # type: ignore[override]  # grpc.aio also takes methods that read and write
        self,
        request_iterator: Any,
        context: grpc.aio.ServicerContext[pb.StreamRequest, pb.StreamResponse],
    ) -> None:
        stream = self.stream(of_context(context))
        replies: Replies[pb.StreamResponse] = Replies(self._max_open, ordered=False)
        try:
            await replies.pump(context, stream.handle)
        finally:
            stream.cancel()

    def stream(self, caller: Caller) -> AnyStream:
        """What handles one stream."""
        return SessionStream(self._serving)

    def _session(self, key: pb.SessionKey) -> Session:
        return self._serving.sessions.get(key.session_id, key.token)

    def _source(self, wanted: pb.StatesOf) -> Session:
        if not wanted.HasField("session"):
            raise InvalidRequest("states_of must name a session by its id and token")
        return self._session(wanted.session)


def _do(action: Action, respond: Respond) -> Cancel:
    def answer(result: Result) -> None:
        try:
            said: Any = action.encode(result)
        except Exception as error:
            said = error
        respond(said)

    return begin(action.session, action.request, answer, action.source)


def _info(session: Session) -> pb.SessionInfo:
    spec, scheduler = home_of(session).spec, home_of(session).scheduler
    return pb.SessionInfo(
        session_id=str(session.id),
        model_name=spec.name,
        model_version=str(spec.version),
        batch_size=session.batch_size,
        step=session.step,
        idle_s=time.monotonic() - session.last_used_s,
        idle_ttl_s=session.idle_ttl_s,
        pending=scheduler.pending_of(session),
        on_host=session.kept is not None,
        remembered_from=scheduler.remembered_from(session),
    )

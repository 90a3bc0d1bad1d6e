"""SessionService over all processes: what is not found here is looked for elsewhere."""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from server.processes.merged import merged_page
from server.processes.session_stream import MISSED, RoutedSessionStream
from server.rpc.methods import for_caller
from server.rpc.session_service import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, SessionService

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnnserve.v1 import session_pb2 as pb
    from server.processes.routes import Routes
    from server.rpc.caller import Caller
    from server.rpc.methods import AnyStream, Cancel, Respond
    from server.serving import Serving


def _routed(method: Any) -> Any:
    """The method here, or where the sessions are that the request names."""

    @for_caller
    @wraps(method)
    def begin(
        service: RoutedSessionService, request: Any, respond: Respond, caller: Caller
    ) -> Cancel:
        try:
            cancel: Cancel = method.begin(service, request, respond, caller)
        except MISSED:
            peer = service.routes.elsewhere(_ids_in(request))
            if peer is None:
                raise
            there = getattr(peer.sessions, method.__name__)
            return service.routes.pass_on(peer, there, request, respond)
        return cancel

    return begin


class RoutedSessionService(SessionService):
    def __init__(self, serving: Serving, max_open_per_stream: int, routes: Routes) -> None:
        super().__init__(serving, max_open_per_stream)
        self.routes = routes

    OpenSession = _routed(SessionService.OpenSession)
    Fork = _routed(SessionService.Fork)
    Restore = _routed(SessionService.Restore)
    Step = _routed(SessionService.Step)
    ResetStates = _routed(SessionService.ResetStates)
    GetStates = _routed(SessionService.GetStates)
    SetStates = _routed(SessionService.SetStates)
    Snapshot = _routed(SessionService.Snapshot)
    CloseSession = _routed(SessionService.CloseSession)
    KeepAlive = _routed(SessionService.KeepAlive)
    DescribeSession = _routed(SessionService.DescribeSession)

    @for_caller
    def ListSessions(
        self, request: pb.ListSessionsRequest, respond: Respond, caller: Caller
    ) -> Cancel:
        """Those of all processes."""
        pages: list[pb.ListSessionsResponse] = []
        SessionService.ListSessions.begin(self, request, pages.append, caller)
        others = [peer.sessions.ListSessions for peer in self.routes.peers.values()]
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        ask = partial(self.routes.ask, others, request)
        return self.routes.in_task(merged_page(pages, ask, size), respond)

    def stream(self, caller: Caller) -> AnyStream:
        return RoutedSessionStream(self._serving, self.routes)


def _ids_in(request: Any) -> Iterable[str]:
    """The ids of the sessions that the request needs, or would open."""
    fields = request.DESCRIPTOR.fields_by_name
    if "session" in fields:
        yield request.session.session_id
    if "states_of" in fields:
        yield request.states_of.session.session_id
    if "session_id" in fields:
        yield request.session_id

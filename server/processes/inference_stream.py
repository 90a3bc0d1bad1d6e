"""One stream of Open Inference, whose sequences may be held by several processes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from server.errors import InvalidRequest, NotAllowed, RequestError, SessionExists, SessionNotFound
from server.processes.upstream import Upstream
from server.rpc.sequences import sequence_of, sources_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from server.processes.routes import Peer, Routes
    from server.rpc.caller import Headers
    from server.rpc.inference import InferenceStream
    from server.rpc.replies import Slot
    from server.rpc.sequences import SequenceId
    from server.serving import Serving
    from server.stubs.inference import grpc_service_pb2 as pb

# what a request is refused with whose sequence, or the one it is to begin with, is elsewhere
MISSED = (InvalidRequest, SessionNotFound, SessionExists)


class RoutedInferenceStream:
    """`headers` go with what is passed on."""

    def __init__(
        self,
        serving: Serving,
        routes: Routes,
        here: InferenceStream,
        scope: str,
        headers: Headers,
    ) -> None:
        self._serving = serving
        self._routes = routes
        self._here = here
        self._scope = scope
        self._headers = headers
        self._upstreams: dict[Peer, Upstream] = {}
        # begun there a moment ago: nobody may have claimed them yet
        self._begun: dict[Hashable, Peer] = {}

    def handle(
        self, request: pb.ModelInferRequest, slot: Slot[pb.ModelStreamInferResponse]
    ) -> None:
        """Begin one inference; its answer, or error, goes to `slot`."""
        try:
            self._here.begin(request, slot)
        except Exception as error:
            peer = self._peer(request) if isinstance(error, MISSED) else None
            if peer is None:
                return self._here.refuse(request, slot, error)
            try:
                self._here.vouch(request)
            except NotAllowed as refused:
                return self._here.refuse(request, slot, refused)
            self._pass_on(peer, request, slot)

    def cancel(self) -> None:
        """The stream is over: what has not run will not."""
        self._here.cancel()
        for upstream in self._upstreams.values():
            upstream.cancel()

    def _peer(self, request: pb.ModelInferRequest) -> Peer | None:
        sequences = list(sequences_in(self._serving, request, self._scope))
        peer = self._routes.elsewhere(sequences)
        if peer is None:
            return self._begun.get(sequences[0]) if sequences else None
        if len(sequences) > 1:
            self._begun[sequences[0]] = peer
        return peer

    def _pass_on(
        self,
        peer: Peer,
        request: pb.ModelInferRequest,
        slot: Slot[pb.ModelStreamInferResponse],
    ) -> None:
        def receive(answer: pb.ModelStreamInferResponse | RequestError) -> None:
            if isinstance(answer, RequestError):
                self._here.refuse(request, slot, answer)
            else:
                slot.fill(answer)

        upstream = self._upstreams.get(peer)
        if upstream is None or upstream.broken:
            method = partial(peer.inference.ModelStreamInfer, metadata=self._headers)
            upstream = self._upstreams[peer] = Upstream(self._routes, peer, method)
        upstream.send(request, receive)


def sequences_in(
    serving: Serving, request: pb.ModelInferRequest, scope: str
) -> Iterable[SequenceId]:
    """The sequence that the request belongs to, and those that it may mean to begin with."""
    try:
        sequence = sequence_of(request.parameters, scope)
        if sequence.id:
            for model in serving.catalogue.homes(request.model_name, request.model_version):
                yield sequence.key(model)
        if sequence.states_of:
            yield from sources_of(serving, sequence)
    except RequestError:
        return

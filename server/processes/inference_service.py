"""Open Inference over all processes: what is not found here is looked for elsewhere."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from server.processes.inference_stream import MISSED, RoutedInferenceStream, sequences_in
from server.processes.merged import merged_statistics
from server.rpc.inference_service import InferenceService
from server.rpc.methods import later
from server.rpc.replies import Replies

if TYPE_CHECKING:
    from server.processes.routes import Routes
    from server.rpc.methods import Cancel, Respond
    from server.serving import Serving
    from server.stubs.inference import grpc_service_pb2 as pb


class RoutedInferenceService(InferenceService):
    def __init__(self, serving: Serving, max_open_per_stream: int, routes: Routes) -> None:
        super().__init__(serving, max_open_per_stream)
        self._routes = routes

    @later
    def ModelInfer(self, request: pb.ModelInferRequest, respond: Respond) -> Cancel:
        """Here, or where its sequence is."""
        try:
            cancel: Cancel = InferenceService.ModelInfer.begin(self, request, respond)
        except MISSED:
            peer = self._routes.elsewhere(sequences_in(self._serving, request))
            if peer is None:
                raise
            return self._routes.pass_on(peer, peer.inference.ModelInfer, request, respond)
        return cancel

    @later
    def ModelStatistics(self, request: pb.ModelStatisticsRequest, respond: Respond) -> Cancel:
        """Of all processes together."""
        answers: list[pb.ModelStatisticsResponse] = []
        InferenceService.ModelStatistics.begin(self, request, answers.append)
        others = [peer.inference.ModelStatistics for peer in self._routes.peers.values()]
        ask = partial(self._routes.ask, others, request)
        return self._routes.in_task(merged_statistics(answers, ask), respond)

    async def ModelStreamInfer(  # type: ignore[override]  # grpc.aio also takes this form
        self, request_iterator: Any, context: Any
    ) -> None:
        stream = RoutedInferenceStream(self._serving, self._routes)
        replies: Replies[pb.ModelStreamInferResponse] = Replies(self._max_open, ordered=True)
        try:
            await replies.pump(context, stream.handle)
        finally:
            stream.cancel()

"""Open Inference over all processes: what is not found here is looked for elsewhere."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from server.processes.everywhere import everywhere
from server.processes.inference_stream import MISSED, RoutedInferenceStream, sequences_in
from server.processes.merged import merged_statistics
from server.processes.regions import register_with_others
from server.rpc.inference_service import GRPC_ERROR, InferenceService
from server.rpc.methods import for_caller
from server.rpc.places import vouch

if TYPE_CHECKING:
    from server.processes.routes import Routes
    from server.rpc.caller import Caller, Headers
    from server.rpc.methods import AnyStream, Cancel, Respond
    from server.serving import Serving
    from server.stubs.inference import grpc_service_pb2 as pb


class RoutedInferenceService(InferenceService):
    def __init__(
        self, serving: Serving, max_open_per_stream: int, routes: Routes, **more: Any
    ) -> None:
        super().__init__(serving, max_open_per_stream, **more)
        self.routes = routes

    RepositoryModelLoad = everywhere(InferenceService.RepositoryModelLoad)
    RepositoryModelUnload = everywhere(InferenceService.RepositoryModelUnload)
    SystemSharedMemoryUnregister = everywhere(InferenceService.SystemSharedMemoryUnregister)
    TraceSetting = everywhere(InferenceService.TraceSetting)
    LogSettings = everywhere(InferenceService.LogSettings)

    @for_caller
    def ModelInfer(self, request: pb.ModelInferRequest, respond: Respond, caller: Caller) -> Cancel:
        """Here, or where its sequence is."""
        try:
            cancel: Cancel = InferenceService.ModelInfer.begin(self, request, respond, caller)
        except MISSED:
            peer = self.routes.elsewhere(sequences_in(self._serving, request, self._scope(caller)))
            if peer is None:
                raise
            vouch(request, partial(self._regions, caller))
            infer = partial(peer.inference.ModelInfer, metadata=self._passed_on(caller))
            return self.routes.pass_on(peer, infer, request, respond)
        return cancel

    @for_caller
    def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, respond: Respond, caller: Caller
    ) -> Cancel:
        """Of all processes together."""
        answers: list[pb.ModelStatisticsResponse] = []
        InferenceService.ModelStatistics.begin(self, request, answers.append, caller)
        others = [peer.inference.ModelStatistics for peer in self.routes.peers.values()]
        ask = partial(self.routes.ask, others, request)
        return self.routes.in_task(merged_statistics(answers, ask), respond)

    @for_caller
    def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, respond: Respond, caller: Caller
    ) -> Cancel:
        """In all processes, or in none."""
        regions = self._regions(caller)
        regions.register(request.name, request.key, request.offset, request.byte_size)
        return self.routes.in_task(register_with_others(self.routes, regions, request), respond)

    def stream(self, caller: Caller) -> AnyStream:
        return RoutedInferenceStream(
            self._serving,
            self.routes,
            self._stream(caller),
            self._scope(caller),
            self._passed_on(caller),
        )

    def _passed_on(self, caller: Caller) -> Headers:
        """What other processes must be told of the caller."""
        names = (self._caller_header, GRPC_ERROR)
        return [(name, value) for name in names if name and (value := caller.header(name))]

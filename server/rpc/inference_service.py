"""The Open Inference protocol's GRPCInferenceService: decode, one call to the core, encode."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from server.errors import ModelNotFound, ModelNotReady
from server.rpc.caller import of_context
from server.rpc.calls import begin
from server.rpc.inference import Inference, InferenceStream
from server.rpc.methods import at_once, for_caller, methods_of, nothing_to_cancel
from server.rpc.replies import Replies
from server.rpc.repository_methods import RepositoryMethods
from server.rpc.sequences import scope_of
from server.rpc.settings_methods import SettingsMethods
from server.rpc.shared_memory_methods import SharedMemoryMethods
from server.rpc.statistics_messages import model_statistics
from server.stubs.inference import grpc_service_pb2 as pb
from server.stubs.inference import grpc_service_pb2_grpc

if TYPE_CHECKING:
    from server.control import ModelControl
    from server.core.requests import Result
    from server.repository.spec import StateSpec, TensorSpec
    from server.rpc.caller import Caller
    from server.rpc.methods import AnyStream, Cancel, Method, Respond
    from server.serving import ServedModel, Serving
    from server.shared_memory import Policy

SERVER_NAME = "rnnserve"
EXTENSIONS = (
    "sequence",
    "statistics",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "parameters",
    "trace",
    "logging",
    "classification",
)
SHARED_MEMORY = "system_shared_memory"
GRPC_ERROR = "triton_grpc_error"  # a stream with this header "true" ends at its first error
PLATFORM = "onnxruntime_onnx"


class InferenceService(
    RepositoryMethods,
    SharedMemoryMethods,
    SettingsMethods,
    grpc_service_pb2_grpc.GRPCInferenceServiceServicer,
):
    """`caller_header`: the header by which callers may have sequence ids of their own; "": none.
    `shared_memory`: which callers may use it.
    """

    def __init__(
        self,
        serving: Serving,
        max_open_per_stream: int,
        *,
        control: ModelControl,
        caller_header: str = "",
        shared_memory: Policy = "local",
    ) -> None:
        self._serving = serving
        self._control = control
        self._shared_memory = shared_memory
        self._max_open = max_open_per_stream
        self._caller_header = caller_header

    def unary(self) -> list[Method]:
        """Its unary methods, for transports of other kinds."""
        return methods_of(self, pb.DESCRIPTOR.services_by_name["GRPCInferenceService"], pb)

    @at_once
    def ServerLive(self, request: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    @at_once
    def ServerReady(self, request: Any) -> Any:
        return pb.ServerReadyResponse(ready=not self._serving.draining)

    @at_once
    def ServerMetadata(self, request: Any) -> Any:
        offered = EXTENSIONS if self._shared_memory == "off" else (*EXTENSIONS, SHARED_MEMORY)
        return pb.ServerMetadataResponse(
            name=SERVER_NAME, version=version(SERVER_NAME), extensions=offered
        )

    @at_once
    def ModelReady(self, request: pb.ModelReadyRequest) -> Any:
        try:
            self._serving.model(request.name, request.version)
        except (ModelNotFound, ModelNotReady):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self._serving.draining)

    @at_once
    def ModelMetadata(self, request: pb.ModelMetadataRequest) -> Any:
        model = self._serving.model(request.name, request.version)
        spec = model.spec
        return pb.ModelMetadataResponse(
            name=spec.name,
            versions=[str(version) for version in self._serving.catalogue.versions(spec.name)],
            platform=PLATFORM,
            inputs=[
                *(_metadata(tensor) for tensor in spec.inputs),
                *(_constant_metadata(model, constant) for constant in spec.constants),
            ],
            outputs=[_metadata(tensor) for tensor in spec.outputs],
        )

    @at_once
    def ModelConfig(self, request: pb.ModelConfigRequest) -> Any:
        model = self._serving.model(request.name, request.version)
        return pb.ModelConfigResponse(config=model.spec.config)

    @at_once
    def ModelStatistics(self, request: pb.ModelStatisticsRequest) -> Any:
        if request.name and not request.version:
            self._serving.catalogue.versions(request.name)
        models = (
            [self._serving.model(request.name, request.version)]
            if request.name and request.version
            else [m for m in self._serving.models() if request.name in ("", m.spec.name)]
        )
        return pb.ModelStatisticsResponse(model_stats=[model_statistics(m) for m in models])

    @for_caller
    def ModelInfer(self, request: pb.ModelInferRequest, respond: Respond, caller: Caller) -> Cancel:
        regions = partial(self._regions, caller)
        inference = Inference(self._serving, request, self._scope(caller), regions)

        def answer(result: Result) -> None:
            try:
                said: Any = inference.encode(result)
            except Exception as error:
                said = error
            respond(said)

        if (known := inference.known) is not None:
            answer(known)
            return nothing_to_cancel
        return begin(inference.session(), inference.step, answer, inference.source)

    async def ModelStreamInfer(  # type: ignore[override]  # grpc.aio also takes this form
        self, request_iterator: Any, context: Any
    ) -> None:
        stream = self.stream(of_context(context))
        replies: Replies[pb.ModelStreamInferResponse] = Replies(self._max_open, ordered=True)
        try:
            await replies.pump(context, stream.handle)
        finally:
            stream.cancel()

    def stream(self, caller: Caller) -> AnyStream:
        """What handles one stream."""
        return self._stream(caller)

    def _stream(self, caller: Caller) -> InferenceStream:
        ends_at_error = caller.header(GRPC_ERROR).lower() == "true"
        regions = partial(self._regions, caller)
        return InferenceStream(
            self._serving, self._scope(caller), regions, ends_at_error=ends_at_error
        )

    def _scope(self, caller: Caller) -> str:
        """Whose sequence ids the caller's are."""
        return scope_of(caller.header(self._caller_header)) if self._caller_header else ""


def _constant_metadata(
    model: ServedModel, constant: StateSpec
) -> pb.ModelMetadataResponse.TensorMetadata:
    shape = (-1, *constant.shape) if model.batched else constant.shape
    return pb.ModelMetadataResponse.TensorMetadata(
        name=constant.name, datatype=constant.datatype, shape=shape
    )


def _metadata(tensor: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
    )

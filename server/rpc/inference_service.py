"""The Open Inference protocol's GRPCInferenceService: decode, one call to the core, encode."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from server.errors import ModelNotFound, Unsupported
from server.rpc.calls import begin
from server.rpc.inference import Inference, InferenceStream
from server.rpc.methods import at_once, later, methods_of, nothing_to_cancel
from server.rpc.replies import Replies
from server.rpc.statistics_messages import model_statistics
from server.stubs.inference import grpc_service_pb2 as pb
from server.stubs.inference import grpc_service_pb2_grpc

if TYPE_CHECKING:
    from server.core.requests import Result
    from server.repository.spec import StateSpec, TensorSpec
    from server.rpc.methods import Cancel, Method, Respond
    from server.serving import ServedModel, Serving

SERVER_NAME = "rnnserve"
EXTENSIONS = ("sequence", "statistics", "model_configuration")
PLATFORM = "onnxruntime_onnx"


def _not_offered(method: str) -> Any:
    @at_once
    def answer(service: InferenceService, request: Any) -> Any:
        raise Unsupported(f"{method} is not offered by this server")

    return answer


class InferenceService(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, serving: Serving, max_open_per_stream: int) -> None:
        self._serving = serving
        self._max_open = max_open_per_stream

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
        return pb.ServerMetadataResponse(
            name=SERVER_NAME, version=version(SERVER_NAME), extensions=EXTENSIONS
        )

    @at_once
    def ModelReady(self, request: pb.ModelReadyRequest) -> Any:
        try:
            self._serving.model(request.name, request.version)
        except ModelNotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self._serving.draining)

    @at_once
    def ModelMetadata(self, request: pb.ModelMetadataRequest) -> Any:
        model = self._serving.model(request.name, request.version)
        spec = model.spec
        return pb.ModelMetadataResponse(
            name=spec.name,
            versions=[str(version) for version in self._serving.versions(spec.name)],
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
            self._serving.versions(request.name)
        models = (
            [self._serving.model(request.name, request.version)]
            if request.name and request.version
            else [m for m in self._serving.models() if request.name in ("", m.spec.name)]
        )
        return pb.ModelStatisticsResponse(model_stats=[model_statistics(m) for m in models])

    @later
    def ModelInfer(self, request: pb.ModelInferRequest, respond: Respond) -> Cancel:
        inference = Inference(self._serving, request)

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
        stream = InferenceStream(self._serving)
        replies: Replies[pb.ModelStreamInferResponse] = Replies(self._max_open, ordered=True)
        try:
            await replies.pump(context, stream.handle)
        finally:
            stream.outstanding.cancel()

    RepositoryIndex = _not_offered("RepositoryIndex")
    RepositoryModelLoad = _not_offered("RepositoryModelLoad")
    RepositoryModelUnload = _not_offered("RepositoryModelUnload")
    SystemSharedMemoryStatus = _not_offered("SystemSharedMemoryStatus")
    SystemSharedMemoryRegister = _not_offered("SystemSharedMemoryRegister")
    SystemSharedMemoryUnregister = _not_offered("SystemSharedMemoryUnregister")
    CudaSharedMemoryStatus = _not_offered("CudaSharedMemoryStatus")
    CudaSharedMemoryRegister = _not_offered("CudaSharedMemoryRegister")
    CudaSharedMemoryUnregister = _not_offered("CudaSharedMemoryUnregister")
    TraceSetting = _not_offered("TraceSetting")
    LogSettings = _not_offered("LogSettings")


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

"""The Open Inference protocol's GRPCInferenceService: decode, one call to the core, encode."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from server.core.requests import Step, Stepped
from server.errors import ModelNotFound, RequestError, Unsupported
from server.rpc import inference_codec, sequences
from server.rpc.calls import Outstanding, ask
from server.rpc.replies import Replies, Slot
from server.rpc.statistics_messages import model_statistics
from server.rpc.status import abort, answers_errors, expected
from server.stubs.inference import grpc_service_pb2 as pb
from server.stubs.inference import grpc_service_pb2_grpc

if TYPE_CHECKING:
    from server.core.session import Session
    from server.repository.spec import StateSpec, TensorSpec
    from server.serving import ServedModel, Serving

SERVER_NAME = "rnnserve"
EXTENSIONS = ("sequence", "statistics", "model_configuration")
PLATFORM = "onnxruntime_onnx"


def _not_offered(method: str) -> Any:
    async def answer(service: InferenceService, request: Any, context: Any) -> None:
        await abort(context, Unsupported(f"{method} is not offered by this server"))

    return answer


class InferenceService(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, serving: Serving, max_open_per_stream: int) -> None:
        self._serving = serving
        self._max_open = max_open_per_stream

    @answers_errors
    async def ServerLive(self, request: Any, context: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    @answers_errors
    async def ServerReady(self, request: Any, context: Any) -> Any:
        return pb.ServerReadyResponse(ready=not self._serving.draining)

    @answers_errors
    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        return pb.ServerMetadataResponse(
            name=SERVER_NAME, version=version(SERVER_NAME), extensions=EXTENSIONS
        )

    @answers_errors
    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> Any:
        try:
            self._serving.model(request.name, request.version)
        except ModelNotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self._serving.draining)

    @answers_errors
    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Any) -> Any:
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

    @answers_errors
    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Any) -> Any:
        model = self._serving.model(request.name, request.version)
        return pb.ModelConfigResponse(config=model.spec.config)

    @answers_errors
    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Any) -> Any:
        if request.name and not request.version:
            self._serving.versions(request.name)
        models = (
            [self._serving.model(request.name, request.version)]
            if request.name and request.version
            else [m for m in self._serving.models() if request.name in ("", m.spec.name)]
        )
        return pb.ModelStatisticsResponse(model_stats=[model_statistics(m) for m in models])

    @answers_errors
    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> Any:
        inference = Inference(self._serving, request)
        session = inference.session()
        return inference.encode(await ask(session, inference.step, Stepped, inference.source))

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


class Inference:
    """One ModelInferRequest, decoded and checked. Raises RequestError."""

    def __init__(self, serving: Serving, request: pb.ModelInferRequest) -> None:
        self._serving = serving
        self._id = request.id
        self._model = serving.model(request.model_name, request.model_version)
        self._sequence = sequences.sequence_of(self._model, request.parameters)
        self._wanted = inference_codec.wanted_outputs(self._model, request)
        self._found = sequences.find_session(serving, self._model, self._sequence)
        goes_on = None if self._sequence.start else self._found
        inputs, self._constants = inference_codec.decode_inputs(
            self._model, request, goes_on.batch_size if goes_on else None
        )
        self._batch_size = inputs.batch_size
        self.source = sequences.source_of(
            serving, self._model, self._sequence, inputs.batch_size or 1
        )
        if self.source and not self._constants:
            self._constants = self.source.constants or {}
        if self._model.constants:
            names = [tensor.name for tensor in request.inputs]
            sequences.check_constants(self._model, self._sequence, goes_on, self._constants, names)
        self.step = Step(
            inputs=inputs.arrays,
            timesteps=inputs.timesteps,
            shapes=inputs.shapes,
            start=self._sequence.start,
            end=self._sequence.end,
        )

    def session(self) -> Session:
        """The session to submit the step to, opened if the step is its first."""
        session = sequences.session_of(
            self._serving, self._model, self._sequence, self._batch_size, self._found
        )
        if self._sequence.start and self._constants:
            session.constants = self._constants
        return session

    def encode(self, stepped: Stepped) -> pb.ModelInferResponse:
        return inference_codec.encode(self._model, self._id, self._wanted, stepped.outputs)


class InferenceStream:
    """The inferences of one stream."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.outstanding = Outstanding()

    def handle(
        self, request: pb.ModelInferRequest, slot: Slot[pb.ModelStreamInferResponse]
    ) -> None:
        """Begin one inference; its answer, or error, goes to `slot`."""
        try:
            inference = Inference(self._serving, request)
            self.outstanding.submit(
                inference.session(),
                inference.step,
                lambda result: slot.fill(_answer(request.id, inference, result)),
                inference.source,
            )
        except Exception as error:
            slot.fill(_failed(request.id, error))


def _answer(request_id: str, inference: Inference, result: Any) -> pb.ModelStreamInferResponse:
    try:
        if isinstance(result, RequestError):
            return _failed(request_id, result)
        return pb.ModelStreamInferResponse(infer_response=inference.encode(result))
    except Exception as error:
        return _failed(request_id, error)


def _failed(request_id: str, error: Exception) -> pb.ModelStreamInferResponse:
    return pb.ModelStreamInferResponse(
        error_message=str(expected(error)), infer_response=pb.ModelInferResponse(id=request_id)
    )


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

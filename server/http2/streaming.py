"""The streams of both services, as this transport takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnnserve.v1 import session_pb2
from server.http2.methods import StreamMethod
from server.stubs.inference import grpc_service_pb2

if TYPE_CHECKING:
    from server.http2.methods import Handle
    from server.rpc.inference_service import InferenceService
    from server.rpc.methods import Cancel
    from server.rpc.session_service import SessionService

SESSIONS = session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name
INFERENCE = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


def stream_methods(
    sessions: SessionService, inference: InferenceService, max_open: int
) -> list[StreamMethod]:
    return [
        StreamMethod(
            f"/{SESSIONS}/Stream",
            session_pb2.StreamRequest,
            lambda caller: _started(sessions.stream(caller)),
            max_open,
            ordered=False,
        ),
        StreamMethod(
            f"/{INFERENCE}/ModelStreamInfer",
            grpc_service_pb2.ModelInferRequest,
            lambda caller: _started(inference.stream(caller)),
            max_open,
            ordered=True,
        ),
    ]


def _started(stream: Any) -> tuple[Handle, Cancel]:
    return stream.handle, stream.cancel

"""The streams of both services, as this transport takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnnserve.v1 import session_pb2
from server.http2.methods import StreamMethod
from server.stubs.inference import grpc_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.http2.methods import Handle
    from server.rpc.methods import Cancel

SESSIONS = session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name
INFERENCE = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


def stream_methods(
    session_stream: Callable[[], Any], inference_stream: Callable[[], Any], max_open: int
) -> list[StreamMethod]:
    """`session_stream` makes a SessionStream, `inference_stream` an InferenceStream, or what is
    like one.
    """
    return [
        StreamMethod(
            f"/{SESSIONS}/Stream",
            session_pb2.StreamRequest,
            lambda: _started(session_stream()),
            max_open,
            ordered=False,
        ),
        StreamMethod(
            f"/{INFERENCE}/ModelStreamInfer",
            grpc_service_pb2.ModelInferRequest,
            lambda: _started(inference_stream()),
            max_open,
            ordered=True,
        ),
    ]


def _started(stream: Any) -> tuple[Handle, Cancel]:
    over = stream if hasattr(stream, "cancel") else stream.outstanding
    return stream.handle, over.cancel

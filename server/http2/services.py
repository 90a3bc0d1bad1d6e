"""Health and reflection: the servicers that grpc's packages bring, over this transport."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from server.http2.methods import StreamMethod, TaskMethod
from server.rpc.methods import nothing_to_cancel

if TYPE_CHECKING:
    from collections.abc import Iterable

HEALTH = f"/{health.SERVICE_NAME}/"
REFLECTION = f"/{reflection.SERVICE_NAME}/"


def health_methods(status: health.aio.HealthServicer) -> list[TaskMethod]:
    return [
        TaskMethod(HEALTH + "Check", health_pb2.HealthCheckRequest, status.Check),
        TaskMethod(HEALTH + "Watch", health_pb2.HealthCheckRequest, status.Watch),
    ]


def reflection_method(services: Iterable[str]) -> StreamMethod:
    """For `services`, by their full names, and for itself."""
    reflected = reflection.ReflectionServicer([*services, reflection.SERVICE_NAME])
    handle = partial(_reflect, reflected)
    return StreamMethod(
        REFLECTION + "ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest,
        lambda caller: (handle, nothing_to_cancel),
        max_open=1,
        ordered=True,
    )


def _reflect(reflected: Any, request: Any, slot: Any) -> None:
    """It answers each request by itself."""
    for answer in reflected.ServerReflectionInfo(iter([request]), None):
        slot.fill(answer)

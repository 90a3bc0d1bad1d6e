"""What takes clients' calls: the transport that the configuration names, all services over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rnnserve.v1 import session_pb2
from server.rpc.registration import add_to_server
from server.stubs.inference import grpc_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.config import ServerConfig
    from server.http2.server import Http2Server
    from server.native import NativeServer
    from server.rpc.inference_service import InferenceService
    from server.rpc.session_service import SessionService

log = structlog.get_logger()

DESCRIPTORS = (
    session_pb2.DESCRIPTOR.services_by_name["SessionService"],
    grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
)
SERVICES = tuple(descriptor.full_name for descriptor in DESCRIPTORS)
EXTRAS = {"auto": "server", "http2": "server", "native": "server,fast"}  # that bring it


class Transport(NamedTuple):
    """`server` listens for clients; `add` makes the services' methods known to it."""

    name: str
    server: grpc.aio.Server | NativeServer | Http2Server
    add: Callable[[SessionService, InferenceService, health.aio.HealthServicer], None]

    async def add_services(
        self, sessions: SessionService, inference: InferenceService
    ) -> health.aio.HealthServicer:
        """Both protocols, health and reflection."""
        status = health.aio.HealthServicer()
        for name in ("", *SERVICES):
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.add(sessions, inference, status)
        return status


def chosen(config: ServerConfig, *, shares_port: bool) -> Transport:
    """The one that is wanted, or grpcio where it is not installed. `shares_port`: other processes
    listen on it, too.
    """
    try:
        if config.transport in ("auto", "http2"):
            return _http2(config, shares_port)
        if config.transport == "native":
            return _native(config, shares_port)
    except ModuleNotFoundError as missing:
        _not_installed(config, missing)
    return _grpcio(config, shares_port)


def _not_installed(config: ServerConfig, missing: ModuleNotFoundError) -> None:
    say = log.info if config.transport == "auto" else log.warning
    say(
        f"transport {config.transport.replace('auto', 'http2')} is not installed; grpcio takes its "
        "place",
        missing=missing.name,
        install=f"pip install 'rnnserve[{EXTRAS[config.transport]}]'",
    )


def _http2(config: ServerConfig, shares_port: bool) -> Transport:
    from server.http2.server import Http2Server
    from server.http2.services import health_methods, reflection_method
    from server.http2.streaming import stream_methods

    server = Http2Server(config.limits.max_message_bytes, shares_port=shares_port)
    max_open = config.limits.max_pending_per_session

    def add(
        sessions: SessionService, inference: InferenceService, status: health.aio.HealthServicer
    ) -> None:
        server.add_methods([*sessions.unary(), *inference.unary()])
        server.add_streams(stream_methods(sessions, inference, max_open))
        server.add_tasks(health_methods(status))
        server.add_streams([reflection_method((*SERVICES, health.SERVICE_NAME))])

    return Transport("http2", server, add)


def _native(config: ServerConfig, shares_port: bool) -> Transport:
    """Unary calls by a front, the others by grpcio behind it."""
    from server.native import NativeServer

    behind = _grpcio(config, shares_port)
    assert isinstance(behind.server, grpc.aio.Server)
    size = config.limits.max_message_bytes
    front = NativeServer(behind.server, size, shares_port=shares_port)

    def add(
        sessions: SessionService, inference: InferenceService, status: health.aio.HealthServicer
    ) -> None:
        behind.add(sessions, inference, status)
        front.add_methods([*sessions.unary(), *inference.unary()])

    return Transport("native", front, add)


def _grpcio(config: ServerConfig, shares_port: bool) -> Transport:
    size = config.limits.max_message_bytes
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
            # a port in use is an error, not a second server, unless that one is ours
            ("grpc.so_reuseport", int(shares_port)),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
    )

    def add(
        sessions: SessionService, inference: InferenceService, status: health.aio.HealthServicer
    ) -> None:
        for service, descriptor in zip((sessions, inference), DESCRIPTORS, strict=True):
            add_to_server(service, descriptor, server)
        health_pb2_grpc.add_HealthServicer_to_server(status, server)
        reflection.enable_server_reflection(
            (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )

    return Transport("grpcio", server, add)

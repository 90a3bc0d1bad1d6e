"""Puts the server together, starts it, and takes it down. The only file that knows all others."""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import TYPE_CHECKING

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from rnnserve.v1 import session_pb2
from server.control import ModelControl
from server.errors import StartupError
from server.http import HttpServer
from server.metrics import ServingCollector
from server.rpc.inference_service import InferenceService
from server.rpc.registration import add_to_server
from server.rpc.session_service import SessionService
from server.serving import Serving
from server.stubs.inference import grpc_service_pb2

if TYPE_CHECKING:
    from server.config import ServerConfig
    from server.http2.server import Http2Server
    from server.native import NativeServer
    from server.processes.member import Member

log = structlog.get_logger()

DESCRIPTORS = (
    session_pb2.DESCRIPTOR.services_by_name["SessionService"],
    grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
)
SERVICES = tuple(descriptor.full_name for descriptor in DESCRIPTORS)
EXPIRY_INTERVAL_S = 0.2
EXPIRING_AT_ONCE = 1000  # sessions, before others get their turn
STOP_GRACE_S = 1.0  # for streams to write their last answers and be closed


async def serve(config: ServerConfig, member: Member | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain, alone or as a member of several processes. Raises
    StartupError.
    """
    stop = _stop_signals()
    serving = member.serving if member else Serving(config.limits.max_sessions)
    shares_port = member is not None
    http2 = _http2_server(config, shares_port=shares_port)
    behind = _grpc_server(config, shares_port=shares_port)
    front = _native_front(behind, config, shares_port=shares_port)
    server = http2 or front or behind
    grpc_port = 0 if member else _listen(server, config)
    pages = _registry(serving), lambda: is_ready(serving)
    http = None if member else HttpServer(config.host, config.http_port, *pages)
    try:
        control = ModelControl(config, serving)
        await control.start(await member.models_elsewhere() if member else ())
        services = member.services(control) if member else _services(serving, config, control)
        if http2 is not None:
            status = await _add_to_http2(http2, config, *services)
        else:
            status = await _add_services(behind, front, *services)
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it again
        if member:
            await member.join(*pages)
            _listen(server, config)  # clients that come before it can answer would have to wait
        await server.start()
        serving.started = True
        if member:
            member.announce()
        if http:
            address = f"{config.host}:{http.port}"
            log.info("serving", grpc=f"{config.host}:{grpc_port}", http=address)
        expiry = asyncio.create_task(_expire(serving))
        await stop.wait()
        finished = await _drain(serving, status, stop, config.drain_limit_s)
        expiry.cancel()
        await control.stop()
        grace_s = STOP_GRACE_S if finished else None
        await server.stop(grace_s)
        if member:
            await member.leave(grace_s)
        log.info("stopped", sessions_left=len(serving.sessions))
    finally:
        serving.stop()
        if http:
            http.stop()


def is_ready(serving: Serving) -> bool:
    return serving.started and not serving.draining


def _grpc_server(config: ServerConfig, *, shares_port: bool) -> grpc.aio.Server:
    size = config.limits.max_message_bytes
    return grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
            # a port in use is an error, not a second server, unless that one is ours
            ("grpc.so_reuseport", int(shares_port)),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
    )


def _native_front(
    behind: grpc.aio.Server, config: ServerConfig, *, shares_port: bool
) -> NativeServer | None:
    """What takes unary calls instead of the server behind it, if that is wanted and possible."""
    if config.transport != "native":
        return None
    try:
        from server.native import NativeServer
    except ModuleNotFoundError as missing:
        _not_installed(config, missing)
        return None
    return NativeServer(behind, config.limits.max_message_bytes, shares_port=shares_port)


def _http2_server(config: ServerConfig, *, shares_port: bool) -> Http2Server | None:
    """What takes all calls instead of grpcio, if that is wanted and possible."""
    if config.transport != "http2":
        return None
    try:
        from server.http2.server import Http2Server
    except ModuleNotFoundError as missing:
        _not_installed(config, missing)
        return None
    return Http2Server(config.limits.max_message_bytes, shares_port=shares_port)


def _not_installed(config: ServerConfig, missing: ModuleNotFoundError) -> None:
    log.warning(
        f"transport {config.transport} is not installed; grpcio takes its place",
        missing=missing.name,
        install="pip install 'rnnserve[server,fast]'",
    )


def _listen(server: grpc.aio.Server | NativeServer | Http2Server, config: ServerConfig) -> int:
    address = f"{config.host}:{config.grpc_port}"
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        raise StartupError(
            f"cannot listen on {address} for gRPC: the port is in use or the address is not this "
            "machine's; choose others with --grpc-port and --host"
        )
    return port


def _registry(serving: Serving) -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(ServingCollector(serving))
    return registry


def _services(
    serving: Serving, config: ServerConfig, control: ModelControl
) -> tuple[SessionService, InferenceService]:
    max_open = config.limits.max_pending_per_session
    inference = InferenceService(
        serving,
        max_open,
        control=control,
        caller_header=config.caller_header,
        shared_memory=config.shared_memory,
    )
    return SessionService(serving, max_open), inference


async def _add_services(
    server: grpc.aio.Server,
    front: NativeServer | None,
    sessions: SessionService,
    inference: InferenceService,
) -> health.aio.HealthServicer:
    """Both protocols, health and reflection."""
    for service, descriptor in zip((sessions, inference), DESCRIPTORS, strict=True):
        add_to_server(service, descriptor, server)
    if front is not None:
        front.add_methods([*sessions.unary(), *inference.unary()])
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    for name in ("", *SERVICES):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    return status


async def _add_to_http2(
    server: Http2Server,
    config: ServerConfig,
    sessions: SessionService,
    inference: InferenceService,
) -> health.aio.HealthServicer:
    """The same, without a servicer between a call and its method."""
    from server.http2.services import health_methods, reflection_method
    from server.http2.streaming import stream_methods

    server.add_methods([*sessions.unary(), *inference.unary()])
    max_open = config.limits.max_pending_per_session
    server.add_streams(stream_methods(sessions, inference, max_open))
    status = health.aio.HealthServicer()
    for name in ("", *SERVICES):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    server.add_tasks(health_methods(status))
    server.add_streams([reflection_method((*SERVICES, health.SERVICE_NAME))])
    return status


async def _expire(serving: Serving) -> None:
    expired = 0
    while True:
        await asyncio.sleep(0 if expired == EXPIRING_AT_ONCE else EXPIRY_INTERVAL_S)
        try:
            expired = serving.expire(EXPIRING_AT_ONCE)
        except Exception:  # the next sessions expire all the same
            log.exception("could not expire sessions")
            expired = 0
        if expired:
            log.info("sessions expired", count=expired, left=len(serving.sessions))


async def _drain(
    serving: Serving, status: health.aio.HealthServicer, stop: asyncio.Event, limit_s: float
) -> bool:
    """Refuse new sessions, and let those that are open go on until they are closed, the limit has
    passed or a second signal comes. Whether all were closed and every request has its answer.
    """
    stop.clear()
    serving.draining = True
    await status.enter_graceful_shutdown()
    if len(serving.sessions):
        log.info("draining; a second signal ends it", sessions=len(serving.sessions), s=limit_s)
    finished = asyncio.ensure_future(_finished(serving))
    second_signal = asyncio.ensure_future(stop.wait())
    done, pending = await asyncio.wait(
        (finished, second_signal), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
    )
    for waiter in pending:
        waiter.cancel()
    return finished in done


async def _finished(serving: Serving) -> None:
    await serving.empty.wait()
    await serving.idle()


def _stop_signals() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    return stop

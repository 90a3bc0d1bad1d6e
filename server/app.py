"""Puts the server together, starts it, and takes it down. The only file that knows all others."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from typing import TYPE_CHECKING

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from rnnserve.v1 import session_pb2, session_pb2_grpc
from server.engine.engine import Engine
from server.errors import StartupError
from server.http import HttpServer
from server.metrics import ServingCollector
from server.repository.load import load
from server.repository.scan import scan
from server.rpc.inference_service import InferenceService
from server.rpc.session_service import SessionService
from server.serving import ServedModel, Serving, limits_of
from server.stubs.inference import grpc_service_pb2, grpc_service_pb2_grpc

if TYPE_CHECKING:
    from server.config import ServerConfig
    from server.repository.spec import ModelSpec

log = structlog.get_logger()

SERVICES = (
    session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
)
EXPIRY_INTERVAL_S = 0.5
STOP_GRACE_S = 1.0  # for streams to write their last answers and be closed


async def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises StartupError."""
    stop = _stop_signals()
    serving = Serving(config.limits.max_sessions)
    server = _grpc_server(config)
    grpc_port = _listen(server, config)
    http = HttpServer(config.host, config.http_port, _registry(serving), lambda: is_ready(serving))
    try:
        for spec in _specs(config):
            serving.add(_served(spec, config, serving))
        status = await _add_services(server, serving, config)
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it again
        await server.start()
        log.info("serving", grpc=f"{config.host}:{grpc_port}", http=f"{config.host}:{http.port}")
        serving.started = True
        expiry = asyncio.create_task(_expire(serving))
        await stop.wait()
        finished = await _drain(serving, status, stop, config.drain_limit_s)
        expiry.cancel()
        await server.stop(grace=STOP_GRACE_S if finished else None)
        log.info("stopped", sessions_left=len(serving.sessions))
    finally:
        serving.stop()
        http.stop()


def is_ready(serving: Serving) -> bool:
    return serving.started and not serving.draining


def _specs(config: ServerConfig) -> list[ModelSpec]:
    return [spec for directory in scan(config.repository) for spec in load(directory)]


def _served(spec: ModelSpec, config: ServerConfig, serving: Serving) -> ServedModel:
    """Load one model. Raises StartupError."""
    started_s = time.monotonic()
    limits = limits_of(spec, config.limits)
    engine = Engine(
        spec,
        provider=config.provider,
        rows=limits.arena_rows,
        intra_op_threads=config.intra_op_threads,
    )
    log.info(
        "model ready",
        model=spec.name,
        version=spec.version,
        device=engine.device,
        states=len(spec.states),
        bytes_per_session=spec.state_nbytes,
        seconds=round(time.monotonic() - started_s, 2),
    )
    own_thread = {"auto": None, "own": True, "shared": False}[config.engine_thread]
    return ServedModel(spec, engine, limits, serving.closed, own_thread=own_thread)


def _grpc_server(config: ServerConfig) -> grpc.aio.Server:
    size = config.limits.max_message_bytes
    return grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
            ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
    )


def _listen(server: grpc.aio.Server, config: ServerConfig) -> int:
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


async def _add_services(
    server: grpc.aio.Server, serving: Serving, config: ServerConfig
) -> health.aio.HealthServicer:
    """Both protocols, health and reflection."""
    max_open = config.limits.max_pending_per_session
    session_pb2_grpc.add_SessionServiceServicer_to_server(SessionService(serving, max_open), server)
    grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        InferenceService(serving, max_open), server
    )
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    for name in ("", *SERVICES):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    return status


async def _expire(serving: Serving) -> None:
    while True:
        await asyncio.sleep(EXPIRY_INTERVAL_S)
        try:
            expired = serving.expire()
        except Exception:  # the next sessions expire all the same
            log.exception("could not expire sessions")
            continue
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

"""Puts the server together, starts it, and takes it down. The only file that knows all others."""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from server import transports
from server.control import ModelControl
from server.errors import StartupError
from server.http import HttpServer
from server.metrics import ServingCollector
from server.rpc.inference_service import InferenceService
from server.rpc.session_service import SessionService
from server.serving import Serving

if TYPE_CHECKING:
    from grpc_health.v1 import health

    from server.config import ServerConfig
    from server.processes.member import Member
    from server.transports import Transport

log = structlog.get_logger()

EXPIRY_INTERVAL_S = 0.2
EXPIRING_AT_ONCE = 1000  # sessions, before others get their turn
STOP_GRACE_S = 1.0  # for streams to write their last answers and be closed


async def serve(config: ServerConfig, member: Member | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain, alone or as a member of several processes. Raises
    StartupError.
    """
    stop = _stop_signals()
    serving = member.serving if member else Serving(config.limits.max_sessions)
    transport = transports.chosen(config, shares_port=member is not None)
    server = transport.server
    grpc_port = 0 if member else _listen(transport, config)
    pages = _registry(serving), lambda: is_ready(serving)
    http = None if member else HttpServer(config.host, config.http_port, *pages)
    try:
        control = ModelControl(config, serving)
        await control.start(await member.models_elsewhere() if member else ())
        services = member.services(control) if member else _services(serving, config, control)
        status = await transport.add_services(*services)
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it again
        if member:
            await member.join(*pages)
            _listen(transport, config)  # clients that come before it can answer would have to wait
        await server.start()
        serving.started = True
        if member:
            member.announce()
        if http:
            address = f"{config.host}:{http.port}"
            log.info(
                "serving",
                grpc=f"{config.host}:{grpc_port}",
                http=address,
                transport=transport.name,
            )
        expiry = asyncio.create_task(_expire(serving))
        await stop.acquire()
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


def _listen(transport: Transport, config: ServerConfig) -> int:
    address = f"{config.host}:{config.grpc_port}"
    try:
        port = transport.server.add_insecure_port(address)
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
    serving: Serving, status: health.aio.HealthServicer, stop: asyncio.Semaphore, limit_s: float
) -> bool:
    """Refuse new sessions, and let those that are open go on until they are closed, the limit has
    passed or a second signal comes. Whether all were closed and every request has its answer.
    """
    serving.draining = True
    await status.enter_graceful_shutdown()
    if len(serving.sessions):
        log.info("draining; a second signal ends it", sessions=len(serving.sessions), s=limit_s)
    finished = asyncio.ensure_future(_finished(serving))
    second_signal = asyncio.ensure_future(stop.acquire())
    done, pending = await asyncio.wait(
        (finished, second_signal), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
    )
    for waiter in pending:
        waiter.cancel()
    return finished in done


async def _finished(serving: Serving) -> None:
    await serving.empty.wait()
    await serving.idle()


def _stop_signals() -> asyncio.Semaphore:
    """Counts SIGTERM and SIGINT: two that come at once are two."""
    stop = asyncio.Semaphore(0)
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.release)
    return stop

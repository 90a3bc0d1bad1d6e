"""The parent of several server processes: starts them, keeps them alive, and takes them down.

It serves no client: the processes share the port, which the parent only keeps, and the kernel deals
connections out to them. It answers for all of them over HTTP.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from server.errors import StartupError
from server.http import HttpServer
from server.processes.child import Child
from server.processes.claims import forget_claims, private_directory
from server.processes.letter import Letter
from server.processes.operators import MergedCollector, Workers
from server.processes.port import reserve

if TYPE_CHECKING:
    from server.config import ServerConfig

log = structlog.get_logger()

RESTART_PAUSES_S = 0.0, 1.0, 2.0, 5.0, 10.0, 30.0  # the last one from then on
KILL_AFTER_S = 10.0  # when they should have ended
STEADY_S = 60.0  # who has served so long begins with the first pause again


async def supervise(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT, then let all processes drain; a second signal ends them.
    Raises StartupError.
    """
    with (
        reserve(config.host, config.grpc_port) as port,
        private_directory() as name,
    ):
        directory, number = Path(name), port.getsockname()[1]
        config = config.model_copy(update={"grpc_port": number})
        workers = Workers(directory, config.processes)
        registry = CollectorRegistry()
        registry.register(MergedCollector(workers))
        http = HttpServer(config.host, config.http_port, registry, workers.is_ready)
        try:
            await Family(config, directory).live(
                grpc=f"{config.host}:{number}", http=f"{config.host}:{http.port}"
            )
        finally:
            http.stop()
            workers.close()


class Family:
    """The processes, which share `directory`."""

    def __init__(self, config: ServerConfig, directory: Path) -> None:
        self._directory = directory
        self._drain_limit_s = config.drain_limit_s
        count = config.processes
        self._children = [
            Child(Letter(number=number, count=count, directory=directory, config=config))
            for number in range(count)
        ]
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(signum, self._stop)

    async def live(self, **addresses: str) -> None:
        """Start all, tell where they serve, and keep them until they are to stop. Raises
        StartupError where one cannot start; then none is left.
        """
        try:
            if await self._start():
                log.info("serving", processes=len(self._children), **addresses)
                await asyncio.gather(*(self._keep(child) for child in self._children))
            log.info("stopped", processes=len(self._children))
        finally:
            await asyncio.gather(*(child.kill() for child in self._children))

    async def _start(self) -> bool:
        """Whether they serve, and are not to stop before they do. Raises StartupError."""
        starts = [asyncio.ensure_future(child.start()) for child in self._children]
        try:
            await asyncio.gather(*starts)
        except StartupError:
            if not self._stopping.is_set():
                raise
            return False
        finally:
            for start in starts:
                start.cancel()
        return True

    async def _keep(self, child: Child) -> None:
        """Start the process anew whenever it ends, until they are to stop."""
        pauses = iter(RESTART_PAUSES_S)
        pause_s = next(pauses)
        while True:
            begun_s = time.monotonic()
            how = await child.ended()
            lost = forget_claims(self._directory, child.number)
            if self._stopping.is_set():
                if how:
                    log.error("process has not ended by itself", process=child.number, by=how)
                return
            log.error(
                "process has ended, its sessions are gone; starting another",
                process=child.number,
                by=how or "itself",
                known_sessions=lost,
            )
            if time.monotonic() - begun_s > STEADY_S:
                pauses = iter(RESTART_PAUSES_S)
                pause_s = next(pauses)
            if await self._stops_within(pause_s):
                return
            pause_s = next(pauses, pause_s)
            try:
                await child.start()
            except StartupError as error:
                log.error("process cannot start", process=child.number, reason=str(error))

    async def _stops_within(self, pause_s: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), pause_s)
        except TimeoutError:
            return False
        return True

    def _stop(self) -> None:
        """The first time they drain, the second time they end; who does not is killed."""
        limit_s = 0.0 if self._stopping.is_set() else self._drain_limit_s
        self._stopping.set()
        for child in self._children:
            child.send_signal(signal.SIGTERM)
            self._loop.call_later(limit_s + KILL_AFTER_S, child.send_signal, signal.SIGKILL)

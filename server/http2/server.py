"""Listens, and hands each connection to an object of its own."""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from server.http2.calls import SHUTTING_DOWN
from server.http2.connection import Connection
from server.http2.streams import StreamCall
from server.http2.unary import TaskCall, UnaryCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from server.http2.calls import Call
    from server.http2.methods import StreamMethod, TaskMethod
    from server.rpc.methods import Method

BACKLOG = 1024
LINGER_S = 0.2  # for the last answers to leave
POLL_S = 0.01

# A client whose machine has vanished is found out in two minutes: asked after a minute of silence,
# then every quarter of one. (TCP_USER_TIMEOUT would also end those that merely read slowly.)
KEEP_ALIVE = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPALIVE": 60,  # macOS's name for it
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 4,
}


class Http2Server:
    """Is used as a grpc.aio server is. `shares_port`: other processes listen on it, too."""

    def __init__(self, max_message_bytes: int, *, shares_port: bool = False) -> None:
        self._max_message_bytes = max_message_bytes
        self._shares_port = shares_port
        self._sockets: list[socket.socket] = []
        self._listening: list[asyncio.Server] = []
        self._kinds: dict[bytes, Callable[[Connection, int], Call]] = {}
        self._connections: set[Connection] = set()

    def add_insecure_port(self, address: str) -> int:
        """Bind `address`, "host:port"; the port. Raises RuntimeError where that is not possible."""
        host, _, port = address.rpartition(":")
        try:
            found = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, kind, protocol, _, where in found:
                bound = self._sockets[0].getsockname()[1] if self._sockets else where[1]
                self._listen(family, kind, protocol, (where[0], bound, *where[2:]))
        except OSError as error:
            self._close_sockets()
            raise RuntimeError(str(error)) from error
        return int(self._sockets[0].getsockname()[1])

    def _listen(self, family: int, kind: int, protocol: int, where: tuple[object, ...]) -> None:
        bound = socket.socket(family, kind, protocol)
        self._sockets.append(bound)
        bound.setblocking(False)
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._shares_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _keep_alive(bound)
        bound.bind(where)
        bound.listen(BACKLOG)  # a port in use is an error now; clients that come now have to wait

    def add_methods(self, methods: Iterable[Method]) -> None:
        self._add(UnaryCall, methods)

    def add_streams(self, methods: Iterable[StreamMethod]) -> None:
        self._add(StreamCall, methods)

    def add_tasks(self, methods: Iterable[TaskMethod]) -> None:
        self._add(TaskCall, methods)

    def _add(self, kind: Callable[..., Call], methods: Iterable[object]) -> None:
        for method in methods:
            path = method.path.encode()  # type: ignore[attr-defined]
            self._kinds[path] = partial(kind, method, self._max_message_bytes)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for bound in self._sockets:
            server = await loop.create_server(
                lambda: Connection(self._kinds, self._connections), sock=bound, backlog=BACKLOG
            )
            self._listening.append(server)

    async def stop(self, grace: float | None) -> None:
        """Refuse new calls, give those that are open `grace` seconds, end the others."""
        for server in self._listening:
            server.close()
        self._close_sockets()
        for connection in list(self._connections):
            connection.drain()
        await self._gone(grace or 0.0)
        for connection in list(self._connections):
            connection.abandon(SHUTTING_DOWN)
        await self._gone(LINGER_S)
        for connection in list(self._connections):
            connection.abort()

    async def _gone(self, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + limit_s
        while self._connections and loop.time() < give_up_s:  # noqa: ASYNC110  (only at the end)
            await asyncio.sleep(POLL_S)

    def _close_sockets(self) -> None:
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()


def _keep_alive(listening: socket.socket) -> None:
    """The sockets of its connections have the options that it has."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if (option := getattr(socket, name, None)) is not None:
            listening.setsockopt(socket.IPPROTO_TCP, option, value)

"""One stream to another process, for what one client's stream has to do with sessions there.

There is one for each process that a stream has sessions with, so that the order of a session's
requests holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc

from server.errors import RequestError
from server.processes.failures import error_of, lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rnnserve.v1 import session_pb2 as pb
    from server.processes.routes import Peer, Routes

    Receive = Callable[[Any], None]


class Upstream:
    """Answers come in the order of the requests.

    `method` is a streaming method of one of the peer's stubs.
    """

    def __init__(self, routes: Routes, peer: Peer, method: Any) -> None:
        self._routes = routes
        self._process = peer.number
        self._unsent: asyncio.Queue[Any] = asyncio.Queue()
        self._waiting: deque[Receive] = deque()
        self.broken = False
        self._reading = asyncio.get_running_loop().create_task(self._read(peer, method))
        routes.enter(self)

    def send(self, message: Any, receive: Receive) -> None:
        """`receive` gets the answering message, or the RequestError that stands for it where the
        process has ended. The message must not be used any more.
        """
        if self.broken:
            return receive(lost(self._process))
        self._expect(message, receive)
        self._unsent.put_nowait(message)

    def cancel(self) -> None:
        """The client's stream is over: what has not run there will not."""
        self.broken = True
        self._routes.leave(self)
        self._reading.cancel()

    def _expect(self, message: Any, receive: Receive) -> None:
        self._waiting.append(receive)

    def _receiver(self, answer: Any) -> Receive:
        """Who waits for that answer."""
        return self._waiting.popleft()

    def _lose(self) -> list[Receive]:
        """Those who will wait in vain."""
        lost_ones, self._waiting = self._waiting, deque()
        return list(lost_ones)

    async def _requests(self) -> AsyncIterator[Any]:
        while True:
            yield await self._unsent.get()

    async def _read(self, peer: Peer, method: Any) -> None:
        error: Exception = lost(self._process)
        try:
            await peer.reach()
            call = method(self._requests())
            try:
                async for answer in call:
                    self._receiver(answer)(answer)
            finally:
                call.cancel()
        except grpc.aio.AioRpcError as failed:
            error = error_of(failed, self._process)
        except RequestError as unreachable:
            error = unreachable
        self.broken = True
        self._routes.leave(self)
        for receive in self._lose():
            receive(error)


class NumberedUpstream(Upstream):
    """Answers come as they are ready, with the `request_id` of their request."""

    def __init__(self, routes: Routes, peer: Peer) -> None:
        self._numbered: dict[int, tuple[int, Receive]] = {}
        self._count = 0
        super().__init__(routes, peer, peer.sessions.Stream)

    def _expect(self, message: pb.StreamRequest, receive: Receive) -> None:
        self._count += 1  # what the client has chosen need not be unique
        self._numbered[self._count] = message.request_id, receive
        message.request_id = self._count

    def _receiver(self, answer: pb.StreamResponse) -> Receive:
        answer.request_id, receive = self._numbered.pop(answer.request_id)
        return receive

    def _lose(self) -> list[Receive]:
        lost_ones, self._numbered = self._numbered, {}
        return [receive for _, receive in lost_ones.values()]

"""The stream behind a group of the asyncio client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from rnnserve._ending import Ending
from rnnserve._link import ended_early
from rnnserve.errors import RnnserveError

if TYPE_CHECKING:
    from rnnserve.aio import Client
    from rnnserve.v1 import session_pb2 as pb


class Link:
    """One stream. One task sends what is put into it, another reads the answers: whoever waits for
    one may be cancelled, which must cancel neither.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._outbox: asyncio.Queue[pb.StreamRequest] = asyncio.Queue()
        self._inbox: asyncio.Queue[pb.StreamResponse | RnnserveError] = asyncio.Queue()
        self._call: Any = client._start("Stream", None, None)
        self._ending = Ending(self._call)
        self._writer = asyncio.create_task(self._write())
        self.tasks = (self._writer, asyncio.create_task(self._read()))  # they raise nothing

    def send(self, request: pb.StreamRequest) -> None:
        self._outbox.put_nowait(request)

    async def receive(self, timeout_s: float | None) -> pb.StreamResponse:
        """The next answer. RnnserveError: there will be none; TimeoutError: it is late."""
        async with asyncio.timeout(timeout_s):
            answer = await self._inbox.get()
        if isinstance(answer, RnnserveError):
            raise answer
        return answer

    @property
    def has_answers(self) -> bool:
        return not self._inbox.empty()

    def close(self) -> None:
        """Answers that have not been received are lost. The tasks end soon."""
        self._call.cancel()

    async def _write(self) -> None:
        try:
            while True:
                await self._call.write(await self._outbox.get())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            pass  # the call has ended; the reader learns why

    async def _read(self) -> None:
        try:
            async for answer in self._call:
                self._inbox.put_nowait(answer)
            self._inbox.put_nowait(ended_early(self._client.target))
        except grpc.aio.AioRpcError:
            self._inbox.put_nowait(await self._reason())
        except asyncio.CancelledError:  # of the call
            self._inbox.put_nowait(self._client._error(None, None))
        finally:
            self._writer.cancel()

    async def _reason(self) -> RnnserveError:
        ended = await self._ending.status()
        if ended.code() is grpc.StatusCode.OK:
            return ended_early(self._client.target)
        return self._client._error(ended, None)

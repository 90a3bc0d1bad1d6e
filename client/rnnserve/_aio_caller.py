"""How the asyncio client makes a call: as often as it takes."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from rnnserve._retry import LOST, RETRIES, Attempts, Retries
from rnnserve._statuses import from_call
from rnnserve.errors import ClientClosed, RnnserveError
from rnnserve.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from rnnserve._calls import Call
    from rnnserve._statuses import Status

T = TypeVar("T")


class Caller:
    """A channel, and what has been learned of who is behind it. Tasks may share it."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        target: str,
        timeout_s: float | None,
        retries: Retries | None = RETRIES,
    ) -> None:
        self._channel = channel
        self._stub = SessionServiceStub(channel)
        self._retries = retries
        self._answered = False  # the server has, at least once
        self._closed = False
        self.target = target
        self.timeout_s = timeout_s

    async def close(self) -> None:
        """Ends the connection; calls under way fail with `ClientClosed`. May be called twice."""
        self._closed = True
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.target}{', closed' if self._closed else ''}>"

    async def _make(self, call: Call[T], timeout_s: float | None) -> T:
        """Makes the call and reads its answer, or raises what went wrong."""
        return call.read(await self._call(call.method, call.request, timeout_s))

    async def _call(self, method: str, request: object, timeout_s: float | None) -> Any:
        return await self._repeat(partial(self._start, method, request), timeout_s)

    async def _repeat(
        self, attempt: Callable[[float | None], Awaitable[T]], timeout_s: float | None
    ) -> T:
        """The first answer that comes of attempts, which are given how long they may take."""
        now = monotonic()
        attempts = Attempts(self._retries if self._answered else None, timeout_s, now)
        while True:
            try:
                answer = await attempt(attempts.timeout(now))
            except grpc.aio.AioRpcError as reason:
                error = self._error(reason, timeout_s)
                self._answered |= bool(error.kind)
                pause_s = attempts.pause(monotonic()) if isinstance(error, LOST) else None
                if pause_s is None:
                    raise error from reason
                await asyncio.sleep(pause_s)
                now = monotonic()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closed and not (task and task.cancelling()):
                    raise self._error(None, timeout_s) from None
                raise
            else:
                self._answered = True
                return answer

    def _start(self, method: str, request: object, timeout_s: float | None) -> Any:
        self._must_be_open()
        return getattr(self._stub, method)(request, timeout=timeout_s)

    def _error(self, status: Status | None, timeout_s: float | None) -> RnnserveError:
        """Of a call that ended with `status`; None: it was cancelled from here."""
        if self._closed:
            return ClientClosed(f"{self!r} was closed while the call was under way")
        if status is None:
            return RnnserveError("the call was cancelled", grpc.StatusCode.CANCELLED)
        return from_call(status, self.target, timeout_s)

    def _must_be_open(self) -> None:
        if self._closed:
            raise ClientClosed(f"{self!r}: connect again")

"""A stream: requests in, answers out. Answers come from callbacks, at once or later."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
import structlog

from server.rpc.status import abort

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger()


class Ended(Exception):
    """A stream ends with an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


M = TypeVar("M")


class Replies(Generic[M]):
    """Slots for answers. A slot is taken when its request is read and filled when the answer is
    there. In an `ordered` stream answers leave in the order of the requests, else as they come. An
    exception in place of an answer ends the stream when its turn comes.

    At most `max_open` slots are open at a time: a client that sends faster than it can be served
    is slowed down by HTTP/2's flow control.
    """

    def __init__(self, max_open: int, *, ordered: bool) -> None:
        self._max_open = max_open
        self._ordered = ordered
        self._open = 0
        self._slots: deque[Slot[M]] = deque()  # if ordered: those whose answer has not left
        self._ready: deque[M | Exception] = deque()
        self._handling = False
        self._writing = False
        self._no_more = False
        self._changed: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    async def pump(
        self, context: grpc.aio.ServicerContext[Any, M], handle: Callable[[Any, Slot[M]], None]
    ) -> None:
        """Give each message that comes in to `handle`, which must not raise, together with the
        slot for its answer, and write the answers, until the client has closed its half and
        everything is answered.
        """
        end: Any = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write_later(context))
                while (message := await context.read()) is not grpc.aio.EOF:
                    slot = await self._slot()
                    self._handling = True
                    if isinstance(message, Exception):  # there is none: server.rpc.registration
                        slot.fill(message)
                    else:
                        handle(message, slot)
                    self._handling = False
                    await self._write_ready(context)  # an answer at once needs no other task
                self._no_more = True
                self._wake()
        except* Ended as ended:
            end = ended.exceptions[0]
        except* Exception as failed:
            log.info("could not write to a stream", reason=repr(failed.exceptions[0]))
        if end is not None:
            await abort(context, end.error)

    def filled(self, slot: Slot[M], message: M | Exception) -> None:
        """The answer for `slot` is there."""
        slot.message = message
        if not self._ordered:
            self._leave(message)
        while self._slots and (first := self._slots[0].message) is not None:
            self._slots.popleft()
            self._leave(first)
        if not self._handling:
            self._wake()

    def _leave(self, message: M | Exception) -> None:
        self._ready.append(message)
        self._open -= 1

    async def _slot(self) -> Slot[M]:
        """A place for the answer to the next request; waits while too many are open."""
        while self._open >= self._max_open:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        self._open += 1
        slot = Slot(self)
        if self._ordered:
            self._slots.append(slot)
        return slot

    async def _write_ready(self, context: grpc.aio.ServicerContext[Any, M]) -> None:
        """Write the answers that are there, unless the other task is at it already."""
        if self._writing:
            return
        self._writing = True
        while self._ready:
            message = self._ready.popleft()
            if isinstance(message, Exception):
                raise Ended(message)
            await context.write(message)
        self._writing = False

    async def _write_later(self, context: grpc.aio.ServicerContext[Any, M]) -> None:
        """Write the answers that come while nobody handles a message, to the last one."""
        while not (self._no_more and self._open == 0 and not self._ready):
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed
            await self._write_ready(context)

    def _wake(self) -> None:
        for waiter in (self._changed, self._room):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)


class Slot(Generic[M]):
    """The place of one answer in a stream."""

    __slots__ = ("_replies", "message")

    def __init__(self, replies: Replies[M]) -> None:
        self._replies = replies
        self.message: M | Exception | None = None

    def fill(self, message: M | Exception) -> None:
        self._replies.filled(self, message)

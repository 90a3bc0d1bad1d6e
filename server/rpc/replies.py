"""The outgoing half of a stream: answers that come from callbacks, written by one task."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger()

M = TypeVar("M")


class Replies(Generic[M]):
    """Slots for answers. A slot is taken when its request is read and filled when the answer is
    there. In an `ordered` stream answers leave in the order of the requests, else as they come.

    At most `max_open` slots are open at a time: a client that sends faster than it can be served
    is slowed down by HTTP/2's flow control.
    """

    def __init__(self, max_open: int, *, ordered: bool) -> None:
        self._max_open = max_open
        self._ordered = ordered
        self._open = 0
        self._slots: deque[Slot[M]] = deque()  # if ordered: those whose answer has not left
        self._ready: deque[M] = deque()
        self._no_more = False
        self._changed: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    async def slot(self) -> Slot[M]:
        """A place for the answer to the next request; waits while too many are open."""
        while self._open >= self._max_open:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        self._open += 1
        slot = Slot(self)
        if self._ordered:
            self._slots.append(slot)
        return slot

    def no_more(self) -> None:
        """The client has sent its last request."""
        self._no_more = True
        self._wake()

    async def write_all(self, context: grpc.aio.ServicerContext[Any, M]) -> None:
        """Write answers until the last one has left."""
        while not (self._no_more and self._open == 0 and not self._ready):
            while self._ready:
                await context.write(self._ready.popleft())
            if not (self._no_more and self._open == 0):
                self._changed = asyncio.get_running_loop().create_future()
                await self._changed

    def filled(self, slot: Slot[M], message: M) -> None:
        slot.message = message
        if not self._ordered:
            self._ready.append(message)
            self._open -= 1
        while self._slots and self._slots[0].message is not None:
            self._ready.append(self._slots.popleft().message)  # type: ignore[arg-type]
            self._open -= 1
        self._wake()

    def _wake(self) -> None:
        for waiter in (self._changed, self._room):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)


class Slot(Generic[M]):
    """The place of one answer in a stream."""

    __slots__ = ("_replies", "message")

    def __init__(self, replies: Replies[M]) -> None:
        self._replies = replies
        self.message: M | None = None

    def fill(self, message: M) -> None:
        self._replies.filled(self, message)


async def pump(
    context: grpc.aio.ServicerContext[M, Any],
    replies: Replies[Any],
    handle: Callable[[M, Slot[Any]], None],
) -> None:
    """Give each message that comes in to `handle` together with the slot for its answer, and write
    the answers, until the client has closed its half and everything is answered.
    """
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(replies.write_all(context))
            while (message := await context.read()) is not grpc.aio.EOF:
                handle(message, await replies.slot())
            replies.no_more()
    except* Exception as failed:  # `handle` does not raise: what fails is writing
        log.warning("could not write to a stream", reason=repr(failed.exceptions[0]))

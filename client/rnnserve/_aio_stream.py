"""The asyncio client's stream: one task takes the items and sends them, another reads the answers.

Leaving early keeps what was sent: no new item is taken, the answers under way are read to the
end, and only then does the call end. `async for` does not close its iterator on `break`; so the
iterator that users hold is a thin object whose disappearance is noticed, and the session waits
for what its streams still have under way before it makes another call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc

from rnnserve._ending import Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from typing import Self

    from rnnserve._codec import Output
    from rnnserve._steps import Steps
    from rnnserve.errors import RnnserveError, Status
    from rnnserve.v1 import session_pb2 as pb


class Stream:
    """The outputs of `Session.stream`, in order; an asynchronous iterator."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Output]:
        # No coroutine of this object's own: the traceback of an exception would keep it alive.
        return self._flow.next()

    async def aclose(self) -> None:
        """Takes no further item and waits for the answers to the steps that were sent."""
        self._flow.leave()
        await self._flow.finished()

    def __del__(self) -> None:
        self._flow.leave_from_anywhere()


class Flow:
    """What goes on behind a `Stream`."""

    def __init__(
        self,
        start: Callable[[], Any],
        items: AsyncIterator[Any],
        steps: Steps,
        window: int,
        error: Callable[[Status | None], RnnserveError],
        grace_s: float | None,
    ) -> None:
        self._start = start
        self._items = items
        self._steps = steps
        self._slots = asyncio.Semaphore(window)
        self._error = error
        self._grace_s = grace_s
        self._changed = asyncio.Event()
        self._call: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writing = True  # until the first message is out
        self._consuming = False  # an output is with the consumer
        self._ended = False  # there will be no more answers
        self._failure: BaseException | None = None
        self.left = False

    @property
    def over(self) -> bool:
        """Nothing is under way any more, nor will be."""
        return self.left and all(task.done() for task in self._tasks)

    async def next(self) -> Output:
        """The next output, or the error in its place; StopAsyncIteration at the end."""
        if self.left:
            raise StopAsyncIteration
        if self._loop is None:
            self._begin()
        if self._consuming:
            self._consuming = False
            self._slots.release()
        while not self._steps.ready and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        try:
            output = self._take()
        except BaseException:
            self.leave()
            await self.finished()
            raise
        self._consuming = True
        return output

    def leave(self) -> None:
        """Takes no further item; what was sent runs on."""
        if self.left:
            return
        self.left = True
        if self._loop is not None:
            self._stop_sending()
            reader = self._tasks[1]
            if self._grace_s is not None and not reader.done():
                timer = self._loop.call_later(self._grace_s, self._call.cancel)
                reader.add_done_callback(lambda _: timer.cancel())

    def leave_from_anywhere(self) -> None:
        """`leave()`, whichever thread the garbage collector has chosen."""
        if self._loop is None or self._loop.is_closed():
            self.left = True
        elif asyncio._get_running_loop() is self._loop:
            self.leave()
        elif not self.left:
            with suppress(RuntimeError):  # closed just now
                self._loop.call_soon_threadsafe(self.leave)

    async def finished(self) -> None:
        """Waits until both tasks have ended; neither raises."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self) -> None:
        self._call = self._start()
        self._ending = Ending(self._call)
        self._loop = asyncio.get_running_loop()
        self._tasks = [self._loop.create_task(self._send()), self._loop.create_task(self._read())]

    def _take(self) -> Output:
        if self._steps.ready:
            return self._steps.pop()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        self._steps.check_complete()
        raise StopAsyncIteration

    async def _send(self) -> None:
        try:
            await self._write(self._steps.resume())
            while not self.left:
                await self._slots.acquire()
                item = await anext(self._items)
                if not self.left:
                    await self._write(self._steps.request(item))
        except StopAsyncIteration:
            self._steps.end()
        except asyncio.CancelledError:
            if not self.left and not self._ended:  # somebody else's doing
                self._failure = self._error(None)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the call has ended; the reader learns why
        except Exception as error:  # of the items: the consumer's to see
            self._failure = error
        self._writing = True  # the end is written like a message
        with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await self._call.done_writing()

    async def _write(self, request: pb.StreamRequest) -> None:
        self._writing = True
        try:
            await self._call.write(request)
        finally:
            self._writing = False

    async def _read(self) -> None:
        try:
            # Not `call.read()`: it stops reading as soon as a write has failed, and the call's
            # status does not come before its last message has been read.
            async for answer in self._call:
                self._steps.receive(answer)
                self._changed.set()
        except grpc.aio.AioRpcError:
            ended = await self._ending.status()
            if ended.code() is not grpc.StatusCode.OK:
                self._failure = self._error(ended)
        except asyncio.CancelledError:
            self._failure = self._error(None)
        finally:
            self._ended = True
            self._changed.set()
            self._stop_sending()

    def _stop_sending(self) -> None:
        if not self._writing:  # cancelling a write would cancel the whole call
            self._tasks[0].cancel()


class FromIterable:
    """A synchronous iterable as an asynchronous iterator."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items: Iterator[Any] = iter(items)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None


def iterate(items: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    return aiter(items) if isinstance(items, AsyncIterable) else FromIterable(items)

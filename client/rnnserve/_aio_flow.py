"""What goes on behind an asyncio stream: one task sends, see `_aio_sending`, another makes the
calls and reads the answers.

A stream that breaks is started again, see `_steps`. Leaving early keeps what was sent: no new item
is taken, the answers under way are read to the end, and only then does the stream end.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc

from rnnserve._aio_sending import Sending, is_cancelled
from rnnserve._ending import Ending
from rnnserve._retry import Mending
from rnnserve.errors import RnnserveError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rnnserve._codec import Output
    from rnnserve._steps import Steps
    from rnnserve.aio import Client


class Flow:
    """One stream of a session, over all the calls that it takes.

    Args:
        before: awaited before anything is sent.
        after: called when all is over.
        timeout_s: for all of it; None: no limit.
        patience_s: how long leaving waits for answers, and how long a server that cannot be
            reached is tried; None: no limit.
    """

    def __init__(
        self,
        client: Client,
        sending: Sending,
        steps: Steps,
        before: Callable[[], Coroutine[Any, Any, None]],
        after: Callable[[], None],
        timeout_s: float | None,
        patience_s: float | None,
    ) -> None:
        self._client = client
        self._sending = sending
        self._steps = steps
        self._before = before
        self._after = after
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._mending = Mending(client._retries, patience_s)
        self._changed = asyncio.Event()
        self._call: Any = None
        self._end: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ticking: asyncio.TimerHandle | None = None
        self._consumer: asyncio.Task[Any] | None = None
        self._consuming = False  # an output is with the consumer
        self._ended = False  # there will be no more answers
        self._overdue = False  # the call was ended because an answer has not come
        self._given_up = False
        self._failure: BaseException | None = None
        self.left = False

    @property
    def over(self) -> bool:
        """Nothing is under way any more, nor will be."""
        return self.left and all(task.done() for task in self._tasks)

    def fails_here(self) -> bool:
        """The task that asks is the one that will see a step of this stream's fail."""
        return self._steps.failed and self._consumer is asyncio.current_task() and not self.left

    async def next(self) -> Output:
        """The next output, or the error in its place; StopAsyncIteration at the end."""
        if self.left:
            raise StopAsyncIteration
        if self._loop is None:
            await self._begin()
        if self._consuming:
            self._consuming = False
            self._sending.consumed()
        self._consumer = asyncio.current_task()
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
            self._sending.stop()
            reader = self._tasks[1]
            if self._patience_s is not None and not reader.done():
                timer = self._loop.call_later(self._patience_s, self._give_up)
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
        """Waits until all tasks have ended; none raises."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _begin(self) -> None:
        await self._before()
        self._loop = loop = asyncio.get_running_loop()
        if self._timeout_s is not None:
            self._end = loop.time() + self._timeout_s
        self._tasks = [self._sending.start(), loop.create_task(self._read())]
        for task in self._tasks:
            task.add_done_callback(self._task_done)
        if self._client._retries is not None:
            self._tick(self._client._retries.attempt_s / 4)

    def _task_done(self, _: object) -> None:
        if all(task.done() for task in self._tasks):
            if self._ticking is not None:
                self._ticking.cancel()
            self._steps.settle()
            self._after()

    def _tick(self, every_s: float) -> None:
        """Ends a call that has not been answered for too long, now and from time to time."""
        assert self._loop is not None
        if self._call is not None and self._mending.overdue(
            self._loop.time(), self._steps.received, self._steps.awaited
        ):
            self._overdue = True
            self._call.cancel()
        self._ticking = self._loop.call_later(every_s, self._tick, every_s)

    def _give_up(self) -> None:
        self._given_up = True
        self._call.cancel()

    def _take(self) -> Output:
        if self._steps.ready:
            return self._steps.pop()
        failure = self._failure or self._sending.failure
        if isinstance(failure, asyncio.CancelledError):
            raise self._client._error(None, self._timeout_s) from failure
        if failure is not None:
            raise failure
        self._steps.check_complete()
        raise StopAsyncIteration

    async def _read(self) -> None:
        try:
            while (error := await self._read_call()) is not None:
                await self._mend(error)
        except RnnserveError as error:
            self._failure = error
        except asyncio.CancelledError:
            self._failure = self._client._error(None, self._timeout_s)
        finally:
            self._ended = True
            self._changed.set()
            self._sending.stop()

    async def _read_call(self) -> RnnserveError | None:
        """Makes a call and reads it to its end; what it ended with if not well."""
        assert self._loop is not None
        left_s = None if self._end is None else max(self._end - self._loop.time(), 0.0)
        self._steps.restart()
        self._overdue = False
        self._call = call = self._client._start("Stream", None, left_s)
        ending = Ending(call)
        starting = self._loop.create_task(self._sending.begin(call))
        try:
            # Not `call.read()`: it stops reading as soon as a write has failed, and the call's
            # status does not come before its last message has been read.
            async for answer in call:
                self._steps.receive(answer)
                self._changed.set()
                self._sending.answered()
        except grpc.aio.AioRpcError:
            ended = await ending.status()
            if ended.code() is not grpc.StatusCode.OK:
                return self._client._error(ended, self._timeout_s)
        except asyncio.CancelledError:
            if not self._overdue or is_cancelled():
                raise
            return self._client._error(await ending.status(), self._timeout_s)
        finally:
            self._sending.lost()
            starting.cancel()
            await asyncio.wait([starting])
        return None

    async def _mend(self, error: RnnserveError) -> None:
        """Waits until another call may be made, or raises."""
        assert self._loop is not None
        steps = self._steps
        pause_s = self._mending.pause(error, self._loop.time(), steps.received, steps.answered)
        if pause_s is not None and not self._given_up:
            await asyncio.sleep(pause_s)
        if pause_s is None or self._given_up:
            raise error

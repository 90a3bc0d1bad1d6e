"""What the asyncio client sends on a stream: a task takes the items, numbers and writes them.

When the stream is started again, another task writes what has no answer, while the first one goes
on taking items; only then does the first write to the new call.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rnnserve._steps import Steps
    from rnnserve.v1 import session_pb2 as pb

_CALL_HAS_ENDED = (grpc.aio.AioRpcError, asyncio.InvalidStateError)


class Sending:
    """The requests of a stream, over all the calls that it may take.

    Args:
        items: at most `window` are taken whose outputs are not consumed.
        turn: held while a step of the session's runs outside of the stream.
    """

    def __init__(
        self, steps: Steps, items: AsyncIterator[Any], window: int, turn: asyncio.Lock
    ) -> None:
        self._steps = steps
        self._items = items
        self._slots = asyncio.Semaphore(window)
        self._turn = turn
        self._answered = asyncio.Event()
        self._call: Any = None  # that has been sent all that is kept, and takes more
        self._task: asyncio.Task[None] | None = None
        self._writing = False
        self._complete = False
        self._stopped = False
        self.failure: BaseException | None = None  # of the items: the consumer's to see

    def start(self) -> asyncio.Task[None]:
        """The task that takes the items; it does not raise."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self._task

    def stop(self) -> None:
        """Takes no further item."""
        self._stopped = True
        # Cancelling a write would cancel the whole call.
        if self._task is not None and not self._writing:
            self._task.cancel()

    def consumed(self) -> None:
        """The consumer is done with an output: another item may be taken."""
        self._slots.release()

    def answered(self) -> None:
        """An answer has come."""
        self._answered.set()

    async def begin(self, call: Any) -> None:
        """Takes the session up and sends what has no answer; from then on the task goes on."""
        with suppress(*_CALL_HAS_ENDED, asyncio.CancelledError):
            await call.write(self._steps.resume())
            position = 0
            while (kept := self._steps.after(position)) is not None:
                position, message = kept
                await call.write(message)
            self._call = call
            if self._complete:
                await self._end()

    def lost(self) -> None:
        """The call is over."""
        self._call = None

    async def _run(self) -> None:
        try:
            while not self._stopped:
                await self._slots.acquire()
                item = await anext(self._items)
                while self._turn.locked() or self._steps.cautious:
                    await self._wait()
                if self._stopped:
                    break
                message = self._steps.put(item)[1]
                if self._call is not None:
                    await self._write(message)
        except StopAsyncIteration:
            self._steps.end()
        except asyncio.CancelledError as error:
            if not self._stopped:  # somebody else's doing
                self.failure = error
        except Exception as error:
            self.failure = error
        self._complete = True
        if self._call is not None:
            await self._end()

    async def _wait(self) -> None:
        """Until another step may be sent."""
        async with self._turn:
            while self._steps.cautious:
                self._answered.clear()
                await self._answered.wait()

    async def _write(self, request: pb.StreamRequest) -> None:
        self._writing = True
        try:
            await self._call.write(request)
        except _CALL_HAS_ENDED:
            pass  # who reads learns why
        except asyncio.CancelledError:
            if is_cancelled():  # rather than the call
                raise
        finally:
            self._writing = False

    async def _end(self) -> None:
        self._writing = True  # the end is written like a message
        with suppress(*_CALL_HAS_ENDED, asyncio.CancelledError):
            await self._call.done_writing()


def is_cancelled() -> bool:
    """Whether a CancelledError means the task that runs, and not the call it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

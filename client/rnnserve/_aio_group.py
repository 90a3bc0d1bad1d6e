"""The asyncio client's group: many sessions, one call for a step of all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from rnnserve import _channel
from rnnserve._aio_link import Link
from rnnserve._aio_stream import iterate
from rnnserve._calls import check_window
from rnnserve._group_base import GroupBase, GroupStepFailed, UnderWay, given_up, late
from rnnserve._group_start import GroupStart, group_keys, group_start
from rnnserve._retry import LOST, Attempts
from rnnserve.errors import RnnserveError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Callable,
        Iterable,
        Mapping,
    )
    from types import TracebackType
    from typing import Self

    from rnnserve._codec import Output
    from rnnserve._retry import Retries
    from rnnserve.aio import Client
    from rnnserve.v1 import session_pb2 as pb

__all__ = ["Group", "GroupStepFailed", "group_keys", "group_start"]


class Group(GroupBase):
    """Sessions with one model that step together. Tasks may share it.

    >>> async with client.group("vowels", 1000) as group:
    ...     for frames in ticks:  # (1000, 12) each
    ...         probabilities = await group.step(frames)  # (1000, 9)
    """

    def __init__(
        self,
        client: Client,
        start: GroupStart | tuple[pb.SessionKey, ...],
        timeout_s: float | None,
    ) -> None:
        super().__init__(start, timeout_s)
        self._client = client
        self._lock = asyncio.Lock()
        self._link: Link | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # of this link and those before it

    async def open(self) -> Self:
        """Opens the sessions, or takes them up again; `async with` closes them, too."""
        async with self._lock:
            self._must_be_new()
            if (call := self._describe_call) is not None:
                await self._client._make(call, self._timeout_s)
            await self._exchange(lambda: self._link is not None, self._timeout_s)
        try:
            self._read_opened()
        except BaseException:
            with suppress(RnnserveError):  # what went wrong first says more
                await self.close()
            raise
        return self

    async def step(
        self,
        x: object = None,
        /,
        *,
        sessions: object = None,
        return_sequences: bool = False,
        timeout_s: float | None = None,
        **inputs: object,
    ) -> Output:
        """Runs one request of one or more timesteps of each session; see `rnnserve.Group.step`.

        Cancelling the waiting task gives the step up, and with it what else is under way.
        """
        async with self._lock:
            sent = await self._send_frame(x, inputs, sessions, return_sequences)
            await self._exchange(lambda: sent.done, timeout_s or self._timeout_s)
        return self._output(sent)

    def stream(
        self,
        items: AsyncIterable[object] | Iterable[object],
        *,
        return_sequences: bool = False,
        window: int = _channel.DEFAULT_WINDOW,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Output, None]:
        """One step of every session per item, one output per step, in order; see
        `rnnserve.Group.stream`. `items` may be asynchronous.

        `break` does not end the stream at once: Python has the event loop end it soon. Within
        `contextlib.aclosing` it ends where the block does.
        """
        check_window(window)
        return self._stream(iterate(items), return_sequences, window, timeout_s or self._timeout_s)

    async def _stream(
        self,
        items: AsyncIterator[object],
        return_sequences: bool,
        window: int,
        timeout_s: float | None,
    ) -> AsyncGenerator[Output, None]:
        ahead: deque[UnderWay] = deque()
        more = True
        try:
            while True:
                while more and len(ahead) < window:
                    if ahead and await self._arrived(ahead[0], timeout_s):
                        break
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        more = False
                    else:
                        async with self._lock:
                            sent = await self._send_frame(item, {}, None, return_sequences)
                            ahead.append(sent)
                if not ahead:
                    return
                yield await self._finish(ahead.popleft(), timeout_s)
        finally:
            for sent in ahead:
                with suppress(RnnserveError):  # the next call will tell
                    await self._finish(sent, self._timeout_s)

    async def _finish(self, sent: UnderWay, timeout_s: float | None) -> Output:
        async with self._lock:
            await self._exchange(lambda: sent.done, timeout_s)
        return self._output(sent)

    async def close(self) -> None:
        """Ends the sessions; their memory is free at once. Does nothing where they have ended."""
        async with self._lock:
            if self._must_close:
                sent = self._send(self._closing())
                await self._exchange(lambda: sent.done, self._timeout_s)
                self._mark_closed()
            self._drop()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            await self.close()
        else:  # what went wrong in the body says more than that closing failed, too
            with suppress(RnnserveError):
                await self.close()

    # The stream behind it; all with the lock

    @property
    def _retries(self) -> Retries | None:
        """None at first: a server that has never answered is not waited for."""
        return self._client._retries if self._client._answered else None

    async def _send_frame(
        self, x: object, named: Mapping[str, object], sessions: object, return_sequences: bool
    ) -> UnderWay:
        if self._must_ask:
            self._drop()
            await self._exchange(lambda: self._link is not None, self._timeout_s)
        return self._send(self._frame(x, named, sessions, return_sequences))

    def _send(self, sent: UnderWay) -> UnderWay:
        if self._link is not None:
            self._link.send(sent.request)
        return sent

    async def _exchange(self, done: Callable[[], bool], timeout_s: float | None) -> None:
        """Receives answers until `done`, over as many streams as it takes."""
        attempts = Attempts(self._retries, timeout_s, monotonic())
        try:
            while not done():
                lost: RnnserveError
                try:
                    await self._turn(attempts.timeout(monotonic()))
                    continue
                except TimeoutError:
                    lost = late(self._client.target, timeout_s)
                except LOST as error:
                    lost = error
                self._drop()
                if (pause_s := attempts.pause(monotonic())) is None:
                    raise lost
                await asyncio.sleep(pause_s)
        except BaseException as error:
            self._drop()
            self._fail(given_up(error))
            raise

    async def _turn(self, timeout_s: float | None) -> None:
        if self._link is None:
            await self._connect(timeout_s)
        else:
            self._receive(await self._link.receive(timeout_s))

    async def _arrived(self, sent: UnderWay, timeout_s: float | None) -> bool:
        """Whether its answer is there, without waiting for it."""

        def nothing_to_read() -> bool:
            return sent.done or self._link is None or not self._link.has_answers

        async with self._lock:
            await self._exchange(nothing_to_read, timeout_s)
        return sent.done

    async def _connect(self, timeout_s: float | None) -> None:
        """A new stream with the group's sessions and all that is under way."""
        link = Link(self._client)
        for task in link.tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            link.send(self._greeting())
            answer = await link.receive(timeout_s)
            self._client._answered = True
            self._greeted(answer)
        except BaseException:
            link.close()
            raise
        for sent in self._under_way.values():
            link.send(sent.request)
        self._link = link

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

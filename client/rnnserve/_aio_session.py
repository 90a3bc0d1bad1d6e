"""The asyncio client's session."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from rnnserve._aio_steps import Stepping
from rnnserve._calls import Call
from rnnserve._session import ALREADY_GONE
from rnnserve.errors import RnnserveError, StepGap
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from rnnserve._codec import States
    from rnnserve._start import Start
    from rnnserve.specs import SessionInfo


class Session(Stepping):
    """A state on the server, and the steps that move it on.

    >>> async with client.session("vowels") as session:
    ...     for frame in frames:  # (12,) each
    ...         probabilities = await session.step(frame)  # (9,)
    """

    async def open(self) -> Self:
        """Starts the session, or takes it up again; `async with` does the same and closes it."""
        self._must_be_new()
        begins = self._start
        if isinstance(begins, pb.SessionKey):
            await self._resume(begins)
            return self
        try:
            if isinstance(begins, pb.RestoreRequest):
                await self._make(Call("Restore", begins, self._read_opened))
            else:
                await self._begin(begins)
        except BaseException:
            with suppress(RnnserveError):  # what went wrong first says more
                await self.close()
            raise
        return self

    async def reset_states(self, states: Mapping[str, object] | None = None) -> None:
        """Back to the model's initial state, or to the given states."""
        async with self._turn:
            await self._replace(lambda: self._reset_call(states))

    async def get_states(self) -> States:
        """State name to `(batch_size, …)` array; copies, which do not change the session."""
        return await self._make(self._get_call())

    async def set_states(self, states: Mapping[str, object]) -> None:
        """Every state of the model, `(batch_size, …)` each."""
        async with self._turn:
            await self._replace(lambda: self._set_call(states))

    async def fork(self, *, idle_ttl_s: float | None = None) -> Session:
        """A new session, open already, that starts from this one's state; see
        `rnnserve.Session.fork`.

        >>> async with await session.fork() as other:
        ...     await other.step(frame)
        """
        answer = await self._make(self._fork_call(idle_ttl_s))
        forked = Session(self._client, answer.session, self._timeout_s)
        forked._read_opened(answer)
        return forked

    async def snapshot(self) -> bytes:
        """The session as bytes to keep, of which `Client.restore` makes one that goes on."""
        return await self._make(self._snapshot_call())

    async def keep_alive(self) -> None:
        """Keeps the session from expiring: its time to live begins anew."""
        await self._make(self._keep_alive_call())

    async def describe(self) -> SessionInfo:
        """What the server knows of the session."""
        return await self._make(self._describe_call())

    async def close(self) -> None:
        """Ends the session; its memory is free at once. Does nothing where it has ended."""
        for flow in self._flows:
            flow.leave()
        if self._is_open:
            with suppress(*ALREADY_GONE):
                await self._make(self._close_call())
            self._mark_closed()

    async def __aenter__(self) -> Self:
        return self if self._is_open else await self.open()

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

    async def _replace(self, call: Callable[[], Call[None]]) -> None:
        """Replaces the states, at whatever step the session turns out to be."""
        try:
            await self._make(call())
        except StepGap:  # somebody else has stepped it
            await self._make(self._count_call())
            await self._make(call())

    async def _begin(self, begins: Start) -> None:
        if isinstance(begins.source, Stepping):
            await begins.source._settled()
        if (call := begins.describe_call) is not None:
            await self._make(call)
        await self._make(Call("OpenSession", begins.complete(), self._read_opened))
        if begins.initial_state is not None:  # only now are the dtypes known
            await self.set_states(begins.initial_state)

    async def _resume(self, key: pb.SessionKey) -> None:
        request = self._resume_request(key)

        async def attempt(timeout_s: float | None) -> list[pb.StreamResponse]:
            return [answer async for answer in self._client._start("Stream", [request], timeout_s)]

        self._read_resumed(await self._client._repeat(attempt, self._timeout_s))

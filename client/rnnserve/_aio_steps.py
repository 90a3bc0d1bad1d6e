"""The steps of the asyncio client's session: one by one, or as a stream."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from rnnserve import _channel
from rnnserve._aio_flow import Flow
from rnnserve._aio_sending import Sending
from rnnserve._aio_stream import Stream, iterate
from rnnserve._calls import check_window
from rnnserve._retry import Gap
from rnnserve._session import SessionBase
from rnnserve.errors import StepGap

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    from rnnserve._calls import Call
    from rnnserve._codec import Output
    from rnnserve._start import Beginning
    from rnnserve.aio import Client
    from rnnserve.v1 import session_pb2 as pb

T = TypeVar("T")


class Stepping(SessionBase):
    """What moves a session on."""

    def __init__(self, client: Client, start: Beginning, timeout_s: float | None) -> None:
        super().__init__(start, timeout_s)
        self._client = client
        self._turn = asyncio.Lock()  # held while a step of no stream's is under way
        self._flows: list[Flow] = []

    async def step(
        self,
        x: object = None,
        /,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        peek: bool = False,
        timeout_s: float | None = None,
        **inputs: object,
    ) -> Output:
        """Runs one request of one or more timesteps; see `rnnserve.Session.step`, also for what
        happens when no answer comes.

        Cancelling the waiting task cancels the request: the step is then in doubt, as after
        `DeadlineExceeded`.
        """
        request, asked = self._step_request(x, inputs, return_sequences, return_state)
        timeout_s = timeout_s or self._timeout_s
        await self._settled()
        if peek:
            request.peek = True
            answer = await self._client._call("Step", request, timeout_s)
        else:
            answer = await self._numbered(request, timeout_s)
        return self._codec.read_step(answer, asked)

    def stream(
        self,
        items: AsyncIterable[object] | Iterable[object],
        *,
        return_sequences: bool = False,
        window: int = _channel.DEFAULT_WINDOW,
        timeout_s: float | None = None,
    ) -> Stream:
        """One step per item, one output per step, in order; see `rnnserve.Session.stream`.

        `items` may be asynchronous. It is iterated in a task of its own, which is cancelled when
        you leave while it waits for an item. After leaving early, the session's next call waits
        for the steps that were sent; `await stream.aclose()` does so at once.
        """
        check_window(window)
        steps = self._steps(return_sequences)
        flow = Flow(
            self._client,
            Sending(steps, iterate(items), window, self._turn),
            steps,
            self._before_stream,
            self._numbers.end_stream,
            timeout_s,
            self._timeout_s,
        )
        self._flows = [other for other in self._flows if not other.over]
        self._flows.append(flow)
        return Stream(flow)

    async def _numbered(self, request: pb.StepRequest, timeout_s: float | None) -> pb.StepResponse:
        """Runs the step once, when those before it are over."""
        gap: Gap | None = None
        while True:
            try:
                return await self._in_turn(request, timeout_s)
            except StepGap as error:  # what a stream has sent before has not arrived
                gap = gap or Gap(timeout_s, monotonic())
                pause_s = gap.pause(error.expected_step, monotonic())
                fails_here = any(flow.fails_here() for flow in self._flows)
                if self._numbers.astray or fails_here or pause_s is None:
                    raise
            await asyncio.sleep(pause_s)
            timeout_s = gap.left_s(monotonic())

    async def _in_turn(self, request: pb.StepRequest, timeout_s: float | None) -> pb.StepResponse:
        numbers = self._numbers
        async with self._turn:
            if numbers.astray:
                await self._make(self._count_call())
            streaming = numbers.streaming
            number = numbers.take(request)
            try:
                answer: pb.StepResponse = await self._client._call("Step", request, timeout_s)
            except BaseException as error:
                numbers.failed(number, error, streaming)
                raise
            numbers.answered(number, answer.step)
            return answer

    async def _before_stream(self) -> None:
        await self._settled()
        async with self._turn:
            self._numbers.begin_stream()
            try:
                if self._numbers.astray:
                    await self._make(self._count_call())
            except BaseException:
                self._numbers.end_stream()
                raise

    async def _make(self, call: Call[T], timeout_s: float | None = None) -> T:
        await self._settled()
        return await self._client._make(call, timeout_s or self._timeout_s)

    async def _settled(self) -> None:
        """Waits for what streams that were left still have under way."""
        for flow in self._flows:
            if flow.left:
                await flow.finished()

"""The asyncio client: the same names as `rnnserve`, with `await`, `async with`, `async for`.

>>> async with rnnserve.aio.connect("localhost:8001") as client:
...     async with client.session("vowels") as session:
...         async for probabilities in session.stream(frames):
...             print(probabilities.argmax())
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from rnnserve import _channel
from rnnserve._aio_stream import Flow, Stream, iterate
from rnnserve._calls import Call, check_window, describe_call, list_call, resume_key
from rnnserve._session import ALREADY_GONE, SessionBase
from rnnserve._start import Start, start
from rnnserve.errors import ClientClosed, RnnserveError, from_call
from rnnserve.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from rnnserve._codec import Output, States
    from rnnserve._start import StatesOf
    from rnnserve.errors import Status
    from rnnserve.specs import ModelInfo, SessionInfo
    from rnnserve.v1 import session_pb2 as pb

__all__ = ["Client", "Session", "Stream", "connect"]

T = TypeVar("T")


def connect(
    target: str,
    *,
    timeout_s: float | None = _channel.DEFAULT_TIMEOUT_S,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> Client:
    """As `rnnserve.connect`. To be called where an event loop runs, which the client then uses."""
    _channel.check_target(target)
    asyncio.get_running_loop()  # its error is clearer than what grpc would say later
    arguments = _channel.options(options)
    if credentials is None:
        channel = grpc.aio.insecure_channel(target, arguments)
    else:
        channel = grpc.aio.secure_channel(target, credentials, arguments)
    return Client(channel, target, timeout_s)


class Client:
    """A connection to a server, for one event loop. Tasks may share it; `connect` makes it.

    Closing it leaves its open sessions on the server until they expire.
    """

    def __init__(self, channel: grpc.aio.Channel, target: str, timeout_s: float | None) -> None:
        self._channel = channel
        self._stub = SessionServiceStub(channel)
        self._closed = False
        self.target = target
        self.timeout_s = timeout_s

    def session(
        self,
        model: str,
        *,
        version: str = "",
        batch_size: int = 1,
        session_id: str = "",
        idle_ttl_s: float | None = None,
        initial_state: Mapping[str, object] | None = None,
        constants: object = None,
        states_of: StatesOf | None = None,
        timeout_s: float | None = None,
    ) -> Session:
        """A new session, for `async with` or `await open()`; see `rnnserve.Client.session`."""
        begins = start(
            *(model, version, batch_size, session_id, idle_ttl_s),
            *(initial_state, constants, states_of),
        )
        return Session(self, begins, timeout_s or self.timeout_s)

    def resume(self, session_id: str, token: str, *, timeout_s: float | None = None) -> Session:
        """Takes up a session that is already there; see `rnnserve.Client.resume`."""
        key = resume_key(session_id, token)
        return Session(self, key, timeout_s or self.timeout_s)

    async def model(self, name: str, *, version: str = "") -> ModelInfo:
        """What a model takes, gives and keeps; by default its latest version."""
        return await self._make(describe_call(name, version), self.timeout_s)

    async def sessions(self, model: str | None = None) -> list[SessionInfo]:
        """The sessions that the server holds, of one model or of all."""
        found: list[SessionInfo] = []
        page_token = ""
        while True:
            page = await self._make(list_call(model, page_token), self.timeout_s)
            found += page.sessions
            if not page.next_page_token:
                return found
            page_token = page.next_page_token

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
        try:
            answer = await self._start(call.method, call.request, timeout_s)
        except grpc.aio.AioRpcError as error:
            raise self._error(error, timeout_s) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                raise self._error(None, timeout_s) from None
            raise
        return call.read(answer)

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


class Session(SessionBase):
    """A state on the server, and the steps that move it on.

    >>> async with client.session("vowels") as session:
    ...     for frame in frames:  # (12,) each
    ...         probabilities = await session.step(frame)  # (9,)
    """

    def __init__(
        self,
        client: Client,
        start: Start | pb.SessionKey,
        timeout_s: float | None,
    ) -> None:
        super().__init__(start, timeout_s)
        self._client = client
        self._flows: list[Flow] = []

    async def open(self) -> Self:
        """Starts the session, or takes it up again; `async with` does the same and closes it."""
        self._must_be_new()
        if not isinstance(self._start, Start):
            await self._resume()
            return self
        if isinstance(self._start.source, Session):
            await self._start.source._settled()
        try:
            if (call := self._start.describe_call) is not None:
                await self._make(call)
            await self._make(self._open_call())
            if self._start.initial_state is not None:  # only now are the dtypes known
                await self.set_states(self._start.initial_state)
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
        return_sequences: bool = False,
        return_state: bool = False,
        timeout_s: float | None = None,
        **inputs: object,
    ) -> Output:
        """Runs one request of one or more timesteps; see `rnnserve.Session.step` for the shapes.

        Cancelling the waiting task cancels the request: the step is then committed or not, and
        `step_count` after `get_states()` tells.
        """
        return await self._make(
            self._step_call(x, inputs, return_sequences, return_state), timeout_s
        )

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
        flow = Flow(
            partial(self._client._start, "Stream", None, timeout_s),
            iterate(items),
            self._steps(return_sequences),
            window,
            partial(self._client._error, timeout_s=timeout_s),
            self._timeout_s,
        )
        self._flows = [other for other in self._flows if not other.over]
        self._flows.append(flow)
        return Stream(flow)

    async def reset_states(self, states: Mapping[str, object] | None = None) -> None:
        """Back to the model's initial state, or to the given states."""
        await self._make(self._reset_call(states))

    async def get_states(self) -> States:
        """State name to `(batch_size, …)` array; copies, which do not change the session."""
        return await self._make(self._get_call())

    async def set_states(self, states: Mapping[str, object]) -> None:
        """Every state of the model, `(batch_size, …)` each."""
        await self._make(self._set_call(states))

    async def close(self) -> None:
        """Ends the session; its memory is free at once. Does nothing where it has ended."""
        for flow in self._flows:
            flow.leave()
        if self._must_close:
            with suppress(*ALREADY_GONE):
                await self._make(self._close_call())
            self._mark_closed()

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

    async def _resume(self) -> None:
        call = self._client._start("Stream", [self._resume_request()], self._timeout_s)
        try:
            answers = [answer async for answer in call]
        except grpc.aio.AioRpcError as error:
            raise self._client._error(error, self._timeout_s) from error
        self._read_resumed(answers)

    async def _make(self, call: Call[T], timeout_s: float | None = None) -> T:
        await self._settled()
        return await self._client._make(call, timeout_s or self._timeout_s)

    async def _settled(self) -> None:
        """Waits for what streams that were left still have under way."""
        for flow in self._flows:
            if flow.left:
                await flow.finished()

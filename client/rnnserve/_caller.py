"""How the synchronous client makes a call: as often as it takes."""

from __future__ import annotations

import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from rnnserve._retry import LOST, RETRIES, Attempts, Retries
from rnnserve._statuses import from_call
from rnnserve._watch import Watch
from rnnserve.errors import ClientClosed, RnnserveError
from rnnserve.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from rnnserve._calls import Call

T = TypeVar("T")


class Caller:
    """A channel, and what has been learned of who is behind it. Threads may share it."""

    def __init__(
        self,
        channel: grpc.Channel,
        target: str,
        timeout_s: float | None,
        retries: Retries | None = RETRIES,
    ) -> None:
        self._channel = channel
        self._stub = SessionServiceStub(channel)
        self._retries = retries
        self._answered = False  # the server has, at least once
        self._closing = threading.Event()
        self._watch = Watch(retries)
        self.target = target
        self.timeout_s = timeout_s

    def close(self) -> None:
        """Ends the connection; calls under way fail with `ClientClosed`. May be called twice."""
        self._closing.set()
        self._watch.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.target}{', closed' if self._closing.is_set() else ''}>"

    def _make(self, call: Call[T], timeout_s: float | None) -> T:
        """Makes the call and reads its answer, or raises what went wrong."""
        return call.read(self._call(call.method, call.request, timeout_s))

    def _call(self, method: str, request: object, timeout_s: float | None) -> Any:
        return self._repeat(partial(self._start, method, request), timeout_s)

    def _repeat(self, attempt: Callable[[float | None], T], timeout_s: float | None) -> T:
        """The first answer that comes of attempts, which are given how long they may take."""
        now = monotonic()
        attempts = Attempts(self._retries if self._answered else None, timeout_s, now)
        while True:
            try:
                answer = attempt(attempts.timeout(now))
            except grpc.RpcError as reason:
                error = self._error(reason, timeout_s)
                self._answered |= bool(error.kind)
                pause_s = attempts.pause(monotonic()) if isinstance(error, LOST) else None
                if pause_s is None:
                    raise error from reason
                self._pause(pause_s)
                now = monotonic()
            else:
                self._answered = True
                return answer

    def _pause(self, seconds: float) -> None:
        """Waits; ClientClosed where the client is closed meanwhile."""
        self._closing.wait(seconds)
        self._must_be_open()

    def _start(self, method: str, request: object, timeout_s: float | None) -> Any:
        self._must_be_open()
        try:
            return getattr(self._stub, method)(request, timeout=timeout_s)
        except ValueError:  # how grpc says that another thread has closed the channel just now
            self._must_be_open()
            raise

    def _error(self, error: grpc.RpcError, timeout_s: float | None) -> RnnserveError:
        if self._closing.is_set():
            return ClientClosed(f"{self!r} was closed while the call was under way")
        assert isinstance(error, grpc.Call)  # as those are that end a call
        return from_call(error, self.target, timeout_s)

    def _must_be_open(self) -> None:
        if self._closing.is_set():
            raise ClientClosed(f"{self!r}: connect again")

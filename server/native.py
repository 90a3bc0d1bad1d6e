"""A front that does HTTP/2 and gRPC outside the interpreter and hands unary calls over in lists.

`NativeServer` stands before a grpc.aio server, on the port that clients see. Unary methods
(`server.rpc.methods`) are answered from here; everything else (streams, health, reflection, unknown
methods) the front passes through a Unix socket to the server behind it.

Whose turn it is to ask the front for calls: a thread waits for the first ones, hands that list to
the event loop, and rests. The loop begins all calls of the list, so that their steps share a batch,
and from then on asks by itself, once in each of its turns, until there are none; then the thread
waits again. So a burst costs one change of threads, a busy server none at all, and calls and
cancellations are never handled in another order than the front gave them in.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
from functools import partial
from typing import TYPE_CHECKING

import grpc
import structlog
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from server.rpc.caller import Caller, host_of
from server.rpc.methods import decoded, nothing_to_cancel
from server.rpc.status import Failure, failure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from server.rpc.methods import Answer, Cancel, Method

    Details: TypeAlias = tuple[tuple[tuple[str, str | bytes], ...], str, float | None]
    Event: TypeAlias = tuple[int, int, int, bytes | None, bytes | str | None, Details | None]

log = structlog.get_logger()

MAX_CALLS = 256  # begun in one turn of the event loop; streams get theirs in between
IO_THREADS = 2  # reads and writes more than the interpreter can answer
NO_LIMIT = 2**31 - 1  # of calls per connection, as with grpcio: the core bounds what it takes in
LINGER_S = 0.2  # for the last answers to leave: closing the front drops what it has not sent yet
POLL_S = 0.01


class NativeServer:
    """Is used as a grpc.aio server is. All of it runs on the event loop, but for `_wait`."""

    def __init__(
        self, behind: grpc.aio.Server, max_message_bytes: int, *, shares_port: bool = False
    ) -> None:
        self._behind = behind
        self._shares_port = shares_port
        self._max_message_bytes = max_message_bytes
        self._methods: list[Method] = []
        self._open: dict[int, Cancel] = {}  # calls without an answer, and how to withdraw each
        self._stopping = False
        self._threads_turn = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._wait, name="native front", daemon=True)

    def add_insecure_port(self, address: str) -> int:
        """Bind `address`; the port. Raises RuntimeError where that is not possible."""
        front_log = logging.getLogger("pygrpc_native")
        front_log.handlers = [logging.NullHandler()]  # what it says here we say
        try:
            self._front = NativeGrpcFront(
                address,
                [],
                io_threads=IO_THREADS,
                call_details=True,  # or it would not tell of calls that end before their answer
                max_concurrent_streams=NO_LIMIT,
                reuse_port=self._shares_port,
            )
        except OSError as error:
            raise RuntimeError(str(error)) from error
        front_log.handlers = [_OurLog()]
        return self._front.bound_port

    def add_methods(self, methods: Iterable[Method]) -> None:
        """Answer these here, not behind."""
        self._methods += methods

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="rnnserve-")  # nobody else may look in
        socket = f"{self._folder.name}/grpc"
        self._behind.add_insecure_port(f"unix:{socket}")
        await self._behind.start()
        self._front.set_fallback(socket)
        self._front.add_methods([(method.path, False) for method in self._methods])
        self._front.start()
        self._thread.start()

    async def stop(self, grace: float | None) -> None:
        """Refuse new calls, give those that are open `grace` seconds, end the others."""
        self._stopping = True
        await asyncio.gather(self._behind.stop(grace), self._answered(grace or 0.0))
        for call_id, cancel in list(self._open.items()):
            self._fail(call_id, SHUTTING_DOWN)
            _withdraw(cancel)
        await asyncio.sleep(LINGER_S if grace else 0)
        self._front.close()
        self._threads_turn.release()
        self._thread.join()
        self._folder.cleanup()

    async def _answered(self, limit_s: float) -> None:
        give_up_s = self._loop.time() + limit_s
        while self._open and self._loop.time() < give_up_s:  # noqa: ASYNC110  (only at the end)
            await asyncio.sleep(POLL_S)

    # ---- calls come in ---------------------------------------------------------------------------

    def _wait(self) -> None:
        while (events := self._front.recv_batch_details(MAX_CALLS)) is not None:
            self._loop.call_soon_threadsafe(self._take, events)
            self._threads_turn.acquire()

    def _look(self) -> None:
        if events := self._front.recv_batch_details(MAX_CALLS, 0):
            self._take(events)
        else:
            self._threads_turn.release()

    def _take(self, events: list[Event]) -> None:
        try:
            for kind, call_id, method, payload, _, details in events:
                if kind == EVENT_CALL:
                    assert payload is not None
                    assert details is not None
                    self._begin(call_id, self._methods[method], payload, details)
                elif (cancel := self._open.pop(call_id, None)) is not None:
                    _withdraw(cancel)
        finally:
            self._loop.call_soon(self._look)  # after the runs that these calls have made due

    def _begin(self, call_id: int, method: Method, payload: bytes, details: Details) -> None:
        self._open[call_id] = nothing_to_cancel
        if self._stopping:
            return self._fail(call_id, SHUTTING_DOWN)
        if len(payload) > self._max_message_bytes:
            return self._fail(call_id, self._too_large("Received", payload))
        try:
            request = decoded(method, payload)
            caller = Caller(lambda: details[0], lambda: host_of(details[1]))
            cancel = method.begin(request, partial(self._answer, call_id), caller)
        except Exception as error:
            self._answer(call_id, error)
        else:
            if call_id in self._open:
                self._open[call_id] = cancel

    # ---- and answers go out ----------------------------------------------------------------------

    def _answer(self, call_id: int, answer: Answer) -> None:
        if call_id not in self._open:  # withdrawn meanwhile
            return
        if isinstance(answer, Exception):
            return self._fail(call_id, failure(answer))
        try:
            payload = answer.SerializeToString()
        except Exception as error:
            return self._fail(call_id, failure(error))
        if len(payload) > self._max_message_bytes:
            return self._fail(call_id, self._too_large("Sent", payload))
        del self._open[call_id]
        self._front.respond(call_id, payload)

    def _fail(self, call_id: int, failed: Failure) -> None:
        del self._open[call_id]
        # The front keeps gRPC's own keys to itself: a client's retry policy goes without its hint.
        metadata = [pair for pair in failed.metadata if not pair[0].startswith("grpc-")]
        self._front.fail(call_id, failed.code.value[0], failed.text, metadata)

    def _too_large(self, what: str, payload: bytes) -> Failure:
        """In grpcio's words."""
        text = f"SERVER: {what} message larger than max"
        sizes = f"({len(payload)} vs. {self._max_message_bytes})"
        return Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{text} {sizes}", ())


SHUTTING_DOWN = Failure(grpc.StatusCode.UNAVAILABLE, "the server is shutting down", ())


def _withdraw(cancel: Cancel) -> None:
    try:
        cancel()
    except Exception:  # the other calls of the list have no part in it
        log.exception("could not cancel a call")


class _OurLog(logging.Handler):
    """Passes on what the front logs by itself, such as connections that it could not accept."""

    def emit(self, record: logging.LogRecord) -> None:
        log.warning(record.getMessage())

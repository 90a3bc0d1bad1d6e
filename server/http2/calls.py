"""Calls, one for each stream of HTTP/2: unary ones, streams, and those of nobody."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import grpc
import structlog
from h2.errors import ErrorCodes

from server.http2.headers import BEGIN, BEGIN_BLOCK, END_BLOCK, END_OK, trailers
from server.http2.messages import Messages, framed
from server.http2.protocol import STREAM_WINDOW
from server.http2.refusals import Refused, too_large
from server.rpc.methods import nothing_to_cancel
from server.rpc.status import Failure

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from server.http2.connection import Connection
    from server.http2.headers import Asked
    from server.http2.protocol import Header
    from server.rpc.methods import Cancel

log = structlog.get_logger()

SHUTTING_DOWN = Failure(grpc.StatusCode.UNAVAILABLE, "the server is shutting down", ())
LATE = Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", ())
UNKNOWN = Failure(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", ())


class Call:
    """What all calls have in common. An answer may come at any time: late ones are dropped."""

    __slots__ = (
        "_begun",
        "_cancel",
        "_connection",
        "_end",
        "_half_closed",
        "_max_bytes",
        "_messages",
        "_over",
        "_timer",
        "_unacknowledged",
        "_unsent",
        "stream_id",
    )

    def __init__(self, max_bytes: int, connection: Connection, stream_id: int) -> None:
        self.stream_id = stream_id
        self._connection = connection
        self._max_bytes = max_bytes
        self._messages = Messages(max_bytes)
        self._unacknowledged = 0  # bytes of the stream's window
        self._half_closed = False
        self._begun = False  # the answer's headers are sent
        self._unsent: deque[memoryview] = deque()
        self._end: Sequence[Header] | None = None  # to be sent after that
        self._over = False  # whatever comes now is dropped
        self._timer: asyncio.TimerHandle | None = None
        self._cancel: Cancel = nothing_to_cancel

    # ---- what kinds of calls do ------------------------------------------------------------------

    def _start(self, asked: Asked) -> None:
        """The headers are in."""

    def _take(self) -> None:
        """More of the request is in, or all of it. Raises Refused."""

    def _stalled(self) -> bool:
        """Whether the client should wait before it sends more."""
        return False

    def _sent(self) -> None:
        """All that was to be sent has been."""

    # ---- what the client does --------------------------------------------------------------------

    def begin(self, asked: Asked) -> None:
        if asked.http_status:
            return self._finish([(b":status", b"%d" % asked.http_status)])
        if asked.problem:
            return self._fail(asked.problem)
        if asked.timeout_s is not None:
            self._timer = self._connection.loop.call_later(asked.timeout_s, self.give_up, LATE)
        self._messages.encoding = asked.encoding
        self._start(asked)

    def received(self, data: bytes, size: int) -> None:
        """A part of the request; `size` is what it takes of the stream's window."""
        if not self._over:
            self._unacknowledged += size
            self._messages.add(data)
            self._go_on()

    def half_closed(self) -> None:
        """The request is complete."""
        self._half_closed = True
        if not self._over:
            self._go_on()

    def withdraw(self) -> None:
        """The client waits no longer."""
        if self.let_go():
            self.cancel()

    def let_go(self) -> bool:
        """Take no answer any more; whether one was to come, so that `cancel` has to follow."""
        was_over = self._over
        if not was_over:
            self._drop()
        return not was_over

    def give_up(self, why: Failure) -> None:
        """Whatever the answer would be, it comes too late."""
        if not self._over:
            self._fail(why)
            self.cancel()

    def _go_on(self) -> None:
        try:
            self._take()
        except Refused as refused:
            self.give_up(refused.failure)
        if self._unacknowledged >= STREAM_WINDOW // 2 and not self._stalled():
            self._acknowledge()

    def _acknowledge(self) -> None:
        if not (self._half_closed or self._over):
            protocol = self._connection.protocol
            protocol.increment_flow_control_window(self._unacknowledged, self.stream_id)
            self._unacknowledged = 0
            self._connection.flush_soon()

    # ---- what the server does --------------------------------------------------------------------

    def _send(self, message: bytes) -> None:
        """Send a message, or keep it until it may be sent. Raises Refused."""
        if len(message) > self._max_bytes:
            raise Refused(too_large("Sent", len(message), self._max_bytes))
        self._send_begin()
        connection, protocol = self._connection, self._connection.protocol
        data = framed(message)
        size = len(data)
        if (
            self._unsent
            or connection.paused
            or size > protocol.max_outbound_frame_size
            or size > protocol.local_flow_control_window(self.stream_id)
        ):
            self._unsent.append(memoryview(data))
            self.send_more()
        else:
            protocol.send_data_now(self.stream_id, data)
        connection.flush_soon()

    def send_more(self) -> None:
        """Send what could not be sent before, as far as it can be now."""
        connection, protocol, unsent = self._connection, self._connection.protocol, self._unsent
        while unsent:
            window = protocol.local_flow_control_window(self.stream_id)
            if window <= 0 or connection.paused:
                return connection.block(self)
            data = unsent[0]
            size = min(len(data), window, protocol.max_outbound_frame_size)
            protocol.send_data(self.stream_id, data[:size])
            if size == len(data):
                unsent.popleft()
            else:
                unsent[0] = data[size:]
        connection.flush_soon()
        if self._end is not None:
            self._send_end()
        else:
            self._sent()

    def _fail(self, failed: Failure) -> None:
        """End the call; what has not been sent of its answer is not."""
        self._unsent.clear()
        end = trailers(failed)
        self._finish(end if self._begun else [*BEGIN, *end])

    def _finish(self, end: Sequence[Header] = END_OK) -> None:
        unsent = self._unsent
        self._drop()
        self._end = end
        if unsent:
            self._unsent = unsent
        else:
            self._send_end()
        self._connection.flush_soon()

    def _send_begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._connection.protocol.send_block(self.stream_id, BEGIN_BLOCK)

    def _send_end(self) -> None:
        assert self._end is not None
        protocol = self._connection.protocol
        if self._end is END_OK:
            protocol.send_block(self.stream_id, END_BLOCK, end_stream=True)
        else:
            protocol.send_headers(self.stream_id, self._end, end_stream=True)
        if not protocol.streams[self.stream_id].closed:  # we do not want to hear the rest
            protocol.reset_stream(self.stream_id, ErrorCodes.NO_ERROR)
        self._connection.forget(self)

    def _drop(self) -> None:
        self._over = True
        self._messages = NO_MESSAGES
        self._unsent = deque()
        if self._timer is not None:
            self._timer.cancel()

    def cancel(self) -> None:
        """What was asked for need not be done."""
        cancel, self._cancel = self._cancel, nothing_to_cancel
        try:
            cancel()
        except Exception:  # the other calls have no part in it
            log.exception("could not cancel a call")


NO_MESSAGES = Messages(0)


class UnknownCall(Call):
    """Nobody answers to that path."""

    __slots__ = ()

    def _start(self, asked: Asked) -> None:
        self._fail(UNKNOWN)

"""One client's connection.

All messages that the socket brings at a time are handled at once, so that their steps share a
batch. What they are answered at once leaves in one write when the last of them is begun; later
answers leave at the end of the turn of the event loop that they come in, together.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from hyperframe.frame import GoAwayFrame

from server.http2.calls import UnknownCall
from server.http2.headers import asked, texts
from server.http2.protocol import CONNECTION_WINDOW, ClientError, Protocol
from server.rpc.caller import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from h2.events import Event

    from server.http2.calls import Call
    from server.http2.headers import Asked
    from server.rpc.status import Failure

log = structlog.get_logger()

NOBODYS = partial(UnknownCall, 0)
WRITE_BUFFER_BYTES = 2**18  # more than this unsent: the client gets no further answers, nor calls


class Connection(asyncio.Protocol):
    """`kinds` makes calls, by their path; `connections` are those that there are."""

    def __init__(
        self,
        kinds: Mapping[bytes, Callable[[Connection, int], Call]],
        connections: set[Connection],
    ) -> None:
        self.protocol = Protocol()
        self.calls: dict[int, Call] = {}
        self.loop = asyncio.get_running_loop()
        self.paused = False  # the client does not read what it is sent
        self._kinds = kinds
        self._connections = connections
        self._transport: asyncio.Transport
        self._blocked: dict[Call, None] = {}  # have more to send than they may; an ordered set
        self._unacknowledged = 0  # bytes of DATA frames
        self._flush_is_due = False
        self._draining = False
        self._closed = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            DataReceived: self._other_data,
            RequestReceived: self._request,
            StreamEnded: self._ended,
            StreamReset: self._reset,
            WindowUpdated: self._window_updated,
            RemoteSettingsChanged: self._settings_changed,
        }

    # ---- the socket ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's
        self._transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        self._connections.add(self)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._connections.discard(self)
        self._withdraw_all()

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self._flush_is_due = True  # below
        try:
            self.protocol.receive(data, self._data, self._event)
        except ClientError as error:
            log.info("a client broke the rules of HTTP/2", error=str(error))
            self.close()
        except Exception:  # a bug of ours; the other connections have no part in it
            log.exception("a connection failed")
            self.close()
        else:
            self._flush()

    def eof_received(self) -> None:
        """Nobody half-closes a connection of HTTP/2: it is closed."""

    def pause_writing(self) -> None:
        self.paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        self._transport.resume_reading()
        self._go_on()
        self.flush_soon()

    def close(self) -> None:
        """Close it when what is there has been sent."""
        if not self._closed:
            self._flush()
            self._closed = True
            self._transport.close()
            self._withdraw_all()

    def abort(self) -> None:
        """Close it whatever is unsent."""
        self._transport.abort()

    def _withdraw_all(self) -> None:
        calls, self.calls = self.calls, {}
        self._blocked.clear()
        # withdrawing one may bring others their answers at once: none of them is taken any more
        withdrawn = [call for call in calls.values() if call.let_go()]
        for call in withdrawn:
            call.cancel()

    # ---- what frames say -------------------------------------------------------------------------

    def _request(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        if self._draining:
            self.protocol.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return self.protocol.forget(stream_id)
        request = asked(event.headers)
        kind = self._kinds.get(request.path, NOBODYS)
        call = self.calls[stream_id] = kind(self, stream_id)
        call.begin(request)

    def _event(self, event: Event) -> None:
        if (handle := self._handlers.get(type(event))) is not None:
            handle(event)

    def _other_data(self, event: DataReceived) -> None:
        self._data(event.stream_id, event.data, event.flow_controlled_length)

    def _data(self, stream_id: int, data: bytes, size: int) -> None:
        self._unacknowledged += size
        if self._unacknowledged >= CONNECTION_WINDOW // 2:
            self.protocol.increment_flow_control_window(self._unacknowledged)
            self._unacknowledged = 0
        if (call := self.calls.get(stream_id)) is not None:
            call.received(data, size)

    def _ended(self, event: StreamEnded) -> None:
        if (call := self.calls.get(event.stream_id)) is not None:
            call.half_closed()

    def _reset(self, event: StreamReset) -> None:
        if (call := self.calls.get(event.stream_id)) is not None:
            self.forget(call)
            call.withdraw()

    def _window_updated(self, event: WindowUpdated) -> None:
        if not self._blocked:
            return
        if not event.stream_id:
            self._go_on()
        elif (call := self.calls.get(event.stream_id)) in self._blocked:
            assert call is not None
            self._go_on_with(call)

    def _settings_changed(self, event: RemoteSettingsChanged) -> None:
        self._go_on()  # windows may have grown

    # ---- what calls say --------------------------------------------------------------------------

    def caller(self, request: Asked) -> Caller:
        return Caller(lambda: texts(request.headers), self._address)

    def _address(self) -> str:
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    def flush_soon(self) -> None:
        """Something is to be sent."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop.call_soon(self._flush)

    def block(self, call: Call) -> None:
        """The call has more to send than it may."""
        self._blocked[call] = None

    def forget(self, call: Call) -> None:
        """The call is over, on both sides or by a reset."""
        del self.calls[call.stream_id]
        self._blocked.pop(call, None)
        self.protocol.forget(call.stream_id)
        if self._draining and not self.calls:
            self.loop.call_soon(self.close)

    def _go_on(self) -> None:
        for call in list(self._blocked):
            self._go_on_with(call)

    def _go_on_with(self, call: Call) -> None:
        if call in self._blocked:
            del self._blocked[call]  # if it is again, then behind the others
            call.send_more()

    def _flush(self) -> None:
        self._flush_is_due = False
        if (data := self.protocol.data_to_send()) and not self._closed:
            self._transport.write(data)

    # ---- the end ---------------------------------------------------------------------------------

    def drain(self) -> None:
        """Tell the client to make no new calls here; close when those that are open are over."""
        if self._closed or self._draining:
            return
        self._draining = True
        self._flush()
        last = self.protocol.highest_inbound_stream_id
        self._transport.write(GoAwayFrame(last_stream_id=last).serialize())  # h2's would end it all
        if not self.calls:
            self.close()

    def abandon(self, why: Failure) -> None:
        """End the calls that are open, and the connection."""
        for call in list(self.calls.values()):
            call.give_up(why)
        self.close()

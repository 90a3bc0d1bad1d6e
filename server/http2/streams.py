"""Calls with messages both ways."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from server.errors import RequestError
from server.http2.calls import Call
from server.http2.refusals import CUT, Refused
from server.rpc.methods import decoded
from server.rpc.status import failure

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from server.http2.connection import Connection
    from server.http2.headers import Asked
    from server.http2.methods import StreamMethod


class StreamCall(Call):
    """At most `max_open` messages have no answer yet, or one that has not been sent: a client that
    sends faster than that, or does not read, is slowed down by HTTP/2's flow control.
    """

    __slots__ = ("_handle", "_handling", "_method", "_open", "_slots", "_waiting")

    def __init__(
        self, method: StreamMethod, max_bytes: int, connection: Connection, stream_id: int
    ) -> None:
        super().__init__(max_bytes, connection, stream_id)
        self._method = method
        self._open = 0
        self._waiting = 0  # answers that may not be sent yet
        self._slots: deque[Slot] = deque()  # if ordered: those whose answer has not left
        self._handling = False

    def _start(self, asked: Asked) -> None:
        self._handle, self._cancel = self._method.start(self._connection.caller(asked))
        self._send_begin()
        self._connection.flush_soon()

    def _stalled(self) -> bool:
        return self._open >= self._method.max_open

    def _take(self) -> None:
        self._handling = True
        try:
            while not (self._over or self._stalled()):
                if (message := self._messages.next()) is None:
                    break
                self._begin(message)
        finally:
            self._handling = False
        if self._half_closed and not self._open and not self._over:
            if self._messages:
                raise Refused(CUT)
            self._finish()
            self.cancel()  # it may hold something for as long as the stream lasts

    def _begin(self, message: bytes) -> None:
        self._open += 1
        slot = Slot(self)
        if self._method.ordered:
            self._slots.append(slot)
        try:
            request = decoded(self._method, message)
        except RequestError as error:
            return slot.fill(error)
        self._handle(request, slot)

    def filled(self, slot: Slot, message: Message | Exception) -> None:
        """The answer for `slot` is there; an exception ends the call when its turn comes."""
        if self._over:
            return
        slot.message = message
        try:
            if not self._method.ordered:
                self._answer(message)
            while self._slots and (first := self._slots[0].message) is not None:
                self._slots.popleft()
                self._answer(first)
        except Refused as refused:
            return self.give_up(refused.failure)
        if not self._handling and (self._messages or self._half_closed):
            self._go_on()

    def _answer(self, message: Message | Exception) -> None:
        if isinstance(message, Exception):
            raise Refused(failure(message))
        self._send(message.SerializeToString())
        if self._unsent:
            self._waiting += 1
        else:
            self._open -= 1

    def _sent(self) -> None:
        self._open -= self._waiting
        self._waiting = 0
        if not self._handling:
            self._go_on()


class Slot:
    """The place of one answer in a stream."""

    __slots__ = ("_call", "message")

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self.message: Any = None

    def fill(self, message: Message | Exception) -> None:
        self._call.filled(self, message)

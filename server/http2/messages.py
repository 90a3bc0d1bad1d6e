"""gRPC's framing: messages in a stream of bytes, each behind five bytes of its own."""

from __future__ import annotations

import struct

from server.http2.compression import NOT_SAID_HOW, PLAIN, decompressed
from server.http2.refusals import BAD_FLAG, NOT_ONE, Refused, too_large

PREFIX = struct.Struct(">BI")  # compressed or not, length
PREFIX_BYTES = PREFIX.size


class Messages:
    """Takes chunks of any size, gives whole messages. Nothing is allocated for what is announced
    and has not come. Those that are marked as compressed are so by `encoding`.
    """

    __slots__ = ("_buffer", "_max_bytes", "encoding")

    def __init__(self, max_bytes: int) -> None:
        self.encoding = PLAIN
        self._max_bytes = max_bytes
        self._buffer: bytes | bytearray = b""

    def add(self, data: bytes) -> None:
        if not self._buffer:
            self._buffer = data  # mostly a message, and whole
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data

    def next(self) -> bytes | None:
        """The next message that is whole. Raises Refused."""
        buffer = self._buffer
        if len(buffer) < PREFIX_BYTES:
            return None
        end = self._end()
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            message = bytes(view[PREFIX_BYTES:end])
        compressed = buffer[0]
        if len(buffer) == end:
            self._buffer = b""
        else:
            if isinstance(buffer, bytes):
                self._buffer = buffer = bytearray(buffer)
            del buffer[:end]
        return decompressed(message, self.encoding, self._max_bytes) if compressed else message

    def only(self) -> bytes:
        """The one message that there must be, when all has come. Raises Refused."""
        message = self.next()
        if message is None or self._buffer:
            raise Refused(NOT_ONE)
        return message

    def check(self) -> None:
        """Whether what has come of the one message can become one. Raises Refused."""
        if len(self._buffer) >= PREFIX_BYTES and len(self._buffer) > self._end():
            raise Refused(NOT_ONE)

    def __bool__(self) -> bool:
        """Whether something has come after the last message."""
        return bool(self._buffer)

    def _end(self) -> int:
        """Where the first message ends. Raises Refused."""
        compressed, length = PREFIX.unpack_from(self._buffer)
        if compressed and self.encoding == PLAIN:
            raise Refused(NOT_SAID_HOW)
        if compressed > 1:
            raise Refused(BAD_FLAG)
        if length > self._max_bytes:
            raise Refused(too_large("Received", length, self._max_bytes))
        return PREFIX_BYTES + int(length)


def framed(message: bytes) -> bytes:
    return PREFIX.pack(0, len(message)) + message

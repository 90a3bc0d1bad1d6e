"""h2's connection, with what a server of many short messages needs of it.

Nearly all frames are DATA frames of open streams, and nearly all headers that we send are the same
two blocks. For these this file does what h2 does, with less around it; everything else is h2's. So
the version of h2 is bound to what this file knows of its inside, and h2 as a client, which checks
every frame, is what it is tested with.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import FrameTooLargeError, ProtocolError
from h2.settings import SettingCodes, Settings
from h2.stream import StreamInputs, StreamState
from hyperframe.exceptions import HyperframeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from h2.events import Event
    from h2.stream import H2Stream
    from hyperframe.frame import Frame, GoAwayFrame

    Header: TypeAlias = tuple[bytes, bytes]

STREAM_WINDOW = 2**20  # bytes of a stream that the client may send before they are dealt with
CONNECTION_WINDOW = 2**24
MAX_FRAME_BYTES = 2**16
MAX_HEADER_BYTES = 2**14
MAX_STREAMS = 2**14  # open at a time, of one connection

CONFIGURATION = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,  # `headers` looks at what counts; nothing is passed on
    normalize_inbound_headers=False,
)
SETTINGS = {
    SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
    SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
    SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
    SettingCodes.ENABLE_CONNECT_PROTOCOL: 0,
}

FRAME = struct.Struct(">HBBBL")  # of a length of 24 bits the upper 16, the lower 8; kind, flags, id
DATA, HEADERS = 0, 1  # kinds
END_STREAM, END_HEADERS, PADDED = 1, 4, 8  # flags


class ClientError(Exception):
    """The client broke the rules of HTTP/2: it has been told, and nothing else can be sent."""


class Protocol(H2Connection):
    def __init__(self) -> None:
        super().__init__(CONFIGURATION)
        self.local_settings = Settings(client=False, initial_values=SETTINGS)
        self.max_inbound_frame_size = MAX_FRAME_BYTES
        self.incoming_buffer.max_frame_size = MAX_FRAME_BYTES
        self.decoder.max_header_list_size = MAX_HEADER_BYTES
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - 65_535)

    def receive(
        self,
        chunk: bytes,
        on_data: Callable[[int, bytes, int], None],
        on_event: Callable[[Event], None],
    ) -> None:
        """Tell what the frames say that are whole now, each before the next is looked at: a stream
        that is reset is still there when what came before that is dealt with.

        `on_data` gets a stream's id, bytes and what they take of its window. Raises ClientError.
        """
        buffer = self.incoming_buffer
        try:
            buffer.add_data(chunk)
        except ProtocolError as error:
            raise self._broken(error) from error
        while True:
            try:
                stream = self._simple_data()
                if stream is not None:
                    events: Sequence[Event] = ()
                elif (frame := next(buffer, None)) is not None:
                    events = self._receive_frame(frame)
                else:
                    return
            except (ProtocolError, HyperframeError) as error:
                raise self._broken(error) from error
            if stream is not None:
                data, ended = self._found
                on_data(stream.stream_id, data, len(data))
                if ended and stream.state_machine.state is StreamState.OPEN:
                    events = stream.state_machine.process_input(StreamInputs.RECV_END_STREAM)
            for event in events:
                on_event(event)

    def _simple_data(self) -> H2Stream | None:
        """Take a DATA frame as nearly all are off the buffer; its stream, or None if there is none.
        What it brings is `_found` then. Raises ProtocolError.
        """
        buffer = self.incoming_buffer
        received = buffer._data
        if len(received) < FRAME.size:
            return None
        upper, lower, kind, flags, stream_id = FRAME.unpack_from(received)
        size: int = (upper << 8) | lower
        if size > MAX_FRAME_BYTES:  # h2 would say so when all of it had come
            raise FrameTooLargeError(
                f"a frame of {size} bytes; at most {MAX_FRAME_BYTES} are taken"
            )
        if kind != DATA or buffer._headers_buffer:
            return None
        end = FRAME.size + size
        stream = self.streams.get(stream_id)
        if (
            stream is None
            or flags & PADDED
            or len(received) < end
            or stream.state_machine.state is not StreamState.OPEN
            or stream._expected_content_length is not None
        ):
            return None
        self._inbound_flow_control_window_manager.window_consumed(size)
        stream._inbound_window_manager.window_consumed(size)
        self._found = bytes(received[FRAME.size : end]), flags & END_STREAM
        del received[:end]
        return stream

    def send_data_now(self, stream_id: int, data: bytes) -> None:
        """What fits into one frame and into the windows; the stream must be open for us."""
        size = len(data)
        self.outbound_flow_control_window -= size
        self.streams[stream_id].outbound_flow_control_window -= size
        self._data_to_send += FRAME.pack(size >> 8, size & 0xFF, DATA, 0, stream_id)
        self._data_to_send += data

    def send_block(self, stream_id: int, block: HeaderBlock, *, end_stream: bool = False) -> None:
        """Send headers that are always the same."""
        if self.encoder.table_size_changes:  # must be told before the next headers
            return self.send_headers(stream_id, block.headers, end_stream=end_stream)
        machine = self.streams[stream_id].state_machine
        machine.process_input(StreamInputs.SEND_HEADERS)
        flags = END_HEADERS
        if end_stream:
            machine.process_input(StreamInputs.SEND_END_STREAM)
            flags |= END_STREAM
        size = len(block.encoded)
        self._data_to_send += FRAME.pack(0, size, HEADERS, flags, stream_id)
        self._data_to_send += block.encoded

    def forget(self, stream_id: int) -> None:
        """The stream is closed, on both sides or by a reset."""
        stream = self.streams.pop(stream_id)
        self._closed_streams[stream_id] = stream.closed_by

    def _open_streams(self, remainder: int) -> int:
        """h2 looks at each stream there is, for each that begins; here closed ones are forgotten
        at once, and the others are the client's.
        """
        return len(self.streams)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        """The client will make no more calls; h2 would send nothing any more, not even answers."""
        return [], []

    def _broken(self, error: Exception) -> ClientError:
        self._terminate_connection(getattr(error, "error_code", ErrorCodes.PROTOCOL_ERROR))
        return ClientError(repr(error))


class HeaderBlock:
    """Headers as they travel, without a word of the table that HPACK fills on the way (RFC 7541,
    6.2.2: literal without indexing), so that the same bytes are right at any time.
    """

    def __init__(self, headers: Sequence[Header]) -> None:
        self.headers = headers
        self.encoded = b"".join(b"\0" + _literal(name) + _literal(value) for name, value in headers)
        assert len(self.encoded) < 256


def _literal(text: bytes) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text

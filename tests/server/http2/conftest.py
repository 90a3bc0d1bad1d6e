"""A server with methods to play with, and a client that can do what no well-behaved client does:
h2 in the test, frame by frame.
"""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from rnnserve.v1 import session_pb2 as pb
from server.errors import LimitReached, StepGap
from server.http2.methods import StreamMethod
from server.http2.server import Http2Server
from server.rpc.methods import Method

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MAX_BYTES = 3_000_000
MAX_OPEN = 4
PATH = "/test.Service/"


def message(snapshot: bytes = b"") -> bytes:
    return pb.RestoreRequest(snapshot=snapshot).SerializeToString()


def framed(raw: bytes, compressed: int = 0) -> bytes:
    return struct.pack(">BI", compressed, len(raw)) + raw


@dataclass
class Service:
    """What was begun, who waits for an answer, and who was withdrawn."""

    begun: list[bytes] = field(default_factory=list)
    waiting: list[tuple[bytes, Callable[[Any], None]]] = field(default_factory=list)
    cancelled: int = 0
    streams: int = 0

    def unary(self) -> list[Method]:
        names = ("echo", "wait", "refuse", "crash", "grow")
        return [Method(PATH + name, pb.RestoreRequest, getattr(self, name)) for name in names]

    def streaming(self) -> list[StreamMethod]:
        return [
            StreamMethod(PATH + name, pb.RestoreRequest, start, MAX_OPEN, ordered)
            for name, start, ordered in (
                ("Echo", lambda caller: self._start(self._echo), False),
                ("Wait", lambda caller: self._start(self._wait), False),
                ("Ordered", lambda caller: self._start(self._wait), True),
            )
        ]

    def cancel(self) -> None:
        self.cancelled += 1

    def echo(self, request: Any, respond: Any, caller: Any) -> Any:
        self.begun.append(request.snapshot)
        respond(request)
        return self.cancel

    def wait(self, request: Any, respond: Any, caller: Any) -> Any:
        self.begun.append(request.snapshot)
        self.waiting.append((request.snapshot, respond))
        return self.cancel

    def refuse(self, request: Any, respond: Any, caller: Any) -> Any:
        if request.snapshot:
            raise StepGap("größer als 100 %\n", 7)
        raise LimitReached("too many", 2.5)

    def crash(self, request: Any, respond: Any, caller: Any) -> Any:
        raise ZeroDivisionError("secret")

    def grow(self, request: Any, respond: Any, caller: Any) -> Any:
        respond(pb.RestoreRequest(snapshot=bytes(MAX_BYTES + 1)))
        return self.cancel

    def _start(self, handle: Any) -> Any:
        self.streams += 1
        return handle, self.cancel

    def _echo(self, request: Any, slot: Any) -> None:
        self.begun.append(request.snapshot)
        slot.fill(request)

    def _wait(self, request: Any, slot: Any) -> None:
        self.begun.append(request.snapshot)
        self.waiting.append((request.snapshot, slot.fill))

    def answer(self, snapshot: bytes | None = None) -> None:
        """Answer those who wait, or the one that asked with `snapshot`."""
        chosen = [one for one in self.waiting if snapshot in (None, one[0])]
        for one in chosen:
            self.waiting.remove(one)
            one[1](pb.RestoreRequest(snapshot=one[0]))


@dataclass
class Seen:
    """What has come on a stream."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        end = self.trailers or self.headers
        return int(end["grpc-status"]) if "grpc-status" in end else None

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class Wire:
    """A client of HTTP/2 that does what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.seen: dict[int, Seen] = defaultdict(Seen)
        self.terminated: ConnectionTerminated | None = None
        self.pongs = 0
        self.acknowledges = True
        self.gone = False

    def begin(self, path: str, *headers: tuple[str, str], end: bool = False, **changes: str) -> int:
        """Send the headers of a call; its stream. `changes` are of pseudo headers and the kind."""
        stream = self.h2.get_next_available_stream_id()
        given = {
            ":method": changes.get("method", "POST"),
            ":scheme": "http",
            ":path": path,
            ":authority": "test",
            "content-type": changes.get("kind", "application/grpc"),
            "te": "trailers",
        }
        self.h2.send_headers(stream, [*given.items(), *headers], end_stream=end)
        self.seen[stream] = Seen()
        return stream

    def call(self, name: str, *snapshots: bytes, end: bool = True) -> int:
        stream = self.begin(PATH + name)
        self.h2.send_data(stream, b"".join(framed(message(s)) for s in snapshots), end_stream=end)
        return stream

    async def flush(self) -> None:
        """Without waiting for the server to read: it may be waiting for us."""
        self.writer.write(self.h2.data_to_send())
        await asyncio.sleep(0)

    async def read(self) -> None:
        """Take in what comes next."""
        data = await asyncio.wait_for(self.reader.read(2**16), 10)
        if not data:
            self.gone = True
            return
        for event in self.h2.receive_data(data):
            self._note(event)
        if self.terminated is None:
            await self.flush()

    def _note(self, event: Any) -> None:
        match event:
            case ResponseReceived():
                self.seen[event.stream_id].headers = dict(event.headers)
            case TrailersReceived():
                self.seen[event.stream_id].trailers = dict(event.headers)
            case DataReceived():
                self.seen[event.stream_id].data += event.data
                if self.acknowledges and event.flow_controlled_length:
                    size = event.flow_controlled_length
                    self.h2.acknowledge_received_data(size, event.stream_id)
            case StreamEnded():
                self.seen[event.stream_id].ended = True
            case StreamReset():
                self.seen[event.stream_id].reset = event.error_code
            case ConnectionTerminated():
                self.terminated = event
            case PingAckReceived():
                self.pongs += 1

    async def until(self, condition: Callable[[], object]) -> None:
        await self.flush()
        while not condition():
            assert not self.gone, "the server has closed the connection"
            await self.read()

    async def read_on(self) -> None:
        while not self.gone:
            await self.read()

    async def finished(self, stream: int) -> Seen:
        await self.until(lambda: self.seen[stream].over)
        return self.seen[stream]

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


@dataclass
class Rig:
    server: Http2Server
    service: Service
    port: int
    opened: list[Any] = field(default_factory=list)

    async def wire(self, *, window: int | None = None) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        self.opened.append(wire)
        if window is not None:
            wire.h2.local_settings.update({SettingCodes.INITIAL_WINDOW_SIZE: window})
            wire.h2.local_settings.acknowledge()
        wire.h2.initiate_connection()
        await wire.flush()
        return wire

    def channel(self) -> grpc.aio.Channel:
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=unlimited)
        self.opened.append(channel)
        return channel

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  (the server tells nobody)
                await asyncio.sleep(0.001)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    server, service = Http2Server(MAX_BYTES), Service()
    server.add_methods(service.unary())
    server.add_streams(service.streaming())
    rig = Rig(server, service, server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    yield rig
    for one in rig.opened:
        await one.close()
    await server.stop(None)

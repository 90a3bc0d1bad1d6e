"""A TCP proxy that misbehaves: between a gRPC client and its server it delays, stalls, trickles and
cuts connections and turns new ones away, by chance.

    with FaultProxy("127.0.0.1:8001", seed=1) as proxy:
        client = rnnserve.connect(proxy.address)
        ...
    print(proxy.counts)

    python tests/endtoend/fault_proxy.py 127.0.0.1:8001 --port 9001 --seed 1

The chances come from the seed; which message they meet is a matter of timing. It knows just enough
of HTTP/2 (RFC 9113, section 4.1) to tell data from all else, so that it can lose an answer on
purpose.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Self

CHUNK = 65536
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA = 0
LEAVING_S = 0.002  # what was written is on its way by then; abort() would take it back

# How a connection ends: its last chunk is not forwarded, or half of it; or it is a request and is
# forwarded, at once or when the client has already done something else about it; or it is an
# answer, which the server has sent and the client does not get.
Cut = Literal["before", "half", "after request", "late request", "lose answer"]
CUTS: tuple[Cut, ...] = ("before", "half", "after request", "late request", "lose answer")


@dataclass(frozen=True)
class Faults:
    """Chances are per chunk that passes, whatever its direction; lengths in seconds."""

    mean_chunks: float = 120.0  # of a connection, after which it is cut
    cuts: tuple[Cut, ...] = CUTS
    late_s: tuple[float, float] = (0.0, 0.3)
    delay: float = 0.05
    delay_s: tuple[float, float] = (0.0, 0.01)
    stall: float = 0.002
    stall_s: tuple[float, float] = (0.1, 1.5)
    trickle: float = 0.01  # byte by byte
    refusal: float = 0.3  # after a cut
    refusal_s: tuple[float, float] = (0.0, 0.2)


@dataclass
class Counts:
    """What has happened so far."""

    connections: int = 0
    chunks: int = 0
    delays: int = 0
    stalls: int = 0
    trickles: int = 0
    cuts: int = 0
    requests_unanswered: int = 0  # connections cut right after a request
    requests_late: int = 0  # connections of which the server got one more request afterwards
    answers_lost: int = 0  # pieces of them, that the server had sent
    refused: int = 0


class DataFrames:
    """Follows one direction of an HTTP/2 connection and counts its frames with data."""

    def __init__(self, preface: bytes) -> None:
        self._skip = len(preface)
        self._header = b""
        self._kind = -1

    def count(self, chunk: bytes) -> int:
        """How many begin in the chunk, or go on in it."""
        found = 0
        while chunk:
            if self._skip:
                passed = min(self._skip, len(chunk))
                self._skip -= passed
                chunk = chunk[passed:]
                found += self._kind == DATA
                continue
            taken = 9 - len(self._header)
            self._header, chunk = self._header + chunk[:taken], chunk[taken:]
            if len(self._header) == 9:
                self._skip = int.from_bytes(self._header[:3], "big")
                self._kind = self._header[3]
                self._header = b""
        return found


class Broken(Exception):
    """The proxy has cut the connection."""


@dataclass
class Connection:
    """What is decided for one connection, when it begins."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    chunks_left: int
    cut: Cut
    over: bool = False  # nothing more is forwarded
    late: bool = False  # but for one request, to the server
    still: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while it is stalled


class FaultProxy:
    """Forwards to `target`, "host:port", from `address`, on a thread of its own."""

    def __init__(
        self, target: str, *, seed: int = 0, faults: Faults = Faults(), port: int = 0
    ) -> None:
        host, _, target_port = target.rpartition(":")
        self._target = host, int(target_port)
        self._port = port
        self._chance = random.Random(seed)
        self._refuse_until = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy")
        self._ready = threading.Event()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults = faults
        self.counts = Counts()
        self.address = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the proxy does not listen"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        """Until the proxy is left."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._over.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._loop.time() < self._refuse_until:
            self.counts.refused += 1
            self._abort(writer)
            return
        self.counts.connections += 1
        with suppress(asyncio.CancelledError):  # asyncio would log it: the proxy is over
            await self._connect(reader, writer)

    async def _connect(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            answers, server = await asyncio.open_connection(*self._target)
        except OSError:
            self._abort(client)
            return
        chunks = 4 + int(self._chance.expovariate(1 / self._faults.mean_chunks))
        connection = Connection(client, server, chunks, self._chance.choice(self._faults.cuts))
        pumps = [
            asyncio.create_task(self._pump(connection, reader, server, PREFACE)),
            asyncio.create_task(self._pump(connection, answers, client, b"")),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if connection.late:
                await pumps[0]
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._abort(client)
            self._abort(server)

    async def _pump(
        self,
        connection: Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        preface: bytes,
    ) -> None:
        """One direction, until either side ends or the connection is cut."""
        frames = DataFrames(preface)
        with suppress(Broken, OSError):
            while chunk := await reader.read(CHUNK):
                data = frames.count(chunk)
                self.counts.chunks += 1
                await self._wait(connection)
                connection.chunks_left -= 1
                if connection.chunks_left <= 0:
                    await self._cut(connection, chunk, data, bool(preface))
                await self._forward(writer, chunk)

    async def _wait(self, connection: Connection) -> None:
        """Both directions of a stalled connection stand still."""
        if self._chance.random() < self._faults.delay:
            self.counts.delays += 1
            await asyncio.sleep(self._chance.uniform(*self._faults.delay_s))
        async with connection.still:
            if self._chance.random() < self._faults.stall:
                self.counts.stalls += 1
                await asyncio.sleep(self._chance.uniform(*self._faults.stall_s))

    async def _forward(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        if len(chunk) <= 4096 and self._chance.random() < self._faults.trickle:
            self.counts.trickles += 1
            for start in range(len(chunk)):
                writer.write(chunk[start : start + 1])
                await asyncio.sleep(0)
        else:
            writer.write(chunk)
        await writer.drain()

    async def _cut(self, connection: Connection, chunk: bytes, data: int, to_server: bool) -> None:
        """Raises Broken, unless the connection waits for another chunk to end with."""
        if connection.over:
            raise Broken
        cut = connection.cut
        wants_request, wants_answer = cut.endswith("request"), cut == "lose answer"
        if (wants_request or wants_answer) and not (data and to_server == wants_request):
            return
        connection.over = True
        self.counts.cuts += 1
        if self._chance.random() < self._faults.refusal:
            refusal_s = self._chance.uniform(*self._faults.refusal_s)
            self._refuse_until = self._loop.time() + refusal_s
        if wants_answer:
            self.counts.answers_lost += data
        elif wants_request:
            await self._send_last(connection, chunk)
        elif cut == "half":
            writer = connection.server if to_server else connection.client
            writer.write(chunk[: len(chunk) // 2])
            await asyncio.sleep(LEAVING_S)
        raise Broken

    async def _send_last(self, connection: Connection, request: bytes) -> None:
        if connection.cut == "late request":
            self.counts.requests_late += 1
            connection.late = True
            self._abort(connection.client)
            await asyncio.sleep(self._chance.uniform(*self._faults.late_s))
        else:
            self.counts.requests_unanswered += 1
        connection.server.write(request)
        await asyncio.sleep(LEAVING_S)

    def _abort(self, writer: asyncio.StreamWriter) -> None:
        """Ends a connection without a word, or, every other time, with a reset."""
        wire = writer.get_extra_info("socket")
        if wire is not None and self._chance.random() < 0.5:
            with suppress(OSError):
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="the server, host:port")
    parser.add_argument("--port", type=int, default=0, help="to listen on (any free one)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mean-chunks", type=float, default=Faults.mean_chunks)
    options = parser.parse_args()
    faults = Faults(mean_chunks=options.mean_chunks)
    with FaultProxy(options.target, seed=options.seed, faults=faults, port=options.port) as proxy:
        print(f"{proxy.address} -> {options.target}; end with Ctrl-C", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    print(proxy.counts)


if __name__ == "__main__":
    main()

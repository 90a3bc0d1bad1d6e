"""Compressed requests: what grpcio's clients send, and what nobody should."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from rnnserve.v1 import session_pb2 as pb
from server.http2.compression import decompressed
from server.http2.messages import Messages, framed
from server.http2.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = "/test.Service/"
BY: dict[bytes, Callable[[bytes], bytes]] = {b"gzip": gzip.compress, b"deflate": zlib.compress}
ENCODINGS = [pytest.param(encoding, id=encoding.decode()) for encoding in BY]
LIMIT = 100_000
NOISE = random.Random(1).randbytes(LIMIT)


def marked(data: bytes) -> bytes:
    """A message that is marked as compressed."""
    return b"\1" + framed(data)[1:]


def raw(snapshot: bytes) -> bytes:
    return pb.RestoreRequest(snapshot=snapshot).SerializeToString()


def refusal(data: bytes, encoding: bytes) -> Any:
    with pytest.raises(Refused) as caught:
        decompressed(data, encoding, LIMIT)
    return caught.value.failure


# ---- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [0, 1, 1000, LIMIT - 1, LIMIT])
@pytest.mark.parametrize("plain", [bytes(LIMIT), NOISE], ids=["zeros", "noise"])
def test_they_are_what_they_were(encoding: bytes, size: int, plain: bytes) -> None:
    data = BY[encoding](plain[:size])
    assert decompressed(data, encoding, LIMIT) == plain[:size]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("plain", [bytes(LIMIT + 1), NOISE + b"a"], ids=["zeros", "noise"])
def test_the_limit_is_of_what_they_become(encoding: bytes, plain: bytes) -> None:
    failure = refusal(BY[encoding](plain), encoding)
    assert failure.code is StatusCode.RESOURCE_EXHAUSTED
    assert failure.text.endswith("larger than max (over 100000 when decompressed vs. 100000)")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_takes_no_more_memory_than_the_limit(encoding: bytes) -> None:
    bomb = BY[encoding](bytes(500 * LIMIT))
    tracemalloc.start()
    try:
        assert refusal(bomb, encoding).code is StatusCode.RESOURCE_EXHAUSTED
        assert tracemalloc.get_traced_memory()[1] < 5 * LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_cut_changed_or_followed_by_something_is_refused(encoding: bytes) -> None:
    data = BY[encoding](b"one message" * 20)
    broken = [data[:n] for n in range(len(data))]
    broken += [data + b"\0", data + data, b"x" + data, data[:-1] + bytes([data[-1] ^ 1])]
    for one in broken:
        failure = refusal(one, encoding)
        assert failure.code is StatusCode.INTERNAL
        assert encoding.decode() in failure.text


def test_one_encoding_is_not_the_other() -> None:
    for encoding, other in ((b"gzip", b"deflate"), (b"deflate", b"gzip")):
        assert refusal(BY[other](b"a"), encoding).code is StatusCode.INTERNAL


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_compressed_and_plain_ones_may_alternate(encoding: bytes) -> None:
    messages, found = Messages(LIMIT), []
    messages.encoding = encoding
    stream = (
        framed(b"a") + marked(BY[encoding](b"b" * 99)) + framed(b"") + marked(BY[encoding](b""))
    )
    for n in range(len(stream)):
        messages.add(stream[n : n + 1])
        if (message := messages.next()) is not None:
            found.append(message)
    assert found == [b"a", b"b" * 99, b"", b""]
    assert not messages


# ---- calls ---------------------------------------------------------------------------------------

COMPRESSIONS = [grpc.Compression.Gzip, grpc.Compression.Deflate]
SNAPSHOTS = [b"a" * 50_000, b"", b"b" * 2_000_000, b"few", NOISE]


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_unary_calls_of_grpcio(rig: Any, compression: grpc.Compression) -> None:
    channel = rig.channel()
    for snapshot in SNAPSHOTS:
        echo = channel.unary_unary(PATH + "echo")
        assert await echo(raw(snapshot), compression=compression) == raw(snapshot)
    assert rig.service.begun == SNAPSHOTS


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("name", ["Echo", "Ordered"])
async def test_streams_of_grpcio(rig: Any, compression: grpc.Compression, name: str) -> None:
    stream = rig.channel().stream_stream(PATH + name)(compression=compression)
    for snapshot in SNAPSHOTS:
        await stream.write(raw(snapshot))
        if name == "Ordered":
            await rig.until(lambda: rig.service.waiting)
            rig.service.answer()
        assert await stream.read() == raw(snapshot)
    await stream.done_writing()
    assert await stream.code() is StatusCode.OK


async def test_a_client_learns_what_is_taken(rig: Any) -> None:
    wire = await rig.wire()
    seen = await wire.finished(wire.call("echo", b"a"))
    assert seen.headers["grpc-accept-encoding"] == "identity,deflate,gzip"
    assert "grpc-encoding" not in seen.headers
    assert seen.data == framed(raw(b"a"))


@pytest.mark.parametrize("name", ["echo", "Echo"])
async def test_a_bomb_ends_its_call_alone(rig: Any, name: str) -> None:
    wire = await rig.wire()
    stream = wire.begin(PATH + name, ("grpc-encoding", "gzip"))
    wire.h2.send_data(stream, marked(gzip.compress(bytes(10_000_000))), end_stream=True)
    other = wire.call("echo", b"on")
    assert (await wire.finished(stream)).status == StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert (await wire.finished(other)).status == 0
    assert rig.service.begun == [b"on"]


async def test_a_stream_that_breaks_off_keeps_what_was_before(rig: Any) -> None:
    """Its first messages are answered; a broken one ends it."""
    wire = await rig.wire()
    stream = wire.begin(PATH + "Echo", ("grpc-encoding", "deflate"))
    wire.h2.send_data(stream, marked(zlib.compress(raw(b"good"))) + marked(b"nonsense"))
    seen = await wire.finished(stream)
    assert seen.data == framed(raw(b"good"))
    assert seen.status == StatusCode.INTERNAL.value[0]
    assert rig.service.cancelled == 1

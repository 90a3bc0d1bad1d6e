"""What grpcio's clients see."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from structlog.testing import capture_logs

from rnnserve.v1 import session_pb2 as pb
from server.http2.server import Http2Server

if TYPE_CHECKING:
    from collections.abc import Awaitable

Code = grpc.StatusCode
PATH = "/test.Service/"


def raw(snapshot: bytes) -> bytes:
    return pb.RestoreRequest(snapshot=snapshot).SerializeToString()


def call(channel: Any, name: str, snapshot: bytes = b"", **options: Any) -> Any:
    return channel.unary_unary(PATH + name)(raw(snapshot), **options)


async def failed(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_answers_at_once_and_later(rig: Any) -> None:
    channel = rig.channel()
    assert await call(channel, "echo", b"now") == raw(b"now")
    later = asyncio.ensure_future(call(channel, "wait", b"later"))
    await rig.until(lambda: rig.service.waiting)
    rig.service.answer()
    assert await later == raw(b"later")
    assert rig.service.cancelled == 0


async def test_a_client_without_asyncio(rig: Any) -> None:
    def ask() -> bytes:
        with grpc.insecure_channel(f"127.0.0.1:{rig.port}") as channel:
            answers = channel.stream_stream(PATH + "Echo")(iter([raw(b"1"), raw(b"2")]))
            return b"".join([channel.unary_unary(PATH + "echo")(raw(b"0")), *answers])

    assert await asyncio.to_thread(ask) == raw(b"0") + raw(b"1") + raw(b"2")


async def test_errors_have_code_text_and_metadata(rig: Any) -> None:
    channel = rig.channel()
    limit = await failed(call(channel, "refuse"))
    assert (limit.code(), limit.details()) == (Code.RESOURCE_EXHAUSTED, "too many")
    assert dict(limit.trailing_metadata()) == {
        "rnnserve-error": "LimitReached", "retry-after-s": "2.5", "grpc-retry-pushback-ms": "2500",
    }  # fmt: skip
    gap = await failed(call(channel, "refuse", b"gap"))
    assert (gap.code(), gap.details()) == (Code.FAILED_PRECONDITION, "größer als 100 %\n")
    assert dict(gap.trailing_metadata())["expected-step"] == "7"
    crash = await failed(call(channel, "crash"))
    assert crash.code() is Code.INTERNAL
    assert "secret" not in crash.details()
    unknown = await failed(call(channel, "unknown"))
    assert (unknown.code(), unknown.details()) == (Code.UNIMPLEMENTED, "Method not found!")


@pytest.mark.parametrize("name", ["echo", "Echo"])
async def test_what_is_no_message_is_refused(rig: Any, name: str) -> None:
    channel = rig.channel()
    if name == "echo":
        error = await failed(channel.unary_unary(PATH + name)(b"\xff\xff"))
    else:
        stream = channel.stream_stream(PATH + name)()
        await stream.write(b"\xff\xff")
        error = await failed(stream.read())
        await rig.until(lambda: rig.service.cancelled)
    assert error.code() is Code.INVALID_ARGUMENT
    assert "rnnserve.v1.RestoreRequest" in error.details()
    assert dict(error.trailing_metadata())["rnnserve-error"] == "InvalidRequest"


async def test_size_limits(rig: Any) -> None:
    channel, limit = rig.channel(), rig.server._max_message_bytes
    largest = raw(bytes(limit - 5))
    assert len(largest) == limit
    assert await channel.unary_unary(PATH + "echo")(largest) == largest
    received = await failed(channel.unary_unary(PATH + "echo")(largest + b"\0"))
    assert received.code() is Code.RESOURCE_EXHAUSTED
    assert f"Received message larger than max ({limit + 1} vs. {limit})" in received.details()
    sent = await failed(call(channel, "grow"))
    assert (sent.code(), "Sent message larger" in sent.details()) == (Code.RESOURCE_EXHAUSTED, True)


async def test_large_messages_both_ways_beside_small_ones(rig: Any) -> None:
    channel = rig.channel()
    sizes = [2_000_000, 10, 1_000_000, 0, 2_999_000, 65_531] * 3
    answers = await asyncio.gather(*(call(channel, "echo", bytes(size)) for size in sizes))
    assert [len(answer) for answer in answers] == [len(raw(bytes(size))) for size in sizes]


async def test_cancelled_and_late_calls_are_withdrawn(rig: Any) -> None:
    channel = rig.channel()
    cancelled = call(channel, "wait", b"cancelled")
    await rig.until(lambda: rig.service.waiting)
    cancelled.cancel()
    late = await failed(call(channel, "wait", b"late", timeout=0.05))
    assert late.code() is Code.DEADLINE_EXCEEDED
    await rig.until(lambda: rig.service.cancelled == 2)
    rig.service.answer()  # too late: nobody is there, and nobody is disturbed
    assert await call(channel, "echo", b"on") == raw(b"on")


async def test_a_client_that_vanishes_takes_its_calls_with_it(rig: Any) -> None:
    channel = rig.channel()
    for n in range(50):
        asyncio.ensure_future(call(channel, "wait", bytes([n])).code())  # noqa: RUF006
    streams = [channel.stream_stream(PATH + "Wait")() for _ in range(10)]
    for stream in streams:
        await stream.write(raw(b"s"))
    await rig.until(lambda: len(rig.service.waiting) == 60)
    await channel.close()
    await rig.until(lambda: rig.service.cancelled == 60)
    rig.service.answer()
    assert await call(rig.channel(), "echo", b"on") == raw(b"on")


async def test_a_client_that_vanishes_leaves_no_answer_behind(rig: Any) -> None:
    """To withdraw one call may bring the others of the same connection their answers."""
    wire, delivered, begun = await rig.wire(), 0, [bytes([n]) for n in range(5)]

    def cancel() -> None:
        nonlocal delivered
        rig.service.cancelled += 1
        delivered += len(rig.service.waiting)
        rig.service.answer()  # raises what their calls raise

    rig.service.cancel = cancel
    for snapshot in begun:
        wire.call("wait", snapshot)
    await wire.flush()
    await rig.until(lambda: len(rig.service.waiting) == 5)
    with capture_logs() as logs:
        await wire.close()
        await rig.until(lambda: rig.service.cancelled == 5)
    assert (delivered, logs) == (5, [])


def requests_alive() -> list[Any]:
    gc.collect()
    return [kept for kept in gc.get_objects() if type(kept) is pb.RestoreRequest]


async def test_thousands_at_a_time_and_nothing_is_kept_of_them(rig: Any) -> None:
    others = {id(kept) for kept in requests_alive()}  # of tests before
    channel = rig.channel()
    for _ in range(2):
        calls = [asyncio.ensure_future(call(channel, "wait", b"%d" % n)) for n in range(3000)]
        await rig.until(lambda: len(rig.service.waiting) == 3000)
        rig.service.answer()
        assert await asyncio.gather(*calls) == [raw(b"%d" % n) for n in range(3000)]
    (connection,) = rig.server._connections
    assert (connection.calls, connection.protocol.streams) == ({}, {})
    gc.collect()
    assert not [kept for kept in requests_alive() if id(kept) not in others]


async def test_open_calls_are_answered_before_the_server_stops(rig: Any) -> None:
    channel = rig.channel()
    calls = [asyncio.ensure_future(call(channel, "wait", bytes([n]))) for n in range(100)]
    stream = channel.stream_stream(PATH + "Wait")()
    await stream.write(raw(b"s"))
    await rig.until(lambda: len(rig.service.waiting) == 101)
    stopping = asyncio.ensure_future(rig.server.stop(10))
    await asyncio.sleep(0.05)
    assert (await failed(call(channel, "echo"))).code() is Code.UNAVAILABLE
    rig.service.answer()
    assert await asyncio.gather(*calls) == [raw(bytes([n])) for n in range(100)]
    assert await stream.read() == raw(b"s")
    await stream.done_writing()
    assert await stream.code() is Code.OK
    await asyncio.wait_for(stopping, 5)
    assert rig.service.cancelled == rig.service.streams == 1  # the stream, which is over


async def test_calls_that_are_not_answered_in_time_are_ended(rig: Any) -> None:
    channel = rig.channel()
    calls = [asyncio.ensure_future(call(channel, "wait")) for _ in range(100)]
    await rig.until(lambda: len(rig.service.waiting) == 100)
    await rig.server.stop(0.05)
    for one in calls:
        assert (await failed(one)).code() is Code.UNAVAILABLE
    assert rig.service.cancelled == 100


async def test_a_port_in_use_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RuntimeError, match="in use"):
            Http2Server(1000).add_insecure_port(f"127.0.0.1:{taken.getsockname()[1]}")


async def test_a_port_may_be_shared() -> None:
    servers = [Http2Server(1000, shares_port=True) for _ in range(2)]
    port = servers[0].add_insecure_port("127.0.0.1:0")
    assert servers[1].add_insecure_port(f"127.0.0.1:{port}") == port
    for server in servers:
        await server.stop(None)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name them otherwise")
async def test_clients_that_have_vanished_are_found_out(rig: Any) -> None:
    """By TCP, two minutes after the last word: what is set is what each connection has."""
    assert await call(rig.channel(), "echo", b"a") == raw(b"a")
    (connection,) = rig.server._connections
    accepted = connection._transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    options = [accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
    idle_s, interval_s, count = options
    assert idle_s + interval_s * count == 120

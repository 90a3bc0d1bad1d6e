"""Frame by frame: what no client of grpcio's would send, at moments that it cannot choose."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from rnnserve.v1 import session_pb2 as pb
from server.http2 import protocol

PATH = "/test.Service/"
OK, INVALID, EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 0, 3, 8, 12, 13, 14


def framed(snapshot: bytes, compressed: int = 0) -> bytes:
    raw = pb.RestoreRequest(snapshot=snapshot).SerializeToString()
    return struct.pack(">BI", compressed, len(raw)) + raw


def messages_in(data: bytes) -> list[bytes]:
    found = []
    while data:
        (size,) = struct.unpack(">I", data[1:5])
        assert len(data) >= 5 + size
        found.append(pb.RestoreRequest.FromString(data[5 : 5 + size]).snapshot)
        data = data[5 + size :]
    return found


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


# ---- messages and frames -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["echo", "Echo"])
async def test_cut_at_every_byte(rig: Any, name: str) -> None:
    """Messages over DATA frames, and frames over reads."""
    wire = await rig.wire()
    stream = wire.begin(PATH + name)
    for byte in framed(b"abc"):
        wire.h2.send_data(stream, bytes([byte]))
    wire.h2.send_data(stream, b"", end_stream=True)
    for byte in wire.h2.data_to_send():
        wire.writer.write(bytes([byte]))
        await wire.writer.drain()
        await asyncio.sleep(0)
    seen = await wire.finished(stream)
    assert (messages_in(seen.data), seen.status) == ([b"abc"], OK)


async def test_what_comes_together_begins_together(rig: Any) -> None:
    wire = await rig.wire()
    streams = [wire.call("echo", b"%d" % n) for n in range(300)]
    streams.append(wire.call("Echo", *(b"s%d" % n for n in range(200))))
    await wire.flush()
    await wire.until(lambda: all(wire.seen[stream].ended for stream in streams))
    assert [messages_in(wire.seen[s].data) for s in streams[:300]] == [
        [b"%d" % n] for n in range(300)
    ]
    assert messages_in(wire.seen[streams[300]].data) == [b"s%d" % n for n in range(200)]


async def test_padded_data_and_priorities(rig: Any) -> None:
    wire = await rig.wire()
    stream = wire.begin(PATH + "Echo")
    wire.h2.prioritize(stream, weight=10)
    wire.h2.send_data(stream, framed(b"padded"), pad_length=200)
    wire.h2.end_stream(stream)
    assert messages_in((await wire.finished(stream)).data) == [b"padded"]


async def test_trailers_end_a_request(rig: Any) -> None:
    wire = await rig.wire()
    stream = wire.call("Echo", b"a", end=False)
    wire.h2.send_headers(stream, [("x-done", "yes")], end_stream=True)
    seen = await wire.finished(stream)
    assert (messages_in(seen.data), seen.status) == ([b"a"], OK)


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("echo", b"", INTERNAL),
        ("echo", framed(b"a") * 2, INTERNAL),
        ("echo", framed(b"a")[:-1], INTERNAL),
        ("Echo", framed(b"a")[:-1], INTERNAL),
        ("echo", framed(b"a", compressed=1), INTERNAL),
        ("Echo", framed(b"a", compressed=1), INTERNAL),
        ("echo", struct.pack(">BI", 0, 2**31), EXHAUSTED),
        ("Echo", struct.pack(">BI", 0, 2**32 - 1), EXHAUSTED),
        ("echo", struct.pack(">BI", 0, 2) + b"\xff\xff", INVALID),
        ("Echo", b"", OK),
    ],
)
async def test_requests_that_are_not_one(rig: Any, name: str, data: bytes, status: int) -> None:
    wire = await rig.wire()
    stream = wire.begin(PATH + name)
    wire.h2.send_data(stream, data, end_stream=True)
    seen = await wire.finished(stream)
    assert (seen.status, seen.data) == (status, b"")
    assert ("grpc-message" in (seen.trailers or seen.headers)) == (status != OK)


async def test_headers_that_are_no_call_of_ours(rig: Any) -> None:
    wire = await rig.wire()
    cases = {
        wire.begin(PATH + "echo", kind="application/json", end=True): {":status": "415"},
        wire.begin(PATH + "echo", method="GET", end=True): {":status": "405"},
        wire.begin("/", end=True): {"grpc-status": "12"},
        wire.begin(PATH + "echo", ("grpc-encoding", "snappy")): {
            "grpc-status": "12", "grpc-accept-encoding": "identity,deflate,gzip",
        },
        wire.begin(PATH + "echo", ("grpc-timeout", "1x")): {"grpc-status": "13"},
        wire.begin(PATH + "echo", ("grpc-timeout", "999999999S")): {"grpc-status": "13"},
        wire.begin(PATH + "Wait", ("grpc-timeout", "10m")): {},
    }  # fmt: skip
    for stream, expected in cases.items():
        seen = await wire.finished(stream)
        assert expected.items() <= seen.headers.items()
    assert seen.status == 4
    assert rig.service.begun == []
    assert rig.service.cancelled == 1
    assert messages_in((await wire.finished(wire.call("echo", b"on"))).data) == [b"on"]


# ---- streams -------------------------------------------------------------------------------------


async def test_half_close_waits_for_what_is_pending(rig: Any) -> None:
    wire = await rig.wire()
    stream = wire.call("Wait", b"1", b"2")
    await wire.flush()
    await rig.until(lambda: len(rig.service.waiting) == 2)
    rig.service.answer(b"2")
    await wire.until(lambda: wire.seen[stream].data)
    assert not wire.seen[stream].ended
    rig.service.answer(b"1")
    seen = await wire.finished(stream)
    assert (messages_in(seen.data), seen.status) == ([b"2", b"1"], OK)
    assert rig.service.cancelled == rig.service.streams == 1  # it is told that it is over


async def test_ordered_answers_wait_for_each_other(rig: Any) -> None:
    wire = await rig.wire()
    stream = wire.call("Ordered", b"1", b"2", b"3", end=False)
    await wire.flush()
    await rig.until(lambda: len(rig.service.waiting) == 3)
    for snapshot in (b"3", b"2", b"1"):
        rig.service.answer(snapshot)
    await wire.until(lambda: len(wire.seen[stream].data) == 3 * len(framed(b"1")))
    assert messages_in(wire.seen[stream].data) == [b"1", b"2", b"3"]


async def test_so_many_are_open_and_no_more(rig: Any) -> None:
    wire = await rig.wire()
    stream = wire.call("Wait", *(b"%d" % n for n in range(10)))
    await wire.flush()
    await rig.until(lambda: len(rig.service.waiting) == 4)
    for n in range(10):
        await asyncio.sleep(0.002)
        assert len(rig.service.waiting) == min(4, 10 - n)
        rig.service.answer(b"%d" % n)
    seen = await wire.finished(stream)
    assert messages_in(seen.data) == [b"%d" % n for n in range(10)]


@pytest.mark.parametrize("cut", range(0, 60, 3))
@pytest.mark.parametrize("name", ["echo", "wait", "Echo", "Wait"])
async def test_a_reset_at_any_moment(rig: Any, name: str, cut: int) -> None:
    """In one read with what came before it, and in one of its own."""
    for together in (True, False):
        wire = await rig.wire()
        stream = wire.begin(PATH + name)
        head = wire.h2.data_to_send()
        wire.h2.send_data(stream, framed(b"abcdefgh"))
        wire.h2.end_stream(stream)
        sent = wire.h2.data_to_send()[:cut]
        whole = 0  # only whole frames: a reset comes between frames
        while whole + 9 <= len(sent):
            size = 9 + int.from_bytes(sent[whole : whole + 3], "big")
            if whole + size > len(sent):
                break
            whole += size
        wire.writer.write(head + sent[:whole])
        if not together:
            await asyncio.sleep(0.002)
        wire.writer.write(frame(3, 0, stream, struct.pack(">I", ErrorCodes.CANCEL)))
        other = await rig.wire()
        assert messages_in((await other.finished(other.call("echo", b"on"))).data) == [b"on"]
        ping = struct.pack(">Q", 7)
        wire.writer.write(frame(6, 0, 0, ping))
        await wire.writer.drain()
        reply = b""
        while frame(6, 1, 0, ping) not in reply:
            got = await asyncio.wait_for(wire.reader.read(2**16), 5)
            assert got, "the server has closed the connection"
            reply += got
        assert all(not connection.calls for connection in rig.server._connections)
        await wire.close()
        await other.close()
        await rig.until(lambda: not rig.server._connections)
    rig.service.answer()


async def test_a_connection_lost_with_work_under_way(rig: Any) -> None:
    wire = await rig.wire()
    for n in range(20):
        wire.call("wait", b"%d" % n)
        wire.call("Wait", b"s%d" % n, end=False)
    await wire.flush()
    await rig.until(lambda: len(rig.service.waiting) == 40)
    wire.writer.transport.abort()
    await rig.until(lambda: rig.service.cancelled == 40)
    rig.service.answer()
    assert not rig.server._connections


# ---- flow control --------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0, 1, 7, 100])
async def test_a_client_with_a_tiny_window(rig: Any, window: int) -> None:
    wire = await rig.wire(window=window)
    wire.acknowledges = False
    payload = bytes(range(256)) * 2
    streams = [wire.call("echo", payload), wire.call("Echo", payload, b"2"), wire.call("grow", b"")]
    expected = [framed(payload), framed(payload) + framed(b"2"), b""]
    await wire.flush()
    await wire.until(lambda: wire.seen[streams[2]].ended)  # an error needs no window
    for _ in range(3000):
        if all(wire.seen[stream].ended for stream in streams):
            break
        for stream in streams[:2]:
            if not wire.seen[stream].ended:
                wire.h2.increment_flow_control_window(1 + window, stream)
        await wire.flush()
        await wire.read()
        for stream, data in zip(streams, expected, strict=True):
            assert data.startswith(wire.seen[stream].data)
    assert [wire.seen[stream].data for stream in streams] == expected
    assert wire.seen[streams[0]].status == OK


async def test_a_window_that_grows_by_settings(rig: Any) -> None:
    wire = await rig.wire(window=10)
    stream = wire.call("echo", bytes(1000))
    await wire.until(lambda: len(wire.seen[stream].data) == 10)
    wire.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10_000})
    assert messages_in((await wire.finished(stream)).data) == [bytes(1000)]


async def test_who_sends_without_reading_is_slowed_down(rig: Any) -> None:
    """A stream's answers wait for its window, and its messages for the answers: what the client
    may send is what its own window to the server holds.
    """
    wire = await rig.wire(window=1000)
    wire.acknowledges = False
    stream = wire.begin(PATH + "Echo")
    one, sent = framed(bytes(990)), 0
    await wire.until(lambda: wire.h2.remote_settings.initial_window_size == protocol.STREAM_WINDOW)
    while wire.h2.local_flow_control_window(stream) >= len(one):
        wire.h2.send_data(stream, one)
        sent += 1
        await wire.flush()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wire.read_on(), 0.3)
    assert wire.h2.local_flow_control_window(stream) < len(one)
    assert len(rig.service.begun) < 10
    assert messages_in((await wire.finished(wire.call("echo", b"on"))).data) == [b"on"]
    wire.h2.end_stream(stream)
    while not wire.seen[stream].ended:
        wire.h2.increment_flow_control_window(500_000, stream)
        wire.h2.increment_flow_control_window(500_000)
        await wire.flush()
        await wire.read()
    assert len(messages_in(wire.seen[stream].data)) == sent


async def test_who_does_not_read_at_all_is_not_read_either(rig: Any) -> None:
    """The socket is full: the server holds a bounded amount, and goes on when it empties."""
    wire = await rig.wire(window=2**30)
    wire.h2.increment_flow_control_window(2**30)
    await wire.until(lambda: wire.h2.max_outbound_frame_size == protocol.MAX_FRAME_BYTES)
    wire.writer.transport.pause_reading()
    for _ in range(200):
        wire.call("echo", bytes(60_000))
        wire.writer.write(wire.h2.data_to_send())
        wire.h2.outbound_flow_control_window = 2**30
        await asyncio.sleep(0)
    await asyncio.sleep(0.3)
    (connection,) = rig.server._connections
    assert connection.paused
    assert connection._transport.get_write_buffer_size() < 2**23
    done = len(rig.service.begun)
    assert done < 200
    wire.writer.transport.resume_reading()
    streams = list(wire.seen)
    await wire.until(lambda: all(wire.seen[stream].ended for stream in streams))
    assert len(rig.service.begun) == 200
    assert all(len(wire.seen[stream].data) > 60_000 for stream in streams)


async def test_a_large_message_needs_more_than_the_first_window(rig: Any) -> None:
    wire = await rig.wire()
    stream, rest = wire.begin(PATH + "Echo"), framed(bytes(2_900_000))
    while rest:
        size = min(len(rest), wire.h2.local_flow_control_window(stream), 16_384)
        if not size:
            await wire.read()
            continue
        wire.h2.send_data(stream, rest[:size])
        rest = rest[size:]
        await wire.flush()
    wire.h2.end_stream(stream)
    assert messages_in((await wire.finished(stream)).data) == [bytes(2_900_000)]


# ---- the connection ------------------------------------------------------------------------------


async def test_pings_are_answered(rig: Any) -> None:
    wire = await rig.wire()
    for n in range(5):
        wire.h2.ping(struct.pack(">Q", n))
    await wire.until(lambda: wire.pongs == 5)


async def test_a_smaller_header_table(rig: Any) -> None:
    """The change is told before the next headers, even where those are always the same."""
    wire = await rig.wire()
    assert messages_in((await wire.finished(wire.call("echo", b"1"))).data) == [b"1"]
    wire.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 0})
    await wire.flush()
    assert messages_in((await wire.finished(wire.call("echo", b"2"))).data) == [b"2"]
    assert (await wire.finished(wire.call("refuse", b""))).status == EXHAUSTED


async def test_drain_tells_and_finishes(rig: Any) -> None:
    wire = await rig.wire()
    stream = wire.call("wait", b"a")
    await wire.flush()
    await rig.until(lambda: rig.service.waiting)
    stopping = asyncio.ensure_future(rig.server.stop(10))
    await asyncio.sleep(0.02)
    late = frame(1, 5, stream + 2, wire.h2.encoder.encode([(":method", "POST"), (":path", "/x")]))
    wire.writer.write(late)
    await asyncio.sleep(0.02)
    rig.service.answer()
    received = await asyncio.wait_for(wire.reader.read(), 5)  # to its end
    kinds = frames_in(received)
    assert (7, 0, struct.pack(">II", stream, 0)) in kinds
    assert (3, stream + 2, struct.pack(">I", ErrorCodes.REFUSED_STREAM)) in kinds
    assert (0, stream, framed(b"a")) in kinds
    await asyncio.wait_for(stopping, 5)


def frames_in(received: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    while received:
        size = int.from_bytes(received[:3], "big")
        stream = int.from_bytes(received[5:9], "big")
        found.append((received[3], stream, received[9 : 9 + size]))
        received = received[9 + size :]
    return found


async def test_a_client_that_goes_away_gets_its_answers(rig: Any) -> None:
    wire = await rig.wire()
    stream = wire.call("wait", b"a")
    await wire.flush()
    await rig.until(lambda: rig.service.waiting)
    wire.writer.write(frame(7, 0, 0, struct.pack(">II", 0, 0)))
    await wire.writer.drain()
    await asyncio.sleep(0.02)
    rig.service.answer()
    assert messages_in((await wire.finished(stream)).data) == [b"a"]


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
REQUEST = b"\x83\x86\x44\x01/"  # POST, http, a path


@pytest.mark.parametrize(
    "sent",
    {
        "HTTP/1": b"GET / HTTP/1.1\r\n\r\n" * 5,
        "garbage": bytes(range(256)) * 20,
        "garbage after the preface": PREFACE + bytes(range(255, 0, -1)) * 20,
        "data of no stream": PREFACE + frame(0, 0, 1, b"abc"),
        "a stream of the server's": PREFACE + frame(1, 5, 2, REQUEST),
        "a frame that is too long": PREFACE + frame(0, 0, 1, bytes(2**17)),
        "headers that are none": PREFACE + frame(1, 5, 1, b"\xff" * 50),
        "headers without an end, and others": (
            PREFACE + frame(1, 0, 1, REQUEST) + frame(1, 4, 3, REQUEST)
        ),
        "a flood of CONTINUATION": PREFACE + frame(1, 0, 1) + frame(9, 0, 1, b"\0") * 5000,
        "a bomb of headers": (
            PREFACE
            + frame(1, 0, 1, b"\x40\x01a\x7f\xa1\x1e" + bytes(4000))
            + frame(9, 4, 1, b"\xbe" * 16_000)
        ),
        "a window beyond all": (
            PREFACE + frame(8, 0, 0, struct.pack(">I", 2**31 - 1)) * 2
        ),
        "a window that grows by nothing": PREFACE + frame(8, 0, 0, bytes(4)),
        "settings of a wrong size": PREFACE + frame(4, 0, 0, b"abc"),
        "a ping of a wrong size": PREFACE + frame(6, 0, 0, b"abc"),
    }.items(),
    ids=lambda case: case[0],
)  # fmt: skip
async def test_who_breaks_the_rules_is_alone_with_it(rig: Any, sent: tuple[str, bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(sent[1])
    received = b""
    try:
        while chunk := await asyncio.wait_for(reader.read(2**16), 5):
            received += chunk
    except ConnectionResetError:
        pass  # it had not read everything
    else:
        assert frames_in(received)[-1][0] == 7  # GOAWAY
    writer.close()
    wire = await rig.wire()
    assert messages_in((await wire.finished(wire.call("echo", b"on"))).data) == [b"on"]
    await rig.until(lambda: len(rig.server._connections) == 1)


async def test_more_than_the_window_is_a_broken_rule(rig: Any) -> None:
    """The short way for DATA frames counts, too."""
    wire = await rig.wire()
    stream = wire.call("Wait", *(b"%d" % n for n in range(4)), end=False)
    await wire.flush()
    await rig.until(lambda: len(rig.service.waiting) == 4)
    for _ in range(protocol.STREAM_WINDOW // 16_000 + 1):
        wire.writer.write(frame(0, 0, stream, framed(bytes(15_900))))
    await wire.until(lambda: wire.terminated or wire.gone)
    assert wire.terminated.error_code is ErrorCodes.FLOW_CONTROL_ERROR
    await rig.until(lambda: rig.service.cancelled == 1)


async def test_too_many_streams(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(protocol.SETTINGS, SettingCodes.MAX_CONCURRENT_STREAMS, 5)
    wire = await rig.wire()
    for n in range(5):
        wire.call("wait", b"%d" % n)
    await wire.flush()
    await rig.until(lambda: len(rig.service.waiting) == 5)
    rig.service.answer()
    await wire.until(lambda: all(seen.ended for seen in wire.seen.values()))
    for n in range(5):  # ended ones do not count
        wire.call("wait", b"%d" % n)
    await wire.flush()
    await rig.until(lambda: len(rig.service.waiting) == 5)
    wire.h2.remote_settings.update({SettingCodes.MAX_CONCURRENT_STREAMS: 100})
    wire.h2.remote_settings.acknowledge()
    wire.call("wait", b"one too many")
    await wire.until(lambda: wire.terminated or wire.gone)
    await rig.until(lambda: rig.service.cancelled == 5)

"""The native front before a grpc.aio server: what it hands over, and what happens to calls that are
cancelled, late, too large, no messages, many, or open when the server stops.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from rnnserve.v1 import session_pb2 as pb
from server.errors import LimitReached, StepGap
from server.rpc.methods import Method

native = pytest.importorskip("server.native")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

Code = grpc.StatusCode
MAX_BYTES = 100_000
PATH = "/test.Service/"


@dataclass
class Calls:
    """A service: what was begun, and who waits. `requests` are snapshots, as bytes to play with."""

    waiting: list[Any] = field(default_factory=list)
    cancelled: list[Any] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)  # the event loop's turn that each call began in
    turn: int = 0

    def methods(self) -> list[Method]:
        names = ("echo", "wait", "refuse", "crash", "grow")
        kind = pb.RestoreRequest
        return [Method(PATH + name, kind, getattr(self, name)) for name in names]

    def echo(self, request: Any, respond: Any, caller: Any) -> Any:
        self._note_turn()
        respond(request)
        return lambda: self.cancelled.append(request)

    def wait(self, request: Any, respond: Any, caller: Any) -> Any:
        self._note_turn()
        self.waiting.append(respond)
        return lambda: self.cancelled.append(request)

    def refuse(self, request: Any, respond: Any, caller: Any) -> Any:
        if request.snapshot == b"gap":
            raise StepGap("größer als 100 %", 7)
        raise LimitReached("too many", 2.5)

    def crash(self, request: Any, respond: Any, caller: Any) -> Any:
        raise ZeroDivisionError("secret")

    def grow(self, request: Any, respond: Any, caller: Any) -> Any:
        respond(pb.RestoreRequest(snapshot=bytes(2 * MAX_BYTES)))

    def _note_turn(self) -> None:
        if not self.turns or self.turns[-1] != self.turn:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self.turns.append(self.turn)

    def _next_turn(self) -> None:
        self.turn += 1


class Rig:
    def __init__(self, server: Any, calls: Calls, port: int) -> None:
        self.server, self.calls, self.port = server, calls, port
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=unlimited)

    def call(self, name: str, snapshot: bytes = b"", **options: Any) -> Any:
        return self.raw(name, pb.RestoreRequest(snapshot=snapshot).SerializeToString(), **options)

    def raw(self, name: str, payload: bytes, **options: Any) -> Any:
        return self.channel.unary_unary(PATH + name)(payload, **options)

    async def waiting(self, count: int) -> None:
        while len(self.calls.waiting) < count:  # noqa: ASYNC110  (the front tells nobody)
            await asyncio.sleep(0.001)


async def behind_says(request: bytes, context: Any) -> bytes:
    return b"behind: " + request


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    behind = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(behind_says)
    others = grpc.method_handlers_generic_handler("other.Service", {"Say": handler})
    behind.add_generic_rpc_handlers((others,))
    server, calls = native.NativeServer(behind, MAX_BYTES), Calls()
    server.add_methods(calls.methods())
    rig = Rig(server, calls, server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    yield rig
    await rig.channel.close()
    await server.stop(None)


async def failed(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_answers_at_once_and_later(rig: Rig) -> None:
    assert (await rig.call("echo", b"now")).endswith(b"now")
    later = asyncio.ensure_future(rig.call("wait", b"x"))
    await rig.waiting(1)
    assert not later.done()
    rig.calls.waiting[0](pb.RestoreRequest(snapshot=b"later"))
    assert (await later).endswith(b"later")
    assert rig.calls.cancelled == []


async def test_calls_that_come_together_begin_in_one_turn_of_the_loop(rig: Rig) -> None:
    await rig.call("echo")
    calls = [asyncio.ensure_future(rig.call("echo")) for _ in range(200)]
    await asyncio.gather(*calls)
    assert len(rig.calls.turns) == 201
    assert max(Counter(rig.calls.turns).values()) > 1
    assert len(set(rig.calls.turns)) < 150


async def test_errors_have_code_text_and_metadata(rig: Rig) -> None:
    limit = await failed(rig.call("refuse"))
    assert (limit.code(), limit.details()) == (Code.RESOURCE_EXHAUSTED, "too many")
    metadata = dict(limit.trailing_metadata())
    assert (metadata["rnnserve-error"], metadata["retry-after-s"]) == ("LimitReached", "2.5")
    gap = await failed(rig.call("refuse", b"gap"))
    assert (gap.code(), gap.details()) == (Code.FAILED_PRECONDITION, "größer als 100 %")
    assert dict(gap.trailing_metadata())["expected-step"] == "7"
    crash = await failed(rig.call("crash"))
    assert crash.code() is Code.INTERNAL
    assert "secret" not in crash.details()


async def test_what_is_no_message_is_refused(rig: Rig) -> None:
    error = await failed(rig.raw("echo", b"\xff\xff\xff"))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "rnnserve.v1.RestoreRequest" in error.details()
    assert dict(error.trailing_metadata())["rnnserve-error"] == "InvalidRequest"


async def test_size_limits(rig: Rig) -> None:
    largest = pb.RestoreRequest(snapshot=bytes(MAX_BYTES - 4)).SerializeToString()
    assert len(largest) == MAX_BYTES
    assert await rig.raw("echo", largest) == largest
    received = await failed(rig.raw("echo", largest + b"\0"))
    assert received.code() is Code.RESOURCE_EXHAUSTED
    assert f"Received message larger than max ({MAX_BYTES + 1} vs. {MAX_BYTES})" in str(received)
    sent = await failed(rig.call("grow"))
    assert (sent.code(), "Sent message larger" in sent.details()) == (Code.RESOURCE_EXHAUSTED, True)


async def test_cancelled_and_late_calls_are_withdrawn(rig: Rig) -> None:
    cancelled = rig.call("wait", b"cancelled")
    await rig.waiting(1)
    cancelled.cancel()
    late = await failed(rig.call("wait", b"late", timeout=0.05))
    assert late.code() is Code.DEADLINE_EXCEEDED
    while len(rig.calls.cancelled) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert {request.snapshot for request in rig.calls.cancelled} == {b"cancelled", b"late"}
    for respond in rig.calls.waiting:  # too late: nobody is there, and nobody is disturbed
        respond(pb.RestoreRequest())
    assert (await rig.call("echo", b"on")).endswith(b"on")


async def test_a_client_that_vanishes_takes_its_calls_with_it(rig: Rig) -> None:
    calls = [rig.call("wait", bytes([n])) for n in range(50)]
    for call in calls:
        asyncio.ensure_future(call.code())  # noqa: RUF006
    await rig.waiting(50)
    await rig.channel.close()
    while len(rig.calls.cancelled) < 50:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    rig.channel = grpc.aio.insecure_channel(f"127.0.0.1:{rig.port}")
    assert (await rig.call("echo", b"on")).endswith(b"on")


def requests_alive() -> list[Any]:
    gc.collect()
    return [kept for kept in gc.get_objects() if type(kept) is pb.RestoreRequest]


async def test_thousands_at_a_time_and_nothing_is_kept_of_them(rig: Rig) -> None:
    others = {id(kept) for kept in requests_alive()}  # of tests before
    for _ in range(2):
        calls = [asyncio.ensure_future(rig.call("wait", b"%d" % n)) for n in range(3000)]
        await rig.waiting(3000)
        for respond in rig.calls.waiting:
            respond(pb.RestoreRequest(snapshot=b"done"))
        assert all(answer.endswith(b"done") for answer in await asyncio.gather(*calls))
        rig.calls.waiting.clear()
    gc.collect()
    assert not rig.server._open
    assert not [kept for kept in requests_alive() if id(kept) not in others]


async def test_everything_else_is_answered_behind(rig: Rig) -> None:
    say = rig.channel.unary_unary("/other.Service/Say")
    assert await say(b"hello") == b"behind: hello"
    unknown = await failed(rig.raw("unknown", b""))
    assert (unknown.code(), unknown.details()) == (Code.UNIMPLEMENTED, "Method not found!")


async def test_noise_on_the_port_disturbs_nobody(rig: Rig) -> None:
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", rig.port)) as noise:
            noise.send(b"GET / HTTP/1.1\r\n\r\n" * 20)
    assert (await rig.call("echo", b"on")).endswith(b"on")


async def test_a_port_in_use_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = native.NativeServer(grpc.aio.server(), MAX_BYTES)
        with pytest.raises(RuntimeError, match="in use"):
            server.add_insecure_port(f"127.0.0.1:{taken.getsockname()[1]}")


async def test_open_calls_are_answered_before_the_server_stops(rig: Rig) -> None:
    calls = [asyncio.ensure_future(rig.call("wait")) for _ in range(100)]
    await rig.waiting(100)
    stopping = asyncio.ensure_future(rig.server.stop(10))
    await asyncio.sleep(0.05)
    refused = await failed(rig.call("echo"))
    assert refused.code() is Code.UNAVAILABLE
    for respond in rig.calls.waiting:
        respond(pb.RestoreRequest(snapshot=b"done"))
    assert all(answer.endswith(b"done") for answer in await asyncio.gather(*calls))
    await stopping
    assert rig.calls.cancelled == []


async def test_calls_that_are_not_answered_in_time_are_ended(rig: Rig) -> None:
    calls = [asyncio.ensure_future(rig.call("wait")) for _ in range(100)]
    await rig.waiting(100)
    await rig.server.stop(0.05)
    for call in calls:
        assert (await failed(call)).code() is Code.UNAVAILABLE
    assert len(rig.calls.cancelled) == 100

"""Beyond a limit the answer is RESOURCE_EXHAUSTED, at once, with a hint when to try again; and
nothing has changed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import Stream, all_rows_are_free, frame, framed

Code = grpc.StatusCode
X = np.arange(1, 7).reshape(1, 3, 2)


async def exhausted(rig: Any, call: Any) -> str:
    """The call must be refused with a hint that clients and gRPC itself understand."""
    error = await rig.refused(call, Code.RESOURCE_EXHAUSTED, "LimitReached")
    metadata = dict(error.trailing_metadata())
    retry_after_s = float(metadata["retry-after-s"])
    assert 0 < retry_after_s <= 60
    assert int(metadata["grpc-retry-pushback-ms"]) == round(1000 * retry_after_s)
    return str(error.details())


async def test_sessions(make_rig: Any) -> None:
    rig = await make_rig(max_sessions=3)
    keys = [await rig.open() for _ in range(3)]
    await rig.step(keys[0], X)
    stored = (await rig.sessions.Snapshot(pb.SnapshotRequest(session=keys[0]))).snapshot
    before = await rig.snapshot()
    ways = [
        lambda: rig.open(),
        lambda: rig.open("mixed"),
        lambda: rig.sessions.Fork(pb.ForkRequest(session=keys[0])),
        lambda: rig.sessions.Restore(pb.RestoreRequest(snapshot=stored)),
        lambda: rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1, start=True)),
    ]
    for way in ways:
        assert "try again when others have closed" in await exhausted(rig, way())
    assert await rig.snapshot() == before
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=keys[2]))
    await rig.sessions.Fork(pb.ForkRequest(session=keys[0]))
    await exhausted(rig, rig.open())


async def test_rows(make_rig: Any) -> None:
    """Of all sessions of a model together."""
    rig = await make_rig(max_sessions=10)
    key = await rig.open(batch_size=8)
    await rig.open(batch_size=1)
    assert "9 of 10 are taken" in await exhausted(rig, rig.open(batch_size=2))
    await exhausted(rig, rig.sessions.Fork(pb.ForkRequest(session=key)))
    await rig.open(batch_size=1)
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    await rig.open(batch_size=8)


async def test_requests_of_a_session(make_rig: Any) -> None:
    rig = await make_rig(hold="fold", max_pending_per_session=4)
    key, other = await rig.open(), await rig.open()
    calls = [await rig.arrived(rig.step(key, X)) for _ in range(4)]
    text = await exhausted(rig, rig.step(key, X))
    assert text.startswith("4 requests of session")
    await exhausted(rig, rig.states(key))
    calls.append(await rig.arrived(rig.step(other, X)))  # others are not meant
    rig.held["fold"].released.set()
    assert [answer.step for answer in await asyncio.gather(*calls)] == [1, 2, 3, 4, 1]
    assert (await rig.step(key, X)).step == 5


async def test_requests_of_a_model(make_rig: Any) -> None:
    rig = await make_rig(hold="fold", max_pending=5)
    keys = [await rig.open() for _ in range(6)]
    calls = [await rig.arrived(rig.step(key, X)) for key in keys[:5]]
    text = await exhausted(rig, rig.step(keys[5], X))
    assert text.startswith("5 requests wait already")
    affine = {"x": np.zeros((1, 2), np.float32)}
    await rig.inference.ModelInfer(rig.infer("affine", affine))  # other models are not meant
    rig.held["fold"].released.set()
    await asyncio.gather(*calls)
    assert (await rig.step(keys[5], X)).step == 1


async def test_a_sequence_that_cannot_even_wait(make_rig: Any) -> None:
    """A START opens no sequence then."""
    rig = await make_rig(hold="fold", max_pending=1)
    first = await rig.arrived(rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1, start=True)))
    await exhausted(rig, rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 2, start=True)))
    assert len(rig.serving.sessions) == 1
    rig.held["fold"].released.set()
    await first


async def test_bytes_of_a_model(make_rig: Any) -> None:
    """A request alone may be as large as it wants."""
    rig = await make_rig(hold="fold", max_pending_bytes=100)
    keys = [await rig.open() for _ in range(3)]
    large = np.ones((1, 50, 2), np.int64)
    calls = [await rig.arrived(rig.step(key, X)) for key in keys[:2]]
    text = await exhausted(rig, rig.step(keys[2], X))
    assert text.startswith("the requests that wait already carry 96 bytes")
    calls.append(await rig.arrived(rig.states(keys[2])))  # which carries none
    rig.held["fold"].released.set()
    await asyncio.gather(*calls)
    assert (await rig.step(keys[2], large)).step == 1
    for key in keys:
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert all_rows_are_free(rig)


@pytest.mark.parametrize("limits", [{"max_pending": 11}, {"max_pending_bytes": 8 * 48}])
async def test_a_frame_is_refused_as_a_whole(make_rig: Any, limits: Any) -> None:
    """Every session in it counts. The hint stands in the answer."""
    rig = await make_rig(hold="fold", **limits)
    stream = Stream(rig)
    await stream.open_many(0, 12)
    scheduler = rig.serving.model("fold").scheduler
    sent = await stream.send(frame=frame(rig, range(6), {"x": np.repeat(X, 6, 0)}, steps=1))
    await rig.until(lambda: scheduler.pending == 6)
    error = (await stream.ask(frame=frame(rig, range(6, 9), {"x": np.repeat(X, 3, 0)}))).error
    assert (error.code, error.kind) == (Code.RESOURCE_EXHAUSTED.value[0], "LimitReached")
    assert error.retry_after_s > 0
    last = await stream.send(frame=frame(rig, [6, 7], {"x": np.repeat(X, 2, 0)}, steps=1))
    await rig.until(lambda: scheduler.pending == 8)
    rig.held["fold"].released.set()
    for request in (sent, last):
        got = framed(rig, await stream.answer(request))
        assert (set(got.steps), got.errors) == ({1}, {})
    got = await stream.frame(range(6, 9), np.repeat(X, 3, 0))
    assert got.steps == [2, 2, 1]
    await stream.end()


async def test_one_session_of_a_frame_has_too_many(make_rig: Any) -> None:
    rig = await make_rig(hold="fold", max_pending_per_session=4)
    stream = Stream(rig)
    keys = (await stream.open_many(0, 3)).sessions
    calls = [await rig.arrived(rig.step(keys[1], X)) for _ in range(4)]
    sent = await rig.arrived(stream.frame(range(3), np.repeat(X, 3, 0)))
    rig.held["fold"].released.set()
    got = await sent
    assert (got.kinds, got.steps) == ({1: "LimitReached"}, [1, 0, 1])
    assert got.errors[1].retry_after_s > 0
    assert [answer.step for answer in await asyncio.gather(*calls)] == [1, 2, 3, 4]
    await stream.end()


async def test_a_message_that_is_too_large(rig: Any) -> None:
    """gRPC refuses it, and nothing has been taken in; the connection stays."""
    key = await rig.open()
    await rig.step(key, X)
    before = await rig.snapshot()
    large = np.zeros((1, 2**18 + 1, 2), np.int64)  # beyond the 4 MiB of this test's server
    await rig.refused(rig.step(key, large), Code.RESOURCE_EXHAUSTED)
    assert await rig.snapshot() == before
    assert (await rig.step(key, X)).step == 2

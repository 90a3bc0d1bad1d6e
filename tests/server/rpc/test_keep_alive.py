"""KeepAlive puts the end off, DescribeSession tells about a session and does not."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import Stream

Code = grpc.StatusCode
X = np.arange(1, 7).reshape(1, 3, 2)


async def keep(rig: Any, key: pb.SessionKey) -> pb.KeepAliveResponse:
    return await rig.sessions.KeepAlive(pb.KeepAliveRequest(session=key))


async def describe(rig: Any, key: pb.SessionKey) -> pb.SessionInfo:
    return await rig.sessions.DescribeSession(pb.DescribeSessionRequest(session=key))


def let_pass(rig: Any, key: pb.SessionKey, seconds: float) -> None:
    """As if nobody had asked anything of the session for so long."""
    rig.serving.sessions.find(key.session_id).last_used_s -= seconds


async def test_it_puts_the_end_off(rig: Any) -> None:
    kept, other = await rig.open(idle_ttl_s=7), await rig.open(idle_ttl_s=7)
    await rig.step(kept, X)
    for _ in range(3):
        let_pass(rig, kept, 6.5)
        answer = await keep(rig, kept)
        assert (answer.idle_ttl_s, answer.step) == (7, 1)
        let_pass(rig, kept, 6.5)
        assert rig.serving.expire() == 0
    let_pass(rig, other, 7)
    assert rig.serving.expire() == 1
    await rig.refused(keep(rig, other), Code.FAILED_PRECONDITION, "SessionExpired")
    assert (await rig.step(kept, X)).step == 2


async def test_it_does_nothing_else(rig: Any) -> None:
    key = await rig.open()
    await rig.step(key, X, step=1)
    before, info = await rig.snapshot(), await describe(rig, key)
    await keep(rig, key)
    assert await rig.snapshot() == before
    after = await describe(rig, key)
    for each in (info, after):
        each.idle_s = 0
    assert after == info


async def test_to_describe_is_no_use(rig: Any) -> None:
    key = await rig.open(idle_ttl_s=7)
    let_pass(rig, key, 7.5)
    assert 7.5 <= (await describe(rig, key)).idle_s < 12
    assert rig.serving.expire() == 1


@pytest.mark.parametrize("call", [keep, describe])
async def test_only_the_owner(rig: Any, call: Any) -> None:
    key = await rig.open()
    for wrong in ("", "guess", key.token[:-1]):
        asked = call(rig, pb.SessionKey(session_id=key.session_id, token=wrong))
        await rig.refused(asked, Code.NOT_FOUND, "SessionNotFound")
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    await rig.refused(call(rig, key), Code.NOT_FOUND, "SessionNotFound")


async def test_all_that_it_tells(rig: Any) -> None:
    key = await rig.open(session_id="mine", batch_size=2, idle_ttl_s=9, model_version="1")
    for number in (1, 2):
        await rig.step(key, np.concatenate([X, X]), step=number)
    info = await describe(rig, key)
    assert 0 <= info.idle_s < 5
    info.idle_s = 0
    assert info == pb.SessionInfo(
        session_id="mine",
        model_name="fold",
        model_version="1",
        batch_size=2,
        step=2,
        idle_ttl_s=9,
        remembered_from=1,
    )


async def test_the_first_step_that_is_remembered(rig: Any) -> None:
    key = await rig.open()
    assert (await describe(rig, key)).remembered_from == 0
    await rig.step(key, X)
    assert (await describe(rig, key)).remembered_from == 0
    for number in range(2, 6):
        await rig.step(key, X, step=number)
    assert (await describe(rig, key)).remembered_from == 2
    await rig.step(key, X, step=6, acknowledged=4)
    assert (await describe(rig, key)).remembered_from == 5
    await rig.step(key, X, step=7, acknowledged=6)
    assert (await describe(rig, key)).remembered_from == 7


async def test_steps_in_frames_are_remembered_too(rig: Any) -> None:
    stream = Stream(rig)
    keys = (await stream.open_many(0, 2)).sessions
    for number in (1, 2):
        await stream.frame([0, 1], np.concatenate([X, X]), steps=number)
    assert (await rig.step(keys[0], X, step=1)).step == 1
    assert (await describe(rig, keys[0])).remembered_from == 1
    await stream.end()


async def test_what_is_pending(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    key, other = await rig.open(), await rig.open()
    calls = [await rig.arrived(rig.step(key, X)) for _ in range(3)]
    under_way = [(await describe(rig, each)).pending for each in (key, other)]
    rig.held["fold"].released.set()
    for call in calls:
        await call
    assert (under_way, (await describe(rig, key)).pending) == ([3, 0], 0)


async def test_what_is_pending_in_a_frame(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    stream = Stream(rig)
    key = (await stream.open_many(0, 1)).sessions[0]
    sent = await rig.arrived(stream.frame([0], X))
    under_way = await describe(rig, key)
    rig.held["fold"].released.set()
    await sent
    assert (under_way.pending, (await describe(rig, key)).pending) == (1, 0)
    await stream.end()


async def test_who_is_on_the_host(make_rig: Any) -> None:
    """Those that were used least recently, until their next step."""
    rig = await make_rig(max_resident=16)
    keys = [await rig.open() for _ in range(40)]
    for key in keys:
        await rig.step(key, X)
    away = [(await describe(rig, key)).on_host for key in keys]
    assert away[0]
    assert not away[-1]
    await rig.step(keys[0], X)
    assert not (await describe(rig, keys[0])).on_host
    page = await rig.sessions.ListSessions(pb.ListSessionsRequest())
    assert sum(info.on_host for info in page.sessions) >= 24

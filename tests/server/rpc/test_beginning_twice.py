"""A call that opens a session, sent again because its answer was lost: a client that has chosen id
and token gets the session that it has opened, and nobody else does.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import Stream

Code = grpc.StatusCode
X = np.arange(1, 7).reshape(1, 3, 2)
OWN = {"session_id": "mine", "token": "a secret of mine"}
WAYS = ["OpenSession", "Fork", "Restore"]


@pytest.fixture
async def ways(rig: Any) -> dict[str, Any]:
    """Each way to open a session, as a function of the request's last fields."""
    source = await rig.open(session_id="source")
    await rig.step(source, X)
    stored = (await rig.sessions.Snapshot(pb.SnapshotRequest(session=source))).snapshot

    async def open_session(**fields: Any) -> Any:
        request = pb.OpenSessionRequest(model_name="fold", **fields)
        return await rig.sessions.OpenSession(request)

    async def fork(**fields: Any) -> Any:
        return await rig.sessions.Fork(pb.ForkRequest(session=source, **fields))

    async def restore(**fields: Any) -> Any:
        return await rig.sessions.Restore(pb.RestoreRequest(snapshot=stored, **fields))

    return {"OpenSession": open_session, "Fork": fork, "Restore": restore}


@pytest.mark.parametrize("way", WAYS)
async def test_the_second_time_it_is_the_same_session(rig: Any, ways: Any, way: str) -> None:
    first = await ways[way](**OWN, idle_ttl_s=7)
    assert first.session == pb.SessionKey(**OWN)
    assert first.step == (0 if way == "OpenSession" else 1)
    assert await ways[way](**OWN, idle_ttl_s=7) == first
    assert len(rig.serving.sessions) == 2
    answer = await rig.step(first.session, X, step=first.step + 1)
    again = await ways[way](**OWN, idle_ttl_s=7)
    assert (again.session, again.step) == (first.session, answer.step)
    states = (await rig.states(first.session)).states
    assert rig.array_of(states[0]).tolist() == rig.array_of(answer.outputs[0]).tolist()


@pytest.mark.parametrize("way", WAYS)
async def test_with_another_token_the_id_is_taken(rig: Any, ways: Any, way: str) -> None:
    await ways[way](**OWN)
    before = await rig.snapshot()
    for token in ("", "guessed", "a secret of mine ", "a secret of min"):
        call = ways[way](session_id="mine", token=token)
        await rig.refused(call, Code.ALREADY_EXISTS, "SessionExists")
    assert await rig.snapshot() == before


@pytest.mark.parametrize("way", WAYS)
async def test_a_token_without_an_id(rig: Any, ways: Any, way: str) -> None:
    error = await rig.refused(ways[way](token="mine"), Code.INVALID_ARGUMENT, "InvalidRequest")
    assert "session_id" in error.details()
    assert len(rig.serving.sessions) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("character", ["t", "☃"])
async def test_how_long_a_token_may_be(rig: Any, ways: Any, way: str, character: str) -> None:
    """The limit counts bytes."""
    longest = character * (64 // len(character.encode()))
    call = ways[way](session_id="mine", token=longest + character)
    error = await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details() == "token: expected at most 64 bytes"
    opened = await ways[way](session_id="mine", token=longest)
    assert (await rig.step(opened.session, X)).step == opened.step + 1


@pytest.mark.parametrize("way", WAYS)
async def test_both_calls_under_way(rig: Any, ways: Any, way: str) -> None:
    first, second = await asyncio.gather(ways[way](**OWN), ways[way](**OWN))
    assert first == second
    assert len(rig.serving.sessions) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_after_it_was_closed_it_is_a_new_one(rig: Any, ways: Any, way: str) -> None:
    first = await ways[way](**OWN)
    await rig.step(first.session, X)
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=first.session))
    assert await ways[way](**OWN) == first


@pytest.mark.parametrize("fields", [{"model_name": "mixed"}, {"batch_size": 2}])
async def test_another_session_than_the_one_before(rig: Any, ways: Any, fields: Any) -> None:
    await ways["OpenSession"](**OWN)
    request = pb.OpenSessionRequest(**{"model_name": "fold", **OWN, **fields})
    call = rig.sessions.OpenSession(request)
    await rig.refused(call, Code.ALREADY_EXISTS, "SessionExists")


async def test_full_and_shutting_down(make_rig: Any) -> None:
    """Neither keeps from a session that is open already."""
    rig = await make_rig(max_sessions=1)
    request = pb.OpenSessionRequest(model_name="fold", **OWN)
    first = await rig.sessions.OpenSession(request)
    assert await rig.sessions.OpenSession(request) == first
    rig.serving.draining = True
    assert await rig.sessions.OpenSession(request) == first


async def test_the_first_call_is_given_up_after_the_second_has_come(make_rig: Any) -> None:
    """A broken connection is noticed late: whoever has asked again by then loses nothing."""
    rig = await make_rig(hold="fold")
    source = await rig.open()
    step = await rig.arrived(rig.step(source, X))
    request = pb.ForkRequest(session=source, **OWN)
    first = await rig.arrived(rig.sessions.Fork(request))
    second = await rig.arrived(rig.sessions.Fork(request))
    waiting = rig.serving.sessions.find(OWN["session_id"]).pending[1]  # behind what holds it
    first.cancel()
    await rig.until(lambda: waiting.cancelled)
    rig.held["fold"].released.set()
    await step
    forked = await second
    assert (forked.session, forked.step) == (pb.SessionKey(**OWN), 1)
    states = (await rig.states(forked.session)).states
    assert (rig.array_of(states[0]) == rig.fold(X)[:, -1]).all()


async def test_in_a_stream_and_once_more_in_the_next(rig: Any) -> None:
    wanted = pb.OpenSessionRequest(model_name="fold", **OWN)
    broken = Stream(rig)
    first = (await broken.ask(3, open=wanted)).open
    await broken.ask(3, step=pb.StepRequest(inputs=[rig.tensor("x", X)], step=1))
    broken.call.cancel()
    stream = Stream(rig)
    again = (await stream.ask(8, open=wanted)).open
    assert (again.session, again.step) == (first.session, 1)
    answer = await stream.answer(await stream.step(8, X, step=1))
    assert (rig.array_of(answer.step.outputs[0]) == rig.fold(X)[:, -1]).all()
    await stream.end()


async def test_whose_states_it_began_with_does_not_matter_any_more(rig: Any) -> None:
    """The other session may have moved on, or be gone."""
    source = await rig.open()
    await rig.step(source, X)
    request = pb.OpenSessionRequest(model_name="fold", **OWN)
    request.states_of.session.CopyFrom(source)
    first = await rig.sessions.OpenSession(request)
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=source))
    assert await rig.sessions.OpenSession(request) == first
    states = (await rig.states(first.session)).states
    assert (rig.array_of(states[0]) == rig.fold(X)[:, -1]).all()

"""A fork begins where the other session is, and from there on both go their own ways."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import all_rows_are_free

Code = grpc.StatusCode
X = np.arange(1, 23).reshape(1, 11, 2)  # three pieces


async def fork(rig: Any, key: pb.SessionKey, **fields: Any) -> pb.OpenSessionResponse:
    return await rig.sessions.Fork(pb.ForkRequest(session=key, **fields))


async def close(rig: Any, key: pb.SessionKey) -> None:
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))


async def state(rig: Any, key: pb.SessionKey) -> Any:
    return rig.array_of((await rig.states(key)).states[0]).tolist()


async def test_both_go_their_own_ways(rig: Any) -> None:
    key = await rig.open()
    begun = rig.array_of((await rig.step(key, X)).outputs[0])
    forked = (await fork(rig, key)).session
    assert forked.session_id != key.session_id
    assert forked.token != key.token
    for one, x in ((key, X), (forked, -X), (key, X), (forked, X)):
        before = {each.session_id: await state(rig, each) for each in (key, forked)}
        answer = await rig.step(one, x)
        expected = rig.fold(x, before[one.session_id])[:, -1]
        assert (rig.array_of(answer.outputs[0]) == expected).all()
        other = forked if one is key else key
        assert await state(rig, other) == before[other.session_id]
    assert await state(rig, forked) == rig.fold(np.concatenate([-X, X], 1), begun)[:, -1].tolist()


async def test_written_states_are_not_shared(rig: Any) -> None:
    key = await rig.open()
    begun = rig.array_of((await rig.step(key, X)).outputs[0]).tolist()
    forked = (await fork(rig, key)).session
    states = [rig.tensor("h", np.array([[7, 8]]))]
    await rig.sessions.SetStates(pb.SetStatesRequest(session=key, states=states))
    assert [await state(rig, key), await state(rig, forked)] == [[[7, 8]], begun]
    await rig.sessions.ResetStates(pb.ResetStatesRequest(session=forked))
    assert [await state(rig, key), await state(rig, forked)] == [[[7, 8]], [[0, 0]]]


async def test_it_says_what_open_says(rig: Any) -> None:
    opened = await rig.sessions.OpenSession(
        pb.OpenSessionRequest(model_name="fold", model_version="1", batch_size=3, idle_ttl_s=9)
    )
    await rig.step(opened.session, np.concatenate([X] * 3))
    forked = await fork(rig, opened.session)
    assert forked.step == 1
    for answer in (opened, forked):
        answer.ClearField("session")
        answer.ClearField("step")
    assert forked == opened
    assert (await fork(rig, (await rig.open()), idle_ttl_s=4)).idle_ttl_s == 4


@pytest.mark.parametrize("batch_size", [1, 3])
async def test_its_steps_are_counted_on(rig: Any, batch_size: int) -> None:
    key = await rig.open(batch_size=batch_size)
    x = np.concatenate([X + n for n in range(batch_size)])
    for number in (1, 2, 3):
        await rig.step(key, x, step=number)
    forked = (await fork(rig, key)).session
    error = await rig.refused(rig.step(forked, x, step=5), Code.FAILED_PRECONDITION, "StepGap")
    assert dict(error.trailing_metadata())["expected-step"] == "4"
    answer = await rig.step(forked, x, step=4)
    assert (rig.array_of(answer.outputs[0]) == rig.fold(np.concatenate([x] * 4, 1))[:, -1]).all()
    assert (await rig.states(key)).step == 3


async def test_it_does_not_remember_what_the_other_was_answered(rig: Any) -> None:
    key = await rig.open()
    await rig.step(key, X, step=1)
    forked = (await fork(rig, key)).session
    await rig.refused(rig.step(forked, X, step=1), Code.OUT_OF_RANGE, "StepForgotten")


async def test_of_a_session_that_has_not_begun(rig: Any) -> None:
    key = await rig.open()
    forked = await fork(rig, key)
    assert forked.step == 0
    await rig.step(key, X)
    answer = await rig.step(forked.session, -X)
    assert (rig.array_of(answer.outputs[0]) == rig.fold(-X)[:, -1]).all()


async def test_after_the_steps_that_were_sent_before(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    key = await rig.open()
    first = await rig.arrived(rig.step(key, X, step=1))
    second = await rig.arrived(rig.step(key, X, step=2))
    forking = await rig.arrived(fork(rig, key))
    third = await rig.arrived(rig.step(key, X, step=3))
    rig.held["fold"].released.set()
    await asyncio.gather(first, second, third)
    forked = await forking
    assert forked.step == 2
    expected = rig.fold(np.concatenate([X, X], 1))[:, -1]
    assert await state(rig, forked.session) == expected.tolist()
    assert (await rig.states(key)).step == 3


async def test_what_is_asked_of_it_while_it_waits(make_rig: Any) -> None:
    """A client that knows id and token need not wait for the answer."""
    rig = await make_rig(hold="fold")
    key = await rig.open()
    first = await rig.arrived(rig.step(key, X))
    own = pb.SessionKey(session_id="mine", token="secret")
    forking = await rig.arrived(fork(rig, key, session_id="mine", token="secret"))
    step = await rig.arrived(rig.step(own, -X))
    rig.held["fold"].released.set()
    await asyncio.gather(first, forking)
    expected = rig.fold(-X, rig.fold(X)[:, -1])[:, -1]
    assert (rig.array_of((await step).outputs[0]) == expected).all()
    assert (await step).step == 2


async def test_cancelled_while_it_waits(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    key = await rig.open()
    first = await rig.arrived(rig.step(key, X))
    forking = await rig.arrived(fork(rig, key))
    new = next(s for s in rig.serving.sessions if s.id != key.session_id)
    forking.cancel()
    await rig.until(lambda: new.closed)
    rig.held["fold"].released.set()
    assert (await first).step == 1
    await rig.until(lambda: len(rig.serving.sessions) == 1)
    await close(rig, key)
    assert all_rows_are_free(rig)


async def test_of_a_step_that_fails(rig: Any) -> None:
    """The state is that of the steps that did not."""
    key = await rig.open("mixed")
    inputs = [rig.tensor("x", np.float32([[1, 2]])), rig.tensor("place", np.array([9]))]
    call = rig.sessions.Step(pb.StepRequest(session=key, inputs=inputs))
    forked, error = await asyncio.gather(
        fork(rig, key), rig.refused(call, Code.INVALID_ARGUMENT, "StepFailed")
    )
    assert (forked.step, bool(error)) == (0, True)


async def test_of_a_session_that_is_closed(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    key = await rig.open()
    step = await rig.arrived(rig.step(key, X))
    closing = await rig.arrived(rig.sessions.CloseSession(pb.CloseSessionRequest(session=key)))
    await rig.refused(fork(rig, key), Code.FAILED_PRECONDITION, "SessionClosed")
    rig.held["fold"].released.set()
    await asyncio.gather(step, closing)
    await rig.refused(fork(rig, key), Code.NOT_FOUND, "SessionNotFound")
    wrong = pb.SessionKey(session_id=key.session_id, token="guess")
    await rig.refused(fork(rig, wrong), Code.NOT_FOUND, "SessionNotFound")
    assert len(rig.serving.sessions) == 0
    assert all_rows_are_free(rig)


@pytest.mark.parametrize("idle_ttl_s", [-1, float("nan"), float("inf")])
async def test_no_time_to_live(rig: Any, idle_ttl_s: float) -> None:
    key = await rig.open()
    call = fork(rig, key, idle_ttl_s=idle_ttl_s)
    await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")
    assert len(rig.serving.sessions) == 1


async def test_of_sessions_that_are_on_the_host(make_rig: Any) -> None:
    rig = await make_rig(max_resident=16)
    keys = [await rig.open() for _ in range(30)]
    for number, key in enumerate(keys):
        await rig.step(key, X + number)
    away = [await rig.sessions.DescribeSession(pb.DescribeSessionRequest(session=k)) for k in keys]
    assert sum(info.on_host for info in away) >= 14
    for number in (0, 1, 29):
        forked = await fork(rig, keys[number])
        begun = rig.fold(X + number)[:, -1]
        assert (forked.step, await state(rig, forked.session)) == (1, begun.tolist())
        for key, x in ((forked.session, X), (keys[number], -X)):
            answer = await rig.step(key, x)
            assert (rig.array_of(answer.outputs[0]) == rig.fold(x, begun)[:, -1]).all()
        await close(rig, forked.session)
    for key in keys:
        await close(rig, key)
    assert all_rows_are_free(rig)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limits", [{}, {"max_resident": 16}])
async def test_forks_of_forks_closed_in_any_order(make_rig: Any, seed: int, limits: Any) -> None:
    """Each as if it were alone, and in the end every row is free."""
    rig, rng = await make_rig(**limits), np.random.default_rng(seed)
    alive = [(await rig.open(batch_size=2), np.zeros((2, 2), np.int64), 0)]
    for _ in range(200):
        place = int(rng.integers(len(alive)))
        key, expected, step = alive[place]
        assert await state(rig, key) == expected.tolist()
        choice = rng.random()
        if choice < 0.45:
            x = rng.integers(-9, 9, (2, int(rng.integers(1, 7)), 2))
            assert (await rig.step(key, x, step=step + 1)).step == step + 1
            alive[place] = (key, rig.fold(x, expected)[:, -1], step + 1)
        elif choice < 0.75 and len(alive) < 24:
            forked = await fork(rig, key)
            assert forked.step == step
            alive.append((forked.session, expected, step))
        elif len(alive) > 1:
            await close(rig, alive.pop(place)[0])
    rng.shuffle(alive)
    for key, expected, step in alive:
        states = await rig.states(key)
        assert (states.step, rig.array_of(states.states[0]).tolist()) == (step, expected.tolist())
        await close(rig, key)
    assert all_rows_are_free(rig)

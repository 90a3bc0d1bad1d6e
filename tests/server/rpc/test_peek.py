"""A step that peeks computes what a step would, and leaves the session as it is."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import Stream, all_rows_are_free

Code = grpc.StatusCode
X = np.arange(1, 23).reshape(1, 11, 2)  # three pieces


async def test_it_answers_as_the_step_would(rig: Any) -> None:
    key = await rig.open()
    await rig.step(key, X[:, :3], step=1)
    before = await rig.snapshot()
    flags = {"return_sequences": True, "return_state": True}
    peeked = await rig.step(key, X[:, 3:], peek=True, **flags)
    assert peeked.step == 1
    assert await rig.snapshot() == before
    stepped = await rig.step(key, X[:, 3:], **flags)
    assert (rig.array_of(stepped.outputs[0]) == rig.fold(X)[:, 3:]).all()
    assert (peeked.outputs, peeked.states) == (stepped.outputs, stepped.states)


async def test_of_a_session_that_has_not_begun(rig: Any) -> None:
    key = await rig.open(batch_size=2)
    x = np.concatenate([X, -X])
    peeked = await rig.step(key, x, peek=True, return_state=True)
    assert (rig.array_of(peeked.states[0]) == rig.fold(x)[:, -1]).all()
    states = await rig.states(key)
    assert (states.step, rig.array_of(states.states[0]).tolist()) == (0, [[0, 0], [0, 0]])


async def test_between_numbered_steps(rig: Any) -> None:
    stream = Stream(rig)
    await stream.ask(1, open=pb.OpenSessionRequest(model_name="fold"))
    sent = []
    for t in range(11):
        sent.append(await stream.step(1, X[:, t : t + 1], step=t + 1))
        sent.append(await stream.step(1, -X, peek=True))
    for t in range(11):
        stepped, peeked = [await stream.answer(request_id) for request_id in sent[2 * t :][:2]]
        assert stepped.step.step == peeked.step.step == t + 1
        state = rig.fold(X)[:, t]
        assert (rig.array_of(stepped.step.outputs[0]) == state).all()
        assert (rig.array_of(peeked.step.outputs[0]) == rig.fold(-X, state)[:, -1]).all()
    await stream.end()


async def test_it_has_no_number(rig: Any) -> None:
    key = await rig.open()
    call = rig.step(key, X, peek=True, step=1)
    error = await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")
    assert "peek" in error.details()


async def test_one_that_fails(rig: Any) -> None:
    key = await rig.open("mixed")
    inputs = [rig.tensor("x", np.float32([[1, 2]])), rig.tensor("place", np.array([9]))]
    request = pb.StepRequest(session=key, inputs=inputs, peek=True, return_state=True)
    await rig.refused(rig.sessions.Step(request), Code.INVALID_ARGUMENT, "StepFailed")
    assert (await rig.states(key)).step == 0


async def test_everything_is_given_back(make_rig: Any) -> None:
    """Also by those that are cancelled, wherever they are."""
    rig = await make_rig(hold="fold")
    keys = [await rig.open() for _ in range(12)]
    calls = [
        await rig.arrived(rig.step(key, X, peek=True, return_state=bool(n % 2)))
        for n, key in enumerate(keys)
    ]
    for call in calls[::3]:
        call.cancel()
    rig.held["fold"].released.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in done] == [True, False, False] * 4
    for key in keys:
        assert (await rig.states(key)).step == 0
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert all_rows_are_free(rig)

"""Requests that replace a session's states and say where they belong: done once, and not after
steps that were sent later.
"""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from server.errors import StepFailed
from tests.server.rpc.wire import Stream

Code = grpc.StatusCode
X = np.arange(1, 7).reshape(1, 3, 2)
H = np.array([[7, 8]])
WAYS = ["reset", "reset to", "set"]


async def write(rig: Any, key: pb.SessionKey, way: str, id: int, after: int) -> int:
    """The steps that the answer tells."""
    order = pb.Order(id=id, after_step=after)
    states = [] if way == "reset" else [rig.tensor("h", H)]
    fields = {"session": key, "states": states, "order": order}
    if way == "set":
        return (await rig.sessions.SetStates(pb.SetStatesRequest(**fields))).step
    return (await rig.sessions.ResetStates(pb.ResetStatesRequest(**fields))).step


def written(way: str) -> Any:
    return np.zeros((1, 2), np.int64) if way == "reset" else H


async def state(rig: Any, key: pb.SessionKey) -> Any:
    return rig.array_of((await rig.states(key)).states[0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("id", [1, 2**63, 2**64 - 1])
async def test_a_copy_does_nothing(rig: Any, way: str, id: int) -> None:
    """Neither before the next step nor after it, although that one is told so."""
    key = await rig.open()
    await rig.step(key, X, step=1)
    assert await write(rig, key, way, id, 1) == 1
    assert (await state(rig, key) == written(way)).all()
    await rig.sessions.SetStates(pb.SetStatesRequest(session=key, states=[rig.tensor("h", -H)]))
    assert await write(rig, key, way, id, 1) == 1
    assert (await state(rig, key) == -H).all()
    await rig.step(key, X, step=2)
    await rig.refused(write(rig, key, way, id, 1), Code.FAILED_PRECONDITION, "StepGap")
    assert (await state(rig, key) == rig.fold(X, -H)[:, -1]).all()


@pytest.mark.parametrize("way", WAYS)
async def test_another_one_at_the_same_place_is_done(rig: Any, way: str) -> None:
    """And copies of those before it are still known."""
    key = await rig.open()
    await rig.step(key, X, step=1)
    for id in range(1, 31):
        await write(rig, key, way, id, 1)
    assert await write(rig, key, "reset", 31, 1) == 1
    for id in range(1, 31):
        assert await write(rig, key, "set", id, 1) == 1
        assert (await state(rig, key) == 0).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("after", [0, 2, 2**63, 2**64 - 1])
async def test_out_of_order(rig: Any, way: str, after: int) -> None:
    """Before a step that it should come after, or the other way round."""
    key = await rig.open()
    await rig.step(key, X, step=1)
    before = await rig.snapshot()
    error = await rig.refused(write(rig, key, way, 5, after), Code.FAILED_PRECONDITION, "StepGap")
    assert dict(error.trailing_metadata())["expected-step"] == "2"
    assert error.details() == (
        f"the states were to be replaced after step {after}, but the session has made 1"
    )
    assert await rig.snapshot() == before
    assert await write(rig, key, way, 5, 1) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_without_an_order_it_is_done_when_it_comes(rig: Any, way: str) -> None:
    key = await rig.open()
    for _ in range(2):
        await rig.step(key, X)
        await write(rig, key, way, 0, 99)
        assert (await state(rig, key) == written(way)).all()


async def test_sessions_do_not_share_them(rig: Any) -> None:
    key, other = await rig.open(), await rig.open()
    await write(rig, key, "set", 7, 0)
    forked = (await rig.sessions.Fork(pb.ForkRequest(session=key))).session
    await rig.sessions.ResetStates(pb.ResetStatesRequest(session=forked))
    for each in (other, forked):
        await write(rig, each, "set", 7, 0)
        assert (await state(rig, each) == H).all()


async def test_a_session_of_the_same_id_knows_nothing_of_the_one_before(rig: Any) -> None:
    for _ in range(2):
        key = await rig.open(session_id="mine")
        await write(rig, key, "set", 7, 0)
        assert (await state(rig, key) == H).all()
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))


@pytest.mark.parametrize("way", WAYS[1:])
async def test_one_that_fails_can_be_sent_again(rig: Any, way: str) -> None:
    key = await rig.open()
    engine = rig.serving.model("fold").driver.engine
    good = engine.write

    def fail(rows: Any, states: Any) -> None:
        raise StepFailed("on purpose")

    try:
        engine.write = fail
        await rig.refused(write(rig, key, way, 1, 0), Code.INVALID_ARGUMENT, "StepFailed")
    finally:
        engine.write = good
    assert (await state(rig, key) == 0).all()
    assert await write(rig, key, way, 1, 0) == 0
    assert (await state(rig, key) == H).all()


async def test_a_pipeline_of_steps_and_resets_sent_twice(make_rig: Any) -> None:
    """Cut off after any part of it had been done."""
    rig = await make_rig(hold="fold")
    scheduler = rig.serving.model("fold").scheduler
    broken = Stream(rig)
    key = (await broken.ask(1, open=pb.OpenSessionRequest(model_name="fold"))).open.session

    async def send(stream: Stream) -> list[int]:
        sent = []
        for step in range(1, 7):
            sent.append(await stream.step(1, X * step, step=step))
            order = pb.Order(id=100 + step, after_step=step)
            sent.append(await stream.send(1, reset=pb.ResetStatesRequest(order=order)))
        return sent

    await send(broken)
    await rig.until(lambda: scheduler.pending == 12)
    broken.call.cancel()
    await rig.until(lambda: scheduler.pending == 1)
    stream = Stream(rig)
    await stream.ask(1, resume=key)
    sent = await send(stream)
    rig.held["fold"].released.set()
    answers = [await stream.answer(request) for request in sent]
    for step, (stepped, reset) in enumerate(zip(answers[::2], answers[1::2], strict=True), 1):
        expected = rig.fold(X * step)[:, -1]
        assert (rig.array_of(stepped.step.outputs[0]) == expected).all()
        assert (stepped.step.step, reset.reset.step) == (step, step)
    assert (await state(rig, key) == 0).all()
    await stream.end()


async def test_the_step_before_it_fails(rig: Any) -> None:
    """Then it is not done, either, and can be sent again with the step."""
    stream = Stream(rig)
    await stream.ask(1, open=pb.OpenSessionRequest(model_name="mixed"))
    order = pb.Order(id=7, after_step=1)

    async def send(place: int) -> list[pb.StreamResponse]:
        inputs = [rig.tensor("x", np.float32([[1, 1]])), rig.tensor("place", np.array([place]))]
        sent = [
            await stream.send(1, step=pb.StepRequest(inputs=inputs, step=1)),
            await stream.send(1, reset=pb.ResetStatesRequest(order=order)),
        ]
        return [await stream.answer(request) for request in sent]

    assert [answer.error.kind for answer in await send(9)] == ["StepFailed", "StepGap"]
    stepped, reset = await send(1)
    assert (stepped.step.step, reset.reset.step) == (1, 1)
    await stream.end()

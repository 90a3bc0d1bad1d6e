"""Many sessions that take each other's states while all of them go on, in random order."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb

ROUNDS, WALKS = 25, 16


@pytest.mark.parametrize("seed", range(3))
async def test_everybody_gets_the_states_of_the_right_moment(make_rig: Any, seed: int) -> None:
    """Each walk has a session of its own, which it advances, cancels openings on, and replaces by
    one that begins with its states.
    """
    rig = await make_rig(max_sessions=200)
    rng = np.random.default_rng(seed)

    async def walk(number: int) -> None:
        key = await rig.open("encoder")
        state = np.zeros((1, 2), np.int64)
        for _ in range(ROUNDS):
            x = rng.integers(-9, 9, (1, int(rng.integers(1, 9)), 2))
            request = pb.OpenSessionRequest(
                model_name="encoder", states_of=pb.StatesOf(session=key)
            )
            steps = [asyncio.ensure_future(rig.step(key, x)) for _ in range(int(rng.integers(3)))]
            for step in steps:
                await step
                state = rig.fold(x, state)[:, -1]
            opening = asyncio.ensure_future(rig.sessions.OpenSession(request))
            if rng.integers(3) == 0:
                await asyncio.sleep(float(rng.random()) / 1000)
                if not opening.cancel():  # it was there already
                    other = (await opening).session
                    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=other))
                continue
            opened = await opening
            if rng.integers(2):
                await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
                key = opened.session
            else:
                await rig.step(opened.session, x)
                await rig.sessions.CloseSession(pb.CloseSessionRequest(session=opened.session))
            states = rig.arrays_of((await rig.states(key)).states)
            assert states["h"].tolist() == state.tolist()
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))

    await asyncio.gather(*(walk(number) for number in range(WALKS)))
    await rig.serving.idle()
    # Who cancels a call whose answer is on the wire does not get it, and the server cannot know.
    for session in rig.serving.sessions:
        assert session.phase.name == "IDLE"
        session.home.close(session)
    ledger = rig.serving.model("encoder").scheduler.ledger
    assert (ledger.reserved_rows, ledger.pending, ledger.working_rows) == (0, 0, 0)
    assert not len(rig.serving.sessions)


async def test_a_chain_of_sessions_without_waiting(make_rig: Any) -> None:
    """Each begins with the states of the one before, which itself has not begun yet."""
    rig = await make_rig(hold="encoder")
    call = rig.sessions.Stream()
    x = np.array([[[1, 2]]])
    step = pb.StepRequest(inputs=[rig.tensor("x", x)], return_state=True)
    for number in range(6):
        fields = {"states_of": pb.StatesOf(stream_session=number - 1)} if number else {}
        open_ = pb.OpenSessionRequest(model_name="encoder", **fields)
        await call.write(pb.StreamRequest(request_id=0, session=number, open=open_))
        await call.write(pb.StreamRequest(request_id=number + 1, session=number, step=step))
    await call.done_writing()
    await rig.until(lambda: len(rig.serving.sessions) == 6)
    rig.held["encoder"].released.set()
    answers = {answer.request_id: answer async for answer in call}
    for number in range(6):
        expected = rig.fold(np.repeat(x, number + 1, axis=1))[:, -1]
        got = rig.array_of(answers[number + 1].step.states[0])
        assert got.tolist() == expected.tolist()


async def test_the_first_of_a_chain_fails(rig: Any) -> None:
    """Then none of those behind it stays open."""
    gain = rig.tensor("gain", np.array([[2, 3]]))
    first = await rig.open("decoder", constants=[gain])
    engine = rig.serving.model("decoder").driver.engine

    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    engine.read = fail
    call = rig.sessions.Stream()
    for number in range(4):
        others = pb.StatesOf(session=first, states={"h": "d"})
        wanted = pb.StatesOf(stream_session=number - 1) if number else others
        open_ = pb.OpenSessionRequest(model_name="encoder", states_of=wanted)
        await call.write(pb.StreamRequest(request_id=number, session=number, open=open_))
    await call.done_writing()
    answers = {answer.request_id: answer async for answer in call}
    assert all(answer.error.code != grpc.StatusCode.OK.value[0] for answer in answers.values())
    assert answers[0].error.kind == "InternalError"
    await rig.until(lambda: len(rig.serving.sessions) == 1)

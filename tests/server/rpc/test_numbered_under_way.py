"""Numbered steps that are asked for again before their answer is there: while they wait or run, or
after a call that was cancelled or whose deadline has passed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from server.errors import StepFailed
from tests.server.rpc.wire import Stream, all_rows_are_free

Code = grpc.StatusCode
LONG = np.arange(1, 23).reshape(1, 11, 2)  # three pieces
SHORT = LONG[:, :3]  # one


@pytest.fixture
async def rig(make_rig: Any) -> Any:
    return await make_rig(hold="fold")


def release(rig: Any) -> None:
    rig.held["fold"].released.set()


async def after(rig: Any, key: pb.SessionKey, *inputs: Any) -> None:
    """The session has run exactly these steps."""
    states = await rig.states(key)
    assert states.step == len(inputs)
    expected = rig.fold(np.concatenate(inputs, axis=1))[:, -1] if inputs else np.zeros((1, 2))
    assert (rig.array_of(states.states[0]) == expected).all()


async def cancelled(rig: Any, key: pb.SessionKey, call: Any, position: int) -> None:
    """Cancel the call, and wait until the server knows."""
    session = rig.serving.sessions.find(key.session_id)
    request = session.pending[position]
    call.cancel()
    await rig.until(lambda: request.cancelled)


@pytest.mark.parametrize("x", [SHORT, LONG])
async def test_a_retry_waits_for_the_step_that_runs(rig: Any, x: Any) -> None:
    key = await rig.open()
    calls = [await rig.arrived(rig.step(key, x, step=1)) for _ in range(3)]
    release(rig)
    first, *others = await asyncio.gather(*calls)
    assert others == [first, first]
    assert (rig.array_of(first.outputs[0]) == rig.fold(x)[:, -1]).all()
    await after(rig, key, x)


async def test_a_retry_overtaken_by_the_next_step(rig: Any) -> None:
    key = await rig.open()
    first = await rig.arrived(rig.step(key, LONG, step=1))
    second = await rig.arrived(rig.step(key, SHORT, step=2))
    again = await rig.arrived(rig.step(key, LONG, step=1))
    release(rig)
    assert (await again) == (await first)
    assert (await second).step == 2
    await after(rig, key, LONG, SHORT)


async def test_a_conflict_is_found_behind_the_step_that_runs(rig: Any) -> None:
    key = await rig.open()
    first = await rig.arrived(rig.step(key, LONG, step=1))
    other = await rig.arrived(rig.step(key, -LONG, step=1))
    release(rig)
    await first
    await rig.refused(other, Code.FAILED_PRECONDITION, "StepConflict")
    await after(rig, key, LONG)


async def test_cancelled_in_its_only_piece_it_counts(rig: Any) -> None:
    key = await rig.open()
    await cancelled(rig, key, await rig.arrived(rig.step(key, SHORT, step=1)), 0)
    release(rig)
    answer = await rig.step(key, SHORT, step=1)
    assert (rig.array_of(answer.outputs[0]) == rig.fold(SHORT)[:, -1]).all()
    await after(rig, key, SHORT)


async def test_cancelled_between_its_pieces_it_does_not_count(rig: Any) -> None:
    key = await rig.open()
    await cancelled(rig, key, await rig.arrived(rig.step(key, LONG, step=1)), 0)
    release(rig)
    await rig.serving.idle()
    await after(rig, key)
    assert (await rig.step(key, LONG, step=1)).step == 1
    await after(rig, key, LONG)


@pytest.mark.parametrize("x", [SHORT, LONG])
async def test_a_retry_behind_a_cancelled_call(rig: Any, x: Any) -> None:
    """Whether the first one counts or not, the step is made once."""
    key = await rig.open()
    first = await rig.arrived(rig.step(key, x, step=1))
    again = await rig.arrived(rig.step(key, x, step=1))
    await cancelled(rig, key, first, 0)
    release(rig)
    assert (rig.array_of((await again).outputs[0]) == rig.fold(x)[:, -1]).all()
    await after(rig, key, x)


async def test_cancelled_while_it_waits_it_does_not_count(rig: Any) -> None:
    key = await rig.open()
    first = await rig.arrived(rig.step(key, LONG, step=1))
    second = await rig.arrived(rig.step(key, SHORT, step=2))
    third = await rig.arrived(rig.step(key, SHORT, step=3))
    await cancelled(rig, key, second, 1)
    release(rig)
    await first
    error = await rig.refused(third, Code.FAILED_PRECONDITION, "StepGap")
    assert dict(error.trailing_metadata())["expected-step"] == "2"
    await after(rig, key, LONG)


async def test_a_cancelled_retry_harms_nobody(rig: Any) -> None:
    key = await rig.open()
    first = await rig.arrived(rig.step(key, LONG, step=1))
    again = await rig.arrived(rig.step(key, LONG, step=1))
    await cancelled(rig, key, again, 1)
    release(rig)
    assert (await first).step == 1
    await after(rig, key, LONG)


@pytest.mark.parametrize("states", [False, True])
async def test_what_a_cancelled_call_had_asked_for_is_remembered(rig: Any, states: bool) -> None:
    key = await rig.open()
    call = await rig.arrived(rig.step(key, SHORT, step=1, return_state=states))
    await cancelled(rig, key, call, 0)
    release(rig)
    await rig.serving.idle()
    answer = await rig.step(key, SHORT, step=1, return_state=states)
    arrays = [rig.array_of(each) for each in (*answer.outputs, *answer.states)]
    assert len(arrays) == 1 + states
    assert all((array == rig.fold(SHORT)[:, -1]).all() for array in arrays)
    await after(rig, key, SHORT)


async def test_states_that_could_not_be_read(make_rig: Any) -> None:
    """The step is made, and the answer says so; its outputs can be asked for."""
    rig = await make_rig()
    key = await rig.open()
    engine = rig.serving.model("fold").driver.engine
    read = engine.read

    def fail(rows: Any) -> Any:
        raise StepFailed("on purpose")

    try:
        engine.read = fail
        call = rig.step(key, SHORT, step=1, return_state=True)
        error = await rig.refused(call, Code.INTERNAL, "InternalError")
    finally:
        engine.read = read
    assert error.details() == "step 1 was made, but its states could not be read: on purpose"
    call = rig.step(key, SHORT, step=1, return_state=True)
    await rig.refused(call, Code.OUT_OF_RANGE, "StepForgotten")
    answer = await rig.step(key, SHORT, step=1)
    assert (rig.array_of(answer.outputs[0]) == rig.fold(SHORT)[:, -1]).all()
    await after(rig, key, SHORT)


async def expired(rig: Any, key: pb.SessionKey, x: Any, number: int) -> None:
    """A call whose deadline passes while its step is held."""
    inputs = [rig.tensor("x", x)]
    request = pb.StepRequest(session=key, inputs=inputs, step=number)
    call = await rig.arrived(rig.sessions.Step(request, timeout=0.2))
    pending = rig.serving.sessions.find(key.session_id).pending[-1]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    await rig.until(lambda: pending.cancelled)


@pytest.mark.parametrize("x", [SHORT, LONG])
async def test_a_deadline_that_passes_while_the_step_runs(rig: Any, x: Any) -> None:
    key = await rig.open()
    await expired(rig, key, x, 1)
    release(rig)
    assert (await rig.step(key, x, step=1)).step == 1
    await after(rig, key, x)


async def test_a_deadline_that_passes_while_the_step_waits(rig: Any) -> None:
    key = await rig.open()
    first = await rig.arrived(rig.step(key, LONG, step=1))
    await expired(rig, key, SHORT, 2)
    release(rig)
    await first
    await after(rig, key, LONG)
    assert (await rig.step(key, SHORT, step=2)).step == 2
    await after(rig, key, LONG, SHORT)


async def test_a_pipeline_of_which_one_fails(make_rig: Any) -> None:
    """Nothing is committed out of order: those behind it are refused."""
    rig = await make_rig()
    stream = Stream(rig)
    await stream.ask(1, open=pb.OpenSessionRequest(model_name="mixed"))

    async def send(number: int, place: int) -> int:
        inputs = [rig.tensor("x", np.float32([[1, 1]])), rig.tensor("place", np.array([place]))]
        return await stream.send(1, step=pb.StepRequest(inputs=inputs, step=number))

    sent = [await send(n, 9 if n == 3 else 1) for n in range(1, 7)]
    answers = [await stream.answer(request_id) for request_id in sent]
    kinds = [answer.error.kind for answer in answers]
    assert kinds == ["", "", "StepFailed", "StepGap", "StepGap", "StepGap"]
    assert [answer.error.expected_step for answer in answers] == [0, 0, 0, 3, 3, 3]
    answers = [await stream.answer(await send(n, 1)) for n in range(3, 7)]
    assert [answer.step.step for answer in answers] == [3, 4, 5, 6]
    assert rig.arrays_of(answers[-1].step.outputs)["y"].tolist() == [[66, 126]]
    await stream.end()


async def test_a_pipeline_taken_up_by_another_stream(rig: Any) -> None:
    """The stream breaks with everything under way; all is sent again, and is made once."""
    scheduler = rig.serving.model("fold").scheduler
    broken = Stream(rig)
    key = (await broken.ask(1, open=pb.OpenSessionRequest(model_name="fold"))).open.session
    for number in range(1, 9):
        await broken.step(1, SHORT * number, step=number)
    await rig.until(lambda: scheduler.pending == 8)
    broken.call.cancel()
    await rig.until(lambda: scheduler.pending == 1)  # the one that runs
    stream = Stream(rig)
    await stream.ask(5, resume=key)
    sent = [await stream.step(5, SHORT * number, step=number) for number in range(1, 9)]
    release(rig)
    steps = [(await stream.answer(request_id)).step.step for request_id in sent]
    assert steps == list(range(1, 9))
    await after(rig, key, *(SHORT * number for number in range(1, 9)))
    await stream.ask(5, close=pb.CloseSessionRequest())
    await stream.end()
    assert all_rows_are_free(rig)

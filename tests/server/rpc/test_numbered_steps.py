"""A step that says its number runs once, however often it is asked for."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb

Code = grpc.StatusCode
X = np.arange(1, 23).reshape(1, 11, 2)  # eleven timesteps: two pieces of four, and one of three
ONE = X[:, :1]
BYTES = 600 + 16  # of the answer to ONE, as the server counts


async def test_a_retry_gets_the_answer_that_was_given(rig: Any) -> None:
    key = await rig.open()
    for number in range(1, 6):
        answer = await rig.step(key, ONE * number, step=number)
        assert answer.step == number
        assert await rig.step(key, ONE * number, step=number) == answer
    expected = rig.fold(np.concatenate([ONE * n for n in range(1, 6)], axis=1))[:, -1]
    states = await rig.states(key)
    assert states.step == 5
    assert (rig.array_of(states.states[0]) == expected).all()


async def test_older_steps_are_answered_too(rig: Any) -> None:
    key = await rig.open()
    answers = [await rig.step(key, ONE * n, step=n) for n in (1, 2, 3)]
    assert [await rig.step(key, ONE * n, step=n) for n in (1, 3, 2)] == [
        answers[0], answers[2], answers[1],
    ]  # fmt: skip
    assert (await rig.states(key)).step == 3


async def test_steps_without_a_number_count_as_well(rig: Any) -> None:
    key = await rig.open()
    await rig.step(key, ONE)
    assert (await rig.step(key, ONE, step=2)).step == 2
    await rig.refused(rig.step(key, ONE, step=1), Code.OUT_OF_RANGE, "StepForgotten")


@pytest.mark.parametrize("number", [5, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
async def test_a_gap_is_refused_with_the_step_that_is_expected(rig: Any, number: int) -> None:
    key = await rig.open()
    await rig.step(key, ONE, step=1)
    before = await rig.snapshot()
    error = await rig.refused(rig.step(key, ONE, step=number), Code.FAILED_PRECONDITION, "StepGap")
    assert dict(error.trailing_metadata())["expected-step"] == "2"
    assert error.details().startswith(f"step {number} is not the next one: expected step 2")
    assert await rig.snapshot() == before
    assert (await rig.step(key, ONE, step=2)).step == 2


async def test_other_inputs_under_the_same_number_are_refused(rig: Any) -> None:
    key = await rig.open()
    answer = await rig.step(key, X, step=1)
    for other in (-X, X[:, :-1], ONE):
        error = await rig.refused(
            rig.step(key, other, step=1), Code.FAILED_PRECONDITION, "StepConflict"
        )
        assert error.details().startswith("step 1 was committed before with other inputs")
    assert await rig.step(key, X, step=1) == answer
    assert (await rig.states(key)).step == 1


async def test_inputs_in_another_order_are_the_same(rig: Any) -> None:
    key = await rig.open("mixed")
    x, place = rig.tensor("x", np.float32([[1, 2]])), rig.tensor("place", np.array([1]))
    request = pb.StepRequest(session=key, inputs=[x, place], step=1)
    answer = await rig.sessions.Step(request)
    request = pb.StepRequest(session=key, inputs=[place, x], step=1)
    assert await rig.sessions.Step(request) == answer


async def test_a_step_that_failed_leaves_its_number_free(rig: Any) -> None:
    key = await rig.open("mixed")
    request = pb.StepRequest(session=key, step=1)
    request.inputs.extend([rig.tensor("x", np.float32([[1, 2]])), rig.tensor("place", [9])])
    await rig.refused(rig.sessions.Step(request), Code.INVALID_ARGUMENT, "StepFailed")
    request.inputs[1].CopyFrom(rig.tensor("place", np.array([1])))
    assert (await rig.sessions.Step(request)).step == 1


async def test_what_is_acknowledged_is_forgotten(rig: Any) -> None:
    key = await rig.open()
    for number in (1, 2, 3):
        await rig.step(key, ONE, step=number)
    await rig.step(key, ONE, step=4, acknowledged=2)
    for number in (1, 2):
        error = await rig.refused(
            rig.step(key, ONE, step=number), Code.OUT_OF_RANGE, "StepForgotten"
        )
        assert error.details().startswith(f"step {number} was committed before, and its answer")
    assert [(await rig.step(key, ONE, step=n)).step for n in (3, 4)] == [3, 4]


async def test_more_is_acknowledged_than_there_is(rig: Any) -> None:
    """Only what has been answered by then can be forgotten."""
    key = await rig.open()
    answer = await rig.step(key, ONE, step=1, acknowledged=2**64 - 1)
    assert await rig.step(key, ONE, step=1) == answer


async def test_as_many_answers_as_there_are_bytes_for(make_rig: Any) -> None:
    """The oldest are forgotten first, whichever session they belong to."""
    rig = await make_rig(max_remembered_bytes=3 * BYTES)
    first, second = await rig.open(), await rig.open()
    await rig.step(first, ONE, step=1)
    await rig.step(second, ONE, step=1)
    await rig.step(first, ONE, step=2)
    assert (await rig.step(first, ONE, step=1)).step == 1
    await rig.step(second, ONE, step=2)
    await rig.refused(rig.step(first, ONE, step=1), Code.OUT_OF_RANGE, "StepForgotten")
    for key, number in ((second, 1), (first, 2), (second, 2)):
        assert (await rig.step(key, ONE, step=number)).step == number


async def test_nothing_is_remembered_where_nothing_may_be(make_rig: Any) -> None:
    rig = await make_rig(max_remembered_bytes=0)
    key = await rig.open()
    await rig.step(key, ONE, step=1)
    await rig.refused(rig.step(key, ONE, step=1), Code.OUT_OF_RANGE, "StepForgotten")
    assert (await rig.step(key, ONE, step=2)).step == 2


async def test_the_last_64_of_a_session_are_remembered(rig: Any) -> None:
    key = await rig.open()
    for number in range(1, 71):
        await rig.step(key, ONE, step=number)
    await rig.refused(rig.step(key, ONE, step=6), Code.OUT_OF_RANGE, "StepForgotten")
    assert (await rig.step(key, ONE, step=7)).step == 7


async def test_return_sequences_of_a_retry(rig: Any) -> None:
    """What is remembered are all timesteps, whichever were asked for."""
    key = await rig.open()
    short = await rig.step(key, X, step=1)
    long = await rig.step(key, X, step=1, return_sequences=True)
    assert (rig.array_of(long.outputs[0]) == rig.fold(X)).all()
    assert await rig.step(key, X, step=1) == short


async def test_return_state_of_a_retry(rig: Any) -> None:
    key = await rig.open()
    answer = await rig.step(key, X, step=1, return_state=True)
    assert (rig.array_of(answer.states[0]) == rig.fold(X)[:, -1]).all()
    await rig.step(key, ONE, step=2)
    assert await rig.step(key, X, step=1, return_state=True) == answer
    assert len((await rig.step(key, X, step=1)).states) == 0


async def test_states_that_were_not_asked_for_are_not_remembered(rig: Any) -> None:
    key = await rig.open()
    answer = await rig.step(key, X, step=1)
    call = rig.step(key, X, step=1, return_state=True)
    await rig.refused(call, Code.OUT_OF_RANGE, "StepForgotten")
    assert await rig.step(key, X, step=1) == answer


async def test_a_reset_does_not_count_and_does_not_forget(rig: Any) -> None:
    key = await rig.open()
    answer = await rig.step(key, X, step=1)
    await rig.sessions.ResetStates(pb.ResetStatesRequest(session=key))
    assert await rig.step(key, X, step=1) == answer
    assert rig.array_of((await rig.states(key)).states[0]).tolist() == [[0, 0]]
    assert (await rig.step(key, X, step=2)).outputs == answer.outputs


async def test_a_session_of_the_same_id_remembers_nothing_of_the_one_before(rig: Any) -> None:
    key = await rig.open(session_id="mine")
    await rig.step(key, X, step=1)
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    key = await rig.open(session_id="mine")
    answer = await rig.step(key, -X, step=1)
    assert (rig.array_of(answer.outputs[0]) == rig.fold(-X)[:, -1]).all()

"""Open Inference clients, too, can have each request of a sequence made once: `rnnserve_step`."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

Code = grpc.StatusCode
X = [np.array([[[n, -n], [n + 1, 2 * n]]]) for n in (0, 5, 7, 11, 13)]  # those of step n at n
LONG = np.arange(1, 23).reshape(1, 11, 2)  # three pieces


def request(rig: Any, x: Any, step: int, sequence: Any = 1, **options: Any) -> Any:
    asked = rig.infer("fold", {"x": x}, sequence, **options)
    asked.parameters["rnnserve_step"].int64_param = step
    return asked


async def run(rig: Any, x: Any, step: int, sequence: Any = 1, **options: Any) -> list[Any]:
    """The output "y" of one numbered inference, without the batch axis."""
    response = await rig.inference.ModelInfer(request(rig, x, step, sequence, **options))
    return rig.outputs_of(response)["y"][0].tolist()


def folded(rig: Any, *inputs: Any) -> list[Any]:
    """What the last of these requests is answered."""
    length = inputs[-1].shape[1]
    return rig.fold(np.concatenate(inputs, axis=1))[0, -length:].tolist()


@pytest.mark.parametrize("sequence", [1, -5, "one"])
async def test_each_request_sent_twice(rig: Any, sequence: Any) -> None:
    for step in (1, 2, 3, 4):
        options = {"start": step == 1, "end": step == 4}
        for _ in range(2):
            answer = await run(rig, X[step], step, sequence, **options)
            assert answer == folded(rig, *X[1 : step + 1])
    assert len(rig.serving.sessions) == 0


async def test_older_requests_are_answered_too(rig: Any) -> None:
    for step in (1, 2, 3):
        await run(rig, X[step], step, start=step == 1)
    for step in (2, 3, 2):
        assert await run(rig, X[step], step) == folded(rig, *X[1 : step + 1])
    assert await run(rig, X[4], 4) == folded(rig, *X[1:])


async def test_unsigned_numbers(rig: Any) -> None:
    await run(rig, X[1], 1, start=True)
    asked = rig.infer("fold", {"x": X[2]}, 1)
    asked.parameters["rnnserve_step"].uint64_param = 2
    for _ in range(2):
        response = await rig.inference.ModelInfer(asked)
        assert rig.outputs_of(response)["y"][0].tolist() == folded(rig, *X[1:3])


@pytest.mark.parametrize("step", [3, 2**63 - 1])
async def test_a_gap(rig: Any, step: int) -> None:
    await run(rig, X[1], 1, start=True)
    call = run(rig, X[2], step)
    error = await rig.refused(call, Code.FAILED_PRECONDITION, "StepGap")
    assert dict(error.trailing_metadata())["expected-step"] == "2"
    assert await run(rig, X[2], 2) == folded(rig, *X[1:3])


async def test_a_conflict(rig: Any) -> None:
    await run(rig, X[1], 1, start=True)
    await run(rig, X[2], 2)
    await rig.refused(run(rig, X[3], 2), Code.FAILED_PRECONDITION, "StepConflict")
    assert await run(rig, X[3], 3) == folded(rig, *X[1:4])


async def test_what_is_not_remembered(make_rig: Any) -> None:
    rig = await make_rig(max_remembered_bytes=0)
    await run(rig, X[1], 1, start=True)
    await run(rig, X[2], 2)
    await rig.refused(run(rig, X[2], 2), Code.OUT_OF_RANGE, "StepForgotten")
    assert await run(rig, X[3], 3) == folded(rig, *X[1:4])


async def test_in_a_stream_a_gap_is_an_answer(rig: Any) -> None:
    stream = rig.inference.ModelStreamInfer()
    texts = []
    for step, start in ((1, True), (3, False), (2, False)):
        await stream.write(request(rig, X[step], step, start=start))
        texts.append((await stream.read()).error_message)
    assert texts[0] == texts[2] == ""
    assert texts[1].startswith("step 3 is not the next one: expected step 2")
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


# ---- the first one ------------------------------------------------------------------------------


async def test_a_start_sent_again_does_not_begin_anew(rig: Any) -> None:
    await run(rig, X[1], 1, start=True)
    (session,) = rig.serving.sessions
    assert await run(rig, X[1], 1, start=True) == folded(rig, X[1])
    assert list(rig.serving.sessions) == [session]
    assert session.step == 1


async def test_a_start_sent_again_while_it_runs(make_rig: Any) -> None:
    """And more behind it."""
    rig = await make_rig(hold="fold")
    first = await rig.arrived(run(rig, LONG, 1, start=True))
    again = await rig.arrived(run(rig, LONG, 1, start=True))
    second = await rig.arrived(run(rig, X[2], 2))
    assert len(rig.serving.sessions) == 1
    rig.held["fold"].released.set()
    assert await first == await again == folded(rig, LONG)
    assert await second == folded(rig, LONG, X[2])


@pytest.mark.parametrize("x", [X[1], LONG])
@pytest.mark.parametrize("retry_first", [False, True])
async def test_a_start_whose_call_was_cancelled(make_rig: Any, x: Any, retry_first: bool) -> None:
    """Whether it counts (one piece) or not (several), the one sent again has its answer."""
    rig = await make_rig(hold="fold")
    first = await rig.arrived(run(rig, x, 1, start=True))
    (session,) = rig.serving.sessions
    pending, again = session.pending[0], None
    if retry_first:
        again = await rig.arrived(run(rig, x, 1, start=True))
    first.cancel()
    await rig.until(lambda: pending.cancelled)
    if again is None:
        again = await rig.arrived(run(rig, x, 1, start=True))
    rig.held["fold"].released.set()
    assert await again == folded(rig, x)
    assert await run(rig, X[2], 2) == folded(rig, x, X[2])


async def test_a_start_with_other_inputs_begins_anew(rig: Any) -> None:
    await run(rig, X[1], 1, start=True)
    assert await run(rig, X[2], 1, start=True) == folded(rig, X[2])
    assert await run(rig, X[3], 2) == folded(rig, X[2], X[3])


async def test_a_start_after_more_steps_begins_anew(rig: Any) -> None:
    """Nobody sends the first request again who has the answer to the second one."""
    await run(rig, X[1], 1, start=True)
    await run(rig, X[2], 2)
    assert await run(rig, X[1], 1, start=True) == folded(rig, X[1])
    assert await run(rig, X[3], 2) == folded(rig, X[1], X[3])


async def test_a_start_without_a_number_begins_anew(rig: Any) -> None:
    for _ in range(2):
        await run(rig, X[1], 0, start=True)
        assert await run(rig, X[2], 2) == folded(rig, *X[1:3])


@pytest.mark.parametrize("step", [2, 2**62, -1])
async def test_a_start_is_step_one(rig: Any, step: int) -> None:
    call = run(rig, X[1], step, start=True)
    error = await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")
    assert "rnnserve_step" in error.details()
    assert len(rig.serving.sessions) == 0


# ---- the last one -------------------------------------------------------------------------------


async def test_an_end_sent_again_has_its_answer(rig: Any) -> None:
    """The sequence is gone; steps before it have theirs, too."""
    for step in (1, 2, 3):
        await run(rig, X[step], step, start=step == 1, end=step == 3)
    assert len(rig.serving.sessions) == 0
    for step in (3, 2, 3):
        assert await run(rig, X[step], step, end=step == 3) == folded(rig, *X[1 : step + 1])
    await rig.refused(run(rig, X[4], 3, end=True), Code.FAILED_PRECONDITION, "StepConflict")
    error = await rig.refused(run(rig, X[4], 4), Code.INVALID_ARGUMENT, "InvalidRequest")
    assert "must specify the START flag on the first request of the sequence" in error.details()
    assert len(rig.serving.sessions) == 0


async def test_an_end_sent_again_while_it_runs(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    first = await rig.arrived(run(rig, X[1], 1, start=True))
    last = await rig.arrived(run(rig, LONG, 2, end=True))
    again = await rig.arrived(run(rig, LONG, 2, end=True))
    rig.held["fold"].released.set()
    assert await first == folded(rig, X[1])
    assert await last == await again == folded(rig, X[1], LONG)
    assert len(rig.serving.sessions) == 0
    assert await run(rig, LONG, 2, end=True) == folded(rig, X[1], LONG)


async def test_a_sequence_of_one_request(rig: Any) -> None:
    for _ in range(2):
        assert await run(rig, X[1], 1, start=True, end=True) == folded(rig, X[1])
    assert await run(rig, X[2], 1, start=True, end=True) == folded(rig, X[2])
    assert len(rig.serving.sessions) == 0


async def test_an_end_whose_call_was_cancelled(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    rig.held["fold"].released.set()
    await run(rig, X[1], 1, start=True)
    rig.held["fold"].released.clear()
    last = await rig.arrived(run(rig, X[2], 2, end=True))
    (session,) = rig.serving.sessions
    pending = session.pending[0]
    last.cancel()
    await rig.until(lambda: pending.cancelled)
    rig.held["fold"].released.set()
    await rig.serving.idle()
    assert await run(rig, X[2], 2, end=True) == folded(rig, *X[1:3])
    assert len(rig.serving.sessions) == 0


async def test_an_id_used_again_is_a_new_sequence(rig: Any) -> None:
    """Also where it begins with the very same inputs."""
    for last in (3, 4):
        assert await run(rig, X[1], 1, start=True) == folded(rig, X[1])
        assert len(rig.serving.sessions) == 1
        got = await run(rig, X[last], 2, end=True)
        assert got == folded(rig, X[1], X[last])
        assert await run(rig, X[last], 2, end=True) == got
        assert len(rig.serving.sessions) == 0


# ---- what is no number --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [{"string_param": "1"}, {"bool_param": True}, {"double_param": 1.0}]
)
async def test_of_the_wrong_type(rig: Any, kind: Any) -> None:
    asked = rig.infer("fold", {"x": X[1]}, 1, start=True)
    ((field, value),) = kind.items()
    setattr(asked.parameters["rnnserve_step"], field, value)
    call = rig.inference.ModelInfer(asked)
    error = await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details().startswith(
        "invalid value type for 'rnnserve_step' parameter, expected int64_param or uint64_param, "
        "got"
    )
    assert len(rig.serving.sessions) == 0


async def test_negative(rig: Any) -> None:
    await run(rig, X[1], 1, start=True)
    await rig.refused(run(rig, X[2], -1), Code.INVALID_ARGUMENT, "InvalidRequest")
    assert await run(rig, X[2], 2) == folded(rig, *X[1:3])


async def test_where_nothing_is_kept_it_means_nothing(rig: Any) -> None:
    asked = rig.infer("affine", {"x": np.ones((1, 2), np.float32)})
    asked.parameters["rnnserve_step"].int64_param = 7
    response = await rig.inference.ModelInfer(asked)
    assert rig.outputs_of(response)["y"].tolist() == [[3, 3]]


async def test_sequences_are_told_apart(rig: Any) -> None:
    """What is remembered of one that has ended belongs to its id, model and version."""
    for sequence, fields in ((1, {}), ("1", {}), (1, {"model_version": "1"})):
        x = X[1] + len(rig.serving.sessions)
        for _ in range(2):
            got = await run(rig, x, 1, sequence, start=True, end=True, **fields)
            assert got == folded(rig, x)
        await run(rig, X[2], 1, sequence, start=True, **fields)
    assert len(rig.serving.sessions) == 3


ROWS, TIMESTEPS = np.array([[[1, 2]], [[3, 4]]]), np.array([[[1, 2], [3, 4]]])  # the same bytes


@pytest.mark.parametrize("end", [False, True])
async def test_other_shapes_are_other_inputs(rig: Any, end: bool) -> None:
    """A START with the same bytes in another shape begins anew, and is not answered as before."""
    for x in (TIMESTEPS, ROWS, TIMESTEPS):
        request = rig.infer("fold", {"x": x}, 1, start=True, end=end)
        request.parameters["rnnserve_step"].int64_param = 1
        answer = rig.outputs_of(await rig.inference.ModelInfer(request))
        assert answer["y"].tolist() == rig.fold(x).tolist()

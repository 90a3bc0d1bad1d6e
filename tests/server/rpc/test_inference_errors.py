"""Open Inference: every refusal has its code and its text, and changes nothing.

Existing clients match on the start of these texts.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from server.rpc.sequences import SequenceId

X = np.array([[[1, 2]]])
PLACES = {"x": np.zeros((1, 2), np.float32), "place": np.array([0])}
Code = grpc.StatusCode

# what is wrong with a request to the live sequence 1 of "fold": arguments, options, code, text
REFUSED = {
    "continue without START": (
        ("fold", {"x": X}, 2), {}, Code.INVALID_ARGUMENT,
        "inference request for sequence 2 to model 'fold' must specify the START flag on the first "
        "request of the sequence",
    ),
    "continue a string id without START": (
        ("fold", {"x": X}, "1"), {}, Code.INVALID_ARGUMENT,
        "inference request for sequence 1 to model 'fold' must specify the START flag",
    ),
    "no sequence": (
        ("fold", {"x": X}), {}, Code.INVALID_ARGUMENT,
        "inference request to model 'fold' must specify a non-zero or non-empty correlation ID",
    ),
    "sequence 0": (
        ("fold", {"x": X}, 0), {"start": True}, Code.INVALID_ARGUMENT,
        "inference request to model 'fold' must specify a non-zero or non-empty correlation ID",
    ),
    "sequence without a name": (
        ("fold", {"x": X}, ""), {"start": True}, Code.INVALID_ARGUMENT,
        "inference request to model 'fold' must specify a non-zero or non-empty correlation ID",
    ),
    "another batch size": (
        ("fold", {"x": np.zeros((2, 1, 2), np.int64)}, 1), {}, Code.INVALID_ARGUMENT,
        "sequence 1 to model 'fold' has batch size 1 since its START, but this request has 2",
    ),
    "more rows than the model takes": (
        ("fold", {"x": np.zeros((9, 1, 2), np.int64)}, 1), {"start": True}, Code.INVALID_ARGUMENT,
        "inference request batch-size must be <= 8 for 'fold', got 9",
    ),
    "wrong datatype": (
        ("fold", {"x": X.astype(np.float32)}, 1), {}, Code.INVALID_ARGUMENT,
        "inference input 'x' data-type is 'FP32', but model 'fold' expects 'INT64'",
    ),
    "too many features": (
        ("fold", {"x": np.zeros((1, 1, 3), np.int64)}, 1), {}, Code.INVALID_ARGUMENT,
        "unexpected shape for input 'x' for model 'fold'. Expected [-1,-1,2], got [1,1,3].",
    ),
    "too few axes": (
        ("fold", {"x": np.zeros((1, 2), np.int64)}, 1), {}, Code.INVALID_ARGUMENT,
        "unexpected shape for input 'x' for model 'fold'. Expected [-1,-1,2], got [1,2].",
    ),
    "no rows": (
        ("fold", {"x": np.zeros((0, 1, 2), np.int64)}, 1), {}, Code.INVALID_ARGUMENT,
        "unexpected shape for input 'x' for model 'fold'. Expected [-1,-1,2], got [0,1,2].",
    ),
    "no timesteps": (
        ("fold", {"x": np.zeros((1, 0, 2), np.int64)}, 1), {}, Code.INVALID_ARGUMENT,
        "unexpected shape for input 'x' for model 'fold'. Expected [-1,-1,2], got [1,0,2].",
    ),
    "unknown input": (
        ("fold", {"z": X}, 1), {}, Code.INVALID_ARGUMENT,
        "unexpected inference input 'z' for model 'fold'",
    ),
    "a state as input": (
        ("fold", {"x": X, "h": np.zeros((1, 2), np.int64)}, 1), {}, Code.INVALID_ARGUMENT,
        "unexpected inference input 'h' for model 'fold'",
    ),
    "no input": (
        ("fold", {}, 1), {}, Code.INVALID_ARGUMENT,
        "expected 1 inputs but got 0 inputs for model 'fold'.",
    ),
    "a missing input": (
        ("mixed", {"x": np.zeros((1, 2), np.float32)}, 1), {"start": True}, Code.INVALID_ARGUMENT,
        "expected 2 inputs but got 1 inputs for model 'mixed'. Got input(s) ['x'], but missing "
        "required input(s) ['place'].",
    ),
    "inputs of different batch size": (
        ("mixed", PLACES | {"place": np.zeros(2, np.int64)}, 1), {"start": True},
        Code.INVALID_ARGUMENT,
        "input 'place' batch size does not match other inputs for 'mixed'",
    ),
    "unknown output": (
        ("fold", {"x": X}, 1), {"outputs": ("y", "z")}, Code.INVALID_ARGUMENT,
        "unexpected inference output 'z' for model 'fold'",
    ),
    "a state as output": (
        ("fold", {"x": X}, 1), {"outputs": ("h_next",)}, Code.INVALID_ARGUMENT,
        "unexpected inference output 'h_next' for model 'fold'",
    ),
    "unknown model": (
        ("other", {"x": X}, 1), {}, Code.NOT_FOUND,
        "Request for unknown model: 'other' is not found",
    ),
    "unknown version": (
        ("fold", {"x": X}, 1), {"model_version": "7"}, Code.NOT_FOUND,
        "Request for unknown model: 'fold' version 7 is not found",
    ),
    "no version": (
        ("fold", {"x": X}, 1), {"model_version": "one"}, Code.INVALID_ARGUMENT,
        "model version must be a whole number, got 'one'",
    ),
    "the model fails": (
        ("mixed", PLACES | {"place": np.array([7])}, 1), {"start": True}, Code.INVALID_ARGUMENT,
        "model 'mixed' failed: ",
    ),
}  # fmt: skip


async def start(rig: Any) -> Any:
    """The live sequence, and what must still be so afterwards."""
    await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1, start=True))
    await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1))
    return await rig.snapshot()


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("end", [False, True])
async def test_a_refusal_changes_nothing(rig: Any, case: str, end: bool) -> None:
    arguments, options, code, text = REFUSED[case]
    before = await start(rig)
    call = rig.inference.ModelInfer(rig.infer(*arguments, end=end, **options))
    error = await rig.refused(call, code)
    assert error.details().startswith(text)
    assert await rig.snapshot() == before


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refusal_in_a_stream_is_an_answer(rig: Any, case: str) -> None:
    arguments, options, _, text = REFUSED[case]
    before = await start(rig)
    stream = rig.inference.ModelStreamInfer()
    await stream.write(rig.infer(*arguments, id="wrong", **options))
    answer = await stream.read()
    assert answer.error_message.startswith(text)
    assert answer.infer_response.id == "wrong"
    assert await rig.snapshot() == before
    await stream.write(rig.infer("fold", {"x": X}, 1))
    assert rig.outputs_of((await stream.read()).infer_response)["y"].tolist() == [[[13, 26]]]
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


async def test_wrong_byte_size(rig: Any) -> None:
    before = await start(rig)
    for contents, got in ((b"", 0), (b"\0" * 15, 15), (b"\0" * 17, 17)):
        request = rig.infer("fold", {"x": X}, 1)
        request.raw_input_contents[0] = contents
        error = await rig.refused(rig.inference.ModelInfer(request), Code.INVALID_ARGUMENT)
        text = f"input byte size mismatch for input 'x' for model 'fold'. Expected 16, got {got}"
        assert error.details() == text
    assert await rig.snapshot() == before


async def test_a_failure_in_a_batch_is_its_own(rig: Any) -> None:
    """The one that fails takes nobody along, and leaves its own sequence as it was."""
    for sequence in range(1, 7):
        await rig.inference.ModelInfer(rig.infer("mixed", PLACES, sequence, start=True))
    before = await rig.snapshot()
    calls = [
        rig.inference.ModelInfer(
            rig.infer("mixed", PLACES | {"place": np.array([5 if sequence == 3 else 1])}, sequence)
        )
        for sequence in range(1, 7)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers.pop(2), grpc.aio.AioRpcError)
    assert [rig.outputs_of(a)["y"].tolist() for a in answers] == [[[10, 20]]] * 5
    after = await rig.snapshot()
    assert [id for id in after if after[id] == before[id]] == [repr(SequenceId("mixed", 1, 3))]


async def test_an_expired_sequence_is_told_so(rig: Any) -> None:
    await start(rig)
    (session,) = rig.serving.sessions
    assert rig.serving.sessions.expire(session.last_used_s + 61) == [session]
    error = await rig.refused(
        rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1)), Code.INVALID_ARGUMENT
    )
    text = (
        "inference request for sequence 1 to model 'fold' must specify the START flag on the first "
        "request of the sequence; it has expired after 60 s"
    )
    assert error.details().startswith(text)


async def test_too_many_sessions(make_rig: Any) -> None:
    rig = await make_rig(max_sessions=3)
    for sequence in (1, 2, 3):
        await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, sequence, start=True))
    before = await rig.snapshot()
    call = rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 4, start=True))
    error = await rig.refused(call, Code.RESOURCE_EXHAUSTED, "LimitReached")
    assert float(dict(error.trailing_metadata())["retry-after-s"]) > 0
    assert await rig.snapshot() == before


async def test_starting_anew_needs_no_more_room(make_rig: Any) -> None:
    rig = await make_rig(max_sessions=1)
    for _ in range(3):
        response = await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1, start=True))
        assert rig.outputs_of(response)["y"].tolist() == X.tolist()


async def test_a_refused_restart_leaves_the_live_sequence(make_rig: Any) -> None:
    """Limits are looked at before the old sequence is given up."""
    rig = await make_rig(hold="fold", max_pending=1)
    rig.held["fold"].released.set()
    before = await start(rig)
    rig.held["fold"].released.clear()
    first = await rig.arrived(rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 2, start=True)))
    call = rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1, start=True))
    await rig.refused(call, Code.RESOURCE_EXHAUSTED, "LimitReached")
    rig.held["fold"].released.set()
    await first
    after = await rig.snapshot()
    assert {id: after.get(id) for id in before} == before


async def test_a_restart_refused_for_want_of_room_leaves_the_live_sequence(make_rig: Any) -> None:
    rig = await make_rig(hold="mixed", max_sessions=1)
    first = await rig.arrived(
        rig.inference.ModelInfer(rig.infer("mixed", PLACES, 1, start=True)), "mixed"
    )
    two_rows = {"x": np.zeros((2, 2), np.float32), "place": np.array([0, 0])}
    call = rig.inference.ModelInfer(rig.infer("mixed", two_rows, 1, start=True))
    await rig.refused(call, Code.RESOURCE_EXHAUSTED, "LimitReached")
    rig.held["mixed"].released.set()
    await first
    (session,) = rig.serving.sessions
    assert (session.step, session.batch_size) == (1, 1)


async def test_too_long_a_queue(make_rig: Any) -> None:
    rig = await make_rig(max_pending_per_session=4)
    await start(rig)
    calls = [rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1)) for _ in range(40)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [a for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    assert all(error.code() is Code.RESOURCE_EXHAUSTED for error in refused)
    assert all("retry-after-s" in dict(error.trailing_metadata()) for error in refused)
    (session,) = rig.serving.sessions
    assert session.step == 2 + len(answers) - len(refused), "each answer is one committed step"


async def test_shutting_down(rig: Any) -> None:
    await start(rig)
    rig.serving.draining = True
    for sequence in (1, 2):  # a restart is a new sequence, too
        call = rig.inference.ModelInfer(rig.infer("fold", {"x": X}, sequence, start=True))
        await rig.refused(call, Code.UNAVAILABLE, "ShuttingDown")
    call = rig.inference.ModelInfer(rig.infer("affine", {"x": np.zeros((1, 2), np.float32)}))
    await rig.refused(call, Code.UNAVAILABLE, "ShuttingDown")
    response = await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1, end=True))
    assert rig.outputs_of(response)["y"].tolist() == [[[13, 26]]]
    assert rig.serving.empty.is_set()

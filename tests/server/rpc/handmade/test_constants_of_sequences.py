"""Open Inference sequences give their constants at START."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from server.errors import StepFailed
from server.stubs.inference import grpc_service_pb2 as oip

INVALID = grpc.StatusCode.INVALID_ARGUMENT
X = np.array([[[1, 2], [3, 4], [5, 6]]])
ONE = np.array([[1, 1]])


def expected(x: Any, gain: Any, d: Any = 1) -> Any:
    """The last state of "decoder": (1, 2)."""
    for time in range(x.shape[1]):
        d = 3 * d + x[:, time] * gain
    return d


async def opened(rig: Any, gain: Any) -> Any:
    return await rig.open("decoder", constants=[rig.tensor("gain", gain)])


async def infer(rig: Any, inputs: Any, sequence: Any = 1, **options: Any) -> Any:
    response = await rig.inference.ModelInfer(rig.infer("decoder", inputs, sequence, **options))
    return rig.outputs_of(response)["y"][:, -1]


async def test_a_sequence_gives_them_at_start(rig: Any) -> None:
    gains = {1: ONE * 3, 2: ONE * 5, "three": ONE * 7}
    for sequence, gain in gains.items():
        y = await infer(rig, {"x": X, "gain": gain}, sequence, start=True)
        assert (y == expected(X, gain)).all()
    for sequence, gain in gains.items():
        before = expected(X, gain)
        assert (await infer(rig, {"x": X}, sequence) == (after := expected(X, gain, before))).all()
        again = await infer(rig, {"gain": gain, "x": X}, sequence)  # said again, in other order
        assert (again == expected(X, gain, after)).all()


async def test_a_second_start_may_give_others(rig: Any) -> None:
    await infer(rig, {"x": X, "gain": ONE}, start=True)
    assert (await infer(rig, {"x": X, "gain": -ONE}, start=True) == expected(X, -1)).all()
    assert (await infer(rig, {"x": X}) == expected(X, -1, expected(X, -1))).all()


async def test_a_start_without_them_is_refused(rig: Any) -> None:
    await infer(rig, {"x": X, "gain": ONE}, start=True)
    error = await rig.refused(infer(rig, {"x": X}, start=True), INVALID)
    assert error.details() == (
        "expected number of inputs between 2 and 3 but got 1 inputs for model 'decoder'. Got "
        "input(s) ['x'], but missing required input(s) ['gain']. Please provide all required "
        "input(s)."
    )
    assert (await infer(rig, {"x": X}) == expected(X, 1, expected(X, 1))).all()


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        (ONE * 2, "'gain' for model 'decoder' is a constant, set at START: it may be left out"),
        (ONE.astype(np.int32), "inference input 'gain' data-type is 'INT32', but model 'decoder'"),
        (ONE[0], "unexpected shape for input 'gain' for model 'decoder'. Expected [1,2], got [2]"),
    ],
)
async def test_later_nothing_else_is_accepted(rig: Any, gain: Any, text: str) -> None:
    await infer(rig, {"x": X, "gain": ONE}, start=True)
    before = await rig.snapshot()
    error = await rig.refused(infer(rig, {"x": X, "gain": gain}), INVALID)
    assert text in error.details()
    assert await rig.snapshot() == before


async def test_given_twice_in_a_request(rig: Any) -> None:
    request = rig.infer("decoder", {"x": X, "gain": ONE}, 1, start=True)
    request.inputs.append(request.inputs[1])
    request.raw_input_contents.append(request.raw_input_contents[1])
    error = await rig.refused(rig.inference.ModelInfer(request), INVALID)
    assert error.details() == "input 'gain' for model 'decoder' is given twice"


async def test_typed_contents(rig: Any) -> None:
    request = rig.infer("decoder", {"x": X, "gain": ONE}, 1, start=True)
    del request.raw_input_contents[:]
    request.inputs[0].contents.int64_contents.extend(X.ravel().tolist())
    request.inputs[1].contents.int64_contents.extend([4, 4])
    y = rig.outputs_of(await rig.inference.ModelInfer(request))["y"]
    assert (y[:, -1] == expected(X, 4)).all()


async def test_in_an_inference_stream(rig: Any) -> None:
    call = rig.inference.ModelStreamInfer()
    for sequence, gain in ((1, 2), (2, 3)):
        inputs = {"x": X, "gain": ONE * gain}
        await call.write(rig.infer("decoder", inputs, sequence, start=True))
        await call.write(rig.infer("decoder", {"x": X}, sequence, end=True))
    await call.done_writing()
    ys = [rig.outputs_of(answer.infer_response)["y"][:, -1] async for answer in call]
    for gain, first, second in ((2, *ys[:2]), (3, *ys[2:])):
        assert (first == expected(X, gain)).all()
        assert (second == expected(X, gain, first)).all()
    assert len(rig.serving.sessions) == 0


async def test_metadata_lists_them_as_inputs(rig: Any) -> None:
    answer = await rig.inference.ModelMetadata(oip.ModelMetadataRequest(name="decoder"))
    assert [(t.name, t.datatype, list(t.shape)) for t in answer.inputs] == [
        ("x", "INT64", [-1, -1, 2]), ("mask", "BOOL", [-1, -1]), ("gain", "INT64", [-1, 2]),
    ]  # fmt: skip


async def test_a_first_step_that_fails_leaves_no_sequence(rig: Any) -> None:
    engine = rig.serving.model("decoder").driver.engine
    function = engine.function

    def fail(given: Any) -> Any:
        raise RuntimeError("on purpose")

    engine.function = fail
    await rig.refused(
        infer(rig, {"x": X, "gain": ONE}, start=True), grpc.StatusCode.INTERNAL, "InternalError"
    )
    assert len(rig.serving.sessions) == 0
    engine.function = function
    assert (await infer(rig, {"x": X, "gain": ONE}, start=True) == expected(X, 1)).all()


async def test_constants_that_cannot_be_written_leave_no_sequence(rig: Any) -> None:
    engine = rig.serving.model("decoder").driver.engine

    def fail(*_: Any) -> None:
        raise StepFailed("on purpose")

    engine.write = fail
    start = infer(rig, {"x": X, "gain": ONE}, start=True)
    error = await rig.refused(start, INVALID, "StepFailed")  # what went wrong first
    assert error.details() == "on purpose"
    assert len(rig.serving.sessions) == 0
    await rig.refused(opened(rig, ONE), INVALID, "StepFailed")
    assert len(rig.serving.sessions) == 0
    del engine.write
    assert (await infer(rig, {"x": X, "gain": ONE}, start=True) == expected(X, 1)).all()


@pytest.mark.parametrize("rows", [0, 9, 2**40])
async def test_a_batch_size_that_no_session_has(rig: Any, rows: int) -> None:
    """No input tells it, so the constant does."""
    message = rig.infer("generator", {"stride": np.ones(1, np.int64)}, 1, start=True)
    message.inputs[0].shape[0] = rows
    error = await rig.refused(rig.inference.ModelInfer(message), INVALID, "InvalidRequest")
    texts = {0: "batch size must be 1 to 8 for model 'generator', got 0"}
    too_many = f"inference request batch-size must be <= 8 for 'generator', got {rows}"
    assert error.details() == texts.get(rows, too_many)
    assert len(rig.serving.sessions) == 0


async def test_a_start_that_is_cancelled_while_they_wait_leaves_no_sequence(make_rig: Any) -> None:
    rig = await make_rig(hold="decoder")
    other = await opened(rig, ONE)
    running = asyncio.ensure_future(rig.step(other, X))
    driver = rig.serving.model("decoder").driver
    await rig.until(lambda: driver.scheduler.pending == 1)
    start = asyncio.ensure_future(infer(rig, {"x": X, "gain": ONE}, start=True))
    await rig.until(lambda: len(rig.serving.sessions) == 2)
    start.cancel()
    await rig.until(lambda: len(rig.serving.sessions) == 1)
    rig.held["decoder"].released.set()
    await running
    assert (await infer(rig, {"x": X, "gain": ONE}, start=True) == expected(X, 1)).all()


async def test_a_busy_server_refuses_start_and_keeps_nothing(make_rig: Any) -> None:
    rig = await make_rig(hold="decoder", max_pending=2)
    other = await opened(rig, ONE)
    running = await rig.arrived(rig.step(other, X), "decoder")
    start = infer(
        rig, {"x": X, "gain": ONE}, start=True
    )  # two requests where there is room for one
    await rig.refused(start, grpc.StatusCode.RESOURCE_EXHAUSTED, "LimitReached")
    await rig.until(lambda: len(rig.serving.sessions) == 1)
    rig.held["decoder"].released.set()
    await running

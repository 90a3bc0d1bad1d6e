"""Open Inference sequences that begin with the states of another one."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

INVALID = grpc.StatusCode.INVALID_ARGUMENT
X = np.array([[[1, 2], [3, 4], [5, 6]]])
H = np.array([[9 + 9 + 5, 18 + 12 + 6]])  # of "encoder" after X
GAIN = np.array([[2, 3]])


def decoded(d: Any) -> Any:
    """The state of "decoder" after X."""
    for time in range(X.shape[1]):
        d = 3 * d + X[:, time] * GAIN
    return d


def request(rig: Any, model: str, sequence: Any, states_of: str = "", **options: Any) -> Any:
    inputs = {"x": X}
    if model == "decoder" and options.get("start"):
        inputs["gain"] = GAIN
    message = rig.infer(model, inputs, sequence, **options)
    if states_of:
        message.parameters["rnnserve_states_of"].string_param = states_of
    return message


async def infer(rig: Any, *arguments: Any, **options: Any) -> Any:
    answer = await rig.inference.ModelInfer(request(rig, *arguments, **options))
    return rig.outputs_of(answer)


@pytest.mark.parametrize("sequence", [1, -7, 2**62, "a", "a/b", "1"])
async def test_a_sequence_of_another_model(rig: Any, sequence: Any) -> None:
    assert await infer(rig, "encoder", sequence, start=True) == {}
    of = f"encoder/{sequence}"
    first = await infer(rig, "decoder", 5, of, start=True)
    assert (first["y"][:, -1] == decoded(H)).all()
    second = await infer(rig, "decoder", 5, end=True)
    assert (second["y"][:, -1] == decoded(decoded(H))).all()
    await infer(rig, "encoder", sequence, end=True)
    assert len(rig.serving.sessions) == 0


async def test_a_number_goes_before_a_string(rig: Any) -> None:
    await infer(rig, "encoder", "1", start=True)
    await infer(rig, "encoder", "1")
    await infer(rig, "encoder", 1, start=True)
    y = (await infer(rig, "decoder", 5, "encoder/1", start=True))["y"]
    assert (y[:, -1] == decoded(H)).all()


async def test_of_the_same_model_with_its_constants(rig: Any) -> None:
    await infer(rig, "decoder", 1, start=True)
    message = rig.infer("decoder", {"x": X}, 2, start=True)
    message.parameters["rnnserve_states_of"].string_param = "decoder/1"
    y = rig.outputs_of(await rig.inference.ModelInfer(message))["y"]
    assert (y[:, -1] == decoded(decoded(1))).all()
    y = (await infer(rig, "decoder", 2))["y"]
    assert (y[:, -1] == decoded(decoded(decoded(1)))).all()


async def test_in_an_inference_stream_without_waiting(make_rig: Any) -> None:
    rig = await make_rig(hold="encoder")
    call = rig.inference.ModelStreamInfer()
    await call.write(request(rig, "encoder", 1, start=True))
    await call.write(request(rig, "decoder", 1, "encoder/1", start=True))
    await call.write(request(rig, "encoder", 1, end=True))
    await call.write(request(rig, "decoder", 1))
    await call.write(request(rig, "decoder", 1, end=True))
    await call.done_writing()
    await rig.until(lambda: rig.serving.model("encoder").scheduler.pending == 3)
    rig.held["encoder"].released.set()
    ys = [rig.outputs_of(answer.infer_response).get("y") async for answer in call]
    first = decoded(H)
    second = decoded(first)
    assert [y[:, -1].tolist() for y in ys if y is not None] == [
        first.tolist(), second.tolist(), decoded(second).tolist()
    ]  # fmt: skip
    assert len(rig.serving.sessions) == 0


@pytest.mark.parametrize(
    ("states_of", "options", "code", "text"),
    [
        ("encoder/2", {"start": True}, grpc.StatusCode.NOT_FOUND, "no sequence '2' of model 'enc"),
        ("encoder", {"start": True}, grpc.StatusCode.NOT_FOUND, "no sequence '' of model 'encoder"),
        ("coder/1", {"start": True}, grpc.StatusCode.NOT_FOUND, "unknown model: 'coder'"),
        ("encoder/1", {}, INVALID, "'rnnserve_states_of' may only come with sequence_start"),
        ("decoder/5", {"start": True}, INVALID, "sequence 5 cannot begin with its own states"),
        ("swap/1", {"start": True}, INVALID, "'decoder' cannot begin with the states of model 'sw"),
    ],
)
async def test_a_sequence_that_cannot_begin_so(
    rig: Any, states_of: str, options: Any, code: grpc.StatusCode, text: str
) -> None:
    for model, sequence in (("encoder", 1), ("swap", 1), ("decoder", 5)):
        await infer(rig, model, sequence, start=True)
    before = await rig.snapshot()
    error = await rig.refused(infer(rig, "decoder", 5, states_of, **options), code)
    assert text in error.details()
    assert await rig.snapshot() == before


async def test_a_first_step_that_fails_leaves_no_sequence(rig: Any) -> None:
    await infer(rig, "encoder", 1, start=True)
    engine = rig.serving.model("decoder").driver.engine
    function = engine.function

    def fail(given: Any) -> Any:
        raise RuntimeError("on purpose")

    engine.function = fail
    start = infer(rig, "decoder", 5, "encoder/1", start=True)
    await rig.refused(start, grpc.StatusCode.INTERNAL, "InternalError")
    assert len(rig.serving.sessions) == 1
    engine.function = function
    y = (await infer(rig, "decoder", 5, "encoder/1", start=True))["y"]
    assert (y[:, -1] == decoded(H)).all()

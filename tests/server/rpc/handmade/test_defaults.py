"""Inputs that a request may leave out, and models that need none at all."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np

from rnnserve.v1 import session_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
X = np.array([[[1, 2], [3, 4], [5, 6]]])
ONE = np.array([[1, 1]])
EVEN = np.array([[True, False, True]])


def decoded(x: Any = X, mask: Any = None, d: Any = ONE) -> list[Any]:
    """The last state of "decoder" with a gain of one."""
    for time in range(x.shape[1]):
        if mask is None or mask[0, time]:
            d = 3 * d + x[:, time]
    return d.tolist()


async def opened(rig: Any, **fields: Any) -> pb.SessionKey:
    rows = fields.get("batch_size", 1)
    gain = rig.tensor("gain", np.repeat(ONE, rows, axis=0))
    return await rig.open("decoder", constants=[gain], **fields)


async def step(rig: Any, key: pb.SessionKey, **inputs: Any) -> list[Any]:
    request = pb.StepRequest(session=key, inputs=[rig.tensor(n, a) for n, a in inputs.items()])
    return rig.array_of((await rig.sessions.Step(request)).outputs[0]).tolist()


async def test_left_out_or_given(rig: Any) -> None:
    for _ in range(2):  # the second time the description is known
        assert await step(rig, await opened(rig), x=X) == decoded()
        assert await step(rig, await opened(rig), x=X, mask=EVEN) == decoded(mask=EVEN)
        assert await step(rig, await opened(rig), mask=EVEN, x=X) == decoded(mask=EVEN)


async def test_a_mask_of_nothing_leaves_the_state_alone(rig: Any) -> None:
    key = await opened(rig)
    assert await step(rig, key, x=X, mask=np.zeros((1, 3), bool)) == ONE.tolist()


async def test_of_every_length_and_batch(rig: Any) -> None:
    for rows, time in ((1, 1), (2, 5), (3, 9)):  # 9 is more than one piece
        x = np.arange(rows * time * 2).reshape(rows, time, 2)
        key = await opened(rig, batch_size=rows)
        assert await step(rig, key, x=x) == decoded(x, d=np.repeat(ONE, rows, axis=0))


async def test_those_who_give_it_share_a_batch_with_those_who_do_not(make_rig: Any) -> None:
    rig = await make_rig(hold="decoder")
    keys = [await opened(rig) for _ in range(5)]
    first = await rig.arrived(step(rig, keys[0], x=X), "decoder")
    rest = [
        await rig.arrived(step(rig, key, **({"x": X} | given)), "decoder")
        for key, given in zip(keys[1:], [{}, {"mask": EVEN}, {}, {"mask": ~EVEN}], strict=True)
    ]
    rig.held["decoder"].released.set()
    assert await first == decoded()
    assert await asyncio.gather(*rest) == [
        decoded(), decoded(mask=EVEN), decoded(), decoded(mask=~EVEN)
    ]  # fmt: skip
    assert sorted(rig.serving.model("decoder").statistics.batches) == [1, 4]


async def test_what_is_given_must_fit(rig: Any) -> None:
    key = await opened(rig)
    error = await rig.refused(step(rig, key, x=X, mask=np.zeros((1, 2), bool)), INVALID)
    assert "must have the same number of timesteps" in error.details()
    error = await rig.refused(step(rig, key, x=X, mask=np.zeros((1, 3), np.int64)), INVALID)
    assert "expects 'BOOL'" in error.details()
    error = await rig.refused(step(rig, key, mask=EVEN), INVALID)
    assert "missing required input(s) ['x']" in error.details()


async def test_by_open_inference(rig: Any) -> None:
    inputs = {"x": X, "gain": ONE}
    for given, mask in (({}, None), ({"mask": EVEN}, EVEN)):
        request = rig.infer("decoder", inputs | given, 1, start=True)
        y = rig.outputs_of(await rig.inference.ModelInfer(request))["y"]
        assert y[:, -1].tolist() == decoded(mask=mask)


async def test_arrays_count_for_every_row_and_timestep(rig: Any) -> None:
    x = np.arange(24).reshape(2, 6, 2)  # more than one piece
    key = await rig.open("shifted", batch_size=2)
    zeros = np.zeros((2, 2), np.int64)
    assert await step(rig, key, x=x) == decoded(x + ONE * [11, 22], d=zeros)
    given = await rig.open("shifted", batch_size=2)
    slope = -x
    assert await step(rig, given, x=x, slope=slope) == decoded(x + slope + ONE * [10, 20], d=zeros)


async def test_all_left_out_they_have_the_batch_size_of_the_session(rig: Any) -> None:
    bias, flags = np.array([[1, 2], [3, 4]], np.float16), np.zeros((2, 3), bool)
    given = {"bias": bias, "flags": flags}
    constants = [rig.tensor(name, array) for name, array in given.items()]
    key = await rig.open("mixed", batch_size=2, constants=constants)
    assert await step(rig, key) == [[2, 3], [4, 5]]  # half and half, and the bias
    start = rig.infer("mixed", given, 1, start=True)
    more = rig.infer("mixed", {}, 1)
    for request, y in ((start, [[2, 3], [4, 5]]), (more, [[3.5, 5.5], [7.5, 9.5]])):
        answer = await rig.inference.ModelInfer(request)
        assert rig.outputs_of(answer)["y"].tolist() == y


async def test_a_model_without_inputs_has_the_batch_size_of_its_session(rig: Any) -> None:
    stride = rig.tensor("stride", np.array([2, 3, 5]))
    key = await rig.open("generator", batch_size=3, constants=[stride])
    assert await step(rig, key) == [2, 3, 5]
    assert await step(rig, key) == [4, 6, 10]
    request = rig.infer("generator", {"stride": np.array([7, 9])}, 1, start=True)
    answer = await rig.inference.ModelInfer(request)
    assert rig.outputs_of(answer)["y"].tolist() == [7, 9]
    answer = await rig.inference.ModelInfer(rig.infer("generator", {}, 1))
    assert rig.outputs_of(answer)["y"].tolist() == [14, 18]

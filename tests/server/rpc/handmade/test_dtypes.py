"""States and constants that are no 32-bit floats."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np

from rnnserve.v1 import session_pb2 as pb

MORE = np.zeros((1, 2))
BIAS = np.array([[0.25, -2]], np.float16)
FLAGS = np.array([[True, False, True]])


def given(rig: Any) -> list[pb.Tensor]:
    return [rig.tensor("flags", FLAGS), rig.tensor("bias", BIAS)]


async def states(rig: Any, key: pb.SessionKey) -> dict[str, Any]:
    return rig.arrays_of((await rig.states(key)).states)


async def test_halves_truths_and_counts(rig: Any) -> None:
    key = await rig.open("mixed", constants=given(rig))
    request = pb.StepRequest(session=key, inputs=[rig.tensor("more", MORE)])
    answer = await rig.sessions.Step(request)
    y = rig.array_of(answer.outputs[0])
    assert (y.dtype, y.tolist()) == (np.float16, [[0.75, -1.5]])
    after = await states(rig, key)
    assert {name: (str(a.dtype), a.tolist()) for name, a in after.items()} == {
        "half": ("float16", [[0.75, -1.5]]),
        "odd": ("bool", [[False]]),
        "number": ("uint16", [1]),
    }
    await rig.sessions.ResetStates(pb.ResetStatesRequest(session=key))
    fresh = await states(rig, key)
    assert {name: a.tolist() for name, a in fresh.items()} == {
        "half": [[0.5, 0.5]], "odd": [[True]], "number": [0]
    }  # fmt: skip
    back = [rig.tensor(name, array) for name, array in after.items()]
    await rig.sessions.SetStates(pb.SetStatesRequest(session=key, states=back))
    again = await states(rig, key)
    assert all((again[name] == after[name]).all() for name in after)


async def test_a_dtype_of_equal_size_is_another_one(rig: Any) -> None:
    bad = [rig.tensor("flags", FLAGS), rig.tensor("bias", BIAS.view(np.uint16))]
    code = grpc.StatusCode.INVALID_ARGUMENT
    error = await rig.refused(rig.open("mixed", constants=bad), code)
    assert "'bias' data-type is 'UINT16', but model 'mixed' expects 'FP16'" in error.details()


async def test_by_open_inference(rig: Any) -> None:
    inputs = {"more": MORE, "bias": BIAS, "flags": FLAGS}
    request = rig.infer("mixed", inputs, 1, start=True)
    y = rig.outputs_of(await rig.inference.ModelInfer(request))["y"]
    assert y.tolist() == [[0.75, -1.5]]
    y = rig.outputs_of(await rig.inference.ModelInfer(rig.infer("mixed", inputs, 1)))["y"]
    assert y.tolist() == [[1.0, -3.5]]

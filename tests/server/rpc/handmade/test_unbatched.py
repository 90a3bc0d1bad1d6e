"""Models whose tensors have no batch axis: neither have they on the wire."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from server.stubs.inference import grpc_service_pb2 as oip

INVALID = grpc.StatusCode.INVALID_ARGUMENT
X = np.array([[1, 2], [3, 4], [5, 6]])
KEY = np.array(2)


def run(h: Any, scale: int = 1, x: Any = X) -> Any:
    """Every timestep of "alone"."""
    states = []
    for frame in x:
        h = 3 * np.asarray(h) + frame * scale * KEY
        states.append(h)
    return np.stack(states)


async def opened(rig: Any, **fields: Any) -> pb.SessionKey:
    return await rig.open("alone", constants=[rig.tensor("key", KEY)], **fields)


async def step(rig: Any, key: pb.SessionKey, flags: Any = None, **inputs: Any) -> Any:
    sent = [rig.tensor(name, array) for name, array in inputs.items()]
    request = pb.StepRequest(session=key, inputs=sent, **(flags or {}))
    return await rig.sessions.Step(request)


async def states(rig: Any, key: pb.SessionKey) -> Any:
    return rig.arrays_of((await rig.states(key)).states)["h"].tolist()


async def test_the_signature_says_so(rig: Any) -> None:
    request = pb.OpenSessionRequest(model_name="alone", constants=[rig.tensor("key", KEY)])
    answer = await rig.sessions.OpenSession(request)
    described = await rig.sessions.DescribeModel(pb.DescribeModelRequest(model_name="alone"))
    for message in (answer, described):
        assert message.unbatched
        shapes = {
            tensor.name: list(tensor.shape)
            for tensors in (message.inputs, message.outputs, message.states, message.constants)
            for tensor in tensors
        }
        assert shapes == {"x": [-1, 2], "scale": [], "y": [-1, 2], "count": [], "h": [2], "key": []}
    assert (answer.batch_size, described.max_batch_size) == (1, 1)


async def test_steps(rig: Any) -> None:
    key = await opened(rig)
    answer = await step(rig, key, {"return_state": True}, x=X)
    expected = run([0, 0])
    outputs = rig.arrays_of(answer.outputs)
    assert outputs["y"].tolist() == expected[-1].tolist()  # the last timestep
    assert outputs["count"].tolist() == 3
    assert rig.arrays_of(answer.states)["h"].tolist() == expected[-1].tolist()
    answer = await step(rig, key, {"return_sequences": True}, x=X, scale=np.array(10))
    outputs = rig.arrays_of(answer.outputs)
    assert outputs["y"].tolist() == run(expected[-1], 10).tolist()


async def test_a_long_request_in_pieces(rig: Any) -> None:
    x = np.arange(46).reshape(23, 2)
    answer = await step(rig, await opened(rig), {"return_sequences": True}, x=x)
    outputs = rig.arrays_of(answer.outputs)
    with np.errstate(over="ignore"):
        assert (outputs["y"] == run([0, 0], x=x)).all()


async def test_states_go_and_come_as_they_are(rig: Any) -> None:
    key = await opened(rig, initial_state=[rig.tensor("h", np.array([7, 8]))])
    assert await states(rig, key) == [7, 8]
    await step(rig, key, x=X)
    assert await states(rig, key) == run([7, 8])[-1].tolist()
    await rig.sessions.ResetStates(pb.ResetStatesRequest(session=key))
    assert await states(rig, key) == [0, 0]
    given = [rig.tensor("h", np.array([9, 10]))]
    await rig.sessions.SetStates(pb.SetStatesRequest(session=key, states=given))
    await step(rig, key, x=X)
    assert await states(rig, key) == run([9, 10])[-1].tolist()


async def test_from_and_to_models_with_a_batch_axis(rig: Any) -> None:
    alone = await opened(rig)
    await step(rig, alone, x=X)
    wanted = pb.StatesOf(session=alone)
    encoder = await rig.open("encoder", states_of=wanted)
    read = rig.arrays_of((await rig.states(encoder)).states)["h"]
    assert read.tolist() == run([0, 0])[-1:].tolist()
    back = await opened(rig, states_of=pb.StatesOf(session=encoder))
    assert await states(rig, back) == run([0, 0])[-1].tolist()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"batch_size": 2}, "batch size must be 1"),
        ({"initial_state": np.array([[7, 8]])}, "Expected [2], got [1,2]"),
        ({"constants": np.array([2])}, "Expected [], got [1]"),
    ],
)
async def test_a_batch_axis_is_refused(rig: Any, fields: Any, text: str) -> None:
    names = {"initial_state": "h", "constants": "key"}
    sent = {
        field: [rig.tensor(names[field], value)] if field in names else value
        for field, value in fields.items()
    }
    constants = {"constants": [rig.tensor("key", KEY)]}
    error = await rig.refused(rig.open("alone", **(constants | sent)), INVALID)
    assert text in error.details()
    error = await rig.refused(step(rig, await opened(rig), x=X[None]), INVALID)
    assert "Expected [-1,2], got [1,3,2]" in error.details()


async def test_by_open_inference(rig: Any) -> None:
    answer = await rig.inference.ModelMetadata(oip.ModelMetadataRequest(name="alone"))
    shapes = {tensor.name: list(tensor.shape) for tensor in answer.inputs}
    assert shapes == {"x": [-1, 2], "scale": [], "key": []}
    request = rig.infer("alone", {"x": X, "key": KEY}, 1, start=True)
    first = rig.outputs_of(await rig.inference.ModelInfer(request))
    assert first["y"].tolist() == run([0, 0]).tolist()
    request = rig.infer("alone", {"x": X, "scale": np.array(2)}, 1)
    second = rig.outputs_of(await rig.inference.ModelInfer(request))
    assert second["y"].tolist() == run(first["y"][-1], 2).tolist()
    assert second["count"].tolist() == 3


async def test_in_a_stream(rig: Any) -> None:
    call = rig.sessions.Stream()
    open_ = pb.OpenSessionRequest(model_name="alone", constants=[rig.tensor("key", KEY)])
    await call.write(pb.StreamRequest(request_id=1, session=1, open=open_))
    message = pb.StepRequest(inputs=[rig.tensor("x", X)], return_state=True)
    await call.write(pb.StreamRequest(request_id=2, session=1, step=message))
    reset = pb.ResetStatesRequest(states=[rig.tensor("h", np.array([1, 1]))])
    await call.write(pb.StreamRequest(request_id=3, session=1, reset=reset))
    await call.write(pb.StreamRequest(request_id=4, session=1, step=message))
    await call.done_writing()
    answers = {answer.request_id: answer async for answer in call}
    for number, h in ((2, [0, 0]), (4, [1, 1])):
        after = rig.arrays_of(answers[number].step.states)["h"]
        assert after.tolist() == run(h)[-1].tolist()

"""Open Inference: what a request may look like, and what its answer looks like."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from server.stubs.inference import grpc_service_pb2 as oip

MIXED = {"x": np.float32([[1, 2], [3, 4]]), "place": np.array([0, 1])}
Y, COUNT = [[1, 2], [13, 24]], [1, 1]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ((), ["y", "count_next"]),
        (("y", "count_next"), ["y", "count_next"]),
        (("count_next", "y"), ["count_next", "y"]),
        (("count_next",), ["count_next"]),
    ],
)
async def test_outputs_come_in_the_order_asked_for(rig: Any, asked: Any, names: Any) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True, outputs=asked)
    response = await rig.inference.ModelInfer(request)
    assert [output.name for output in response.outputs] == names
    assert len(response.raw_output_contents) == len(names)
    expected = {"y": Y, "count_next": COUNT}
    got = {name: array.tolist() for name, array in rig.outputs_of(response).items()}
    assert got == {name: expected[name] for name in names}


async def test_the_answer_says_whose_it_is(rig: Any) -> None:
    response = await rig.inference.ModelInfer(rig.infer("mixed", MIXED, 1, start=True, id="é-17"))
    assert (response.id, response.model_name, response.model_version) == ("é-17", "mixed", "1")
    assert response.parameters["triton_final_response"].bool_param
    described = [(o.name, o.datatype, list(o.shape)) for o in response.outputs]
    assert described == [("y", "FP32", [2, 2]), ("count_next", "INT64", [2])]
    assert not any(o.HasField("contents") for o in response.outputs)


async def test_inputs_in_any_order(rig: Any) -> None:
    backwards = {"place": MIXED["place"], "x": MIXED["x"]}
    response = await rig.inference.ModelInfer(rig.infer("mixed", backwards, 1, start=True))
    assert rig.outputs_of(response)["y"].tolist() == Y


def typed(**contents: Any) -> oip.ModelInferRequest:
    """A request to "mixed" with typed contents."""
    request = oip.ModelInferRequest(model_name="mixed")
    request.parameters["sequence_id"].int64_param = 1
    request.parameters["sequence_start"].bool_param = True
    x = request.inputs.add(name="x", datatype="FP32", shape=[2, 2])
    place = request.inputs.add(name="place", datatype="INT64", shape=[2])
    x.contents.fp32_contents.extend(contents.get("x", [1, 2, 3, 4]))
    place.contents.int64_contents.extend(contents.get("place", [0, 1]))
    return request


async def test_typed_contents(rig: Any) -> None:
    response = await rig.inference.ModelInfer(typed())
    assert rig.outputs_of(response)["y"].tolist() == Y


async def refuse(rig: Any, request: oip.ModelInferRequest) -> str:
    """The text of the refusal, which must leave no trace."""
    call = rig.inference.ModelInfer(request)
    error = await rig.refused(call, grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert len(rig.serving.sessions) == 0
    text = error.details()
    assert isinstance(text, str)
    return text


async def test_typed_contents_of_the_wrong_length(rig: Any) -> None:
    text = await refuse(rig, typed(x=[1, 2, 3]))
    assert text == "input byte size mismatch for input 'x' for model 'mixed'. Expected 16, got 12"


async def test_typed_contents_in_the_wrong_field(rig: Any) -> None:
    request = typed(place=[])
    request.inputs[1].contents.int_contents.extend([0, 1])
    assert "int64_contents" in await refuse(rig, request)


async def test_typed_contents_in_two_fields(rig: Any) -> None:
    request = typed()
    request.inputs[1].contents.int_contents.extend([0, 1])
    assert "int64_contents" in await refuse(rig, request)


async def test_raw_and_typed_contents_do_not_mix(rig: Any) -> None:
    request = typed()
    request.raw_input_contents.extend([MIXED["x"].tobytes(), MIXED["place"].tobytes()])
    assert "raw_input_contents" in await refuse(rig, request)


@pytest.mark.parametrize("count", [1, 3])
async def test_as_many_raw_contents_as_inputs(rig: Any, count: int) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True)
    del request.raw_input_contents[:]
    request.raw_input_contents.extend([MIXED["x"].tobytes()] * count)
    assert f"got {count}" in await refuse(rig, request)


async def test_an_input_given_twice(rig: Any) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True)
    request.inputs.add().CopyFrom(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])
    assert "'x'" in await refuse(rig, request)


async def test_an_output_may_be_asked_for_in_several_ways_but_not_without_end(rig: Any) -> None:
    """An answer of any size could be had for a request of a few bytes."""
    request = rig.infer("mixed", MIXED, 1, start=True, outputs=("y",) * 6)
    response = await rig.inference.ModelInfer(request)
    assert len(response.raw_output_contents) == 6
    for count in (7, 100_000):
        request = rig.infer("mixed", MIXED, 2, start=True, outputs=("y",) * count)
        call = rig.inference.ModelInfer(request)
        error = await rig.refused(call, grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
        assert error.details() == (
            "expected at most 6 outputs to be asked of model 'mixed', 3 times each that it has, "
            f"got {count}"
        )
    assert len(rig.serving.sessions) == 1


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("priority", "uint64_param", 1),
        ("timeout", "int64_param", 1_000_000),
        ("triton_enable_empty_final_response", "bool_param", True),
    ],
)
async def test_parameters_that_clients_send(rig: Any, name: str, field: str, value: Any) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True)
    setattr(request.parameters[name], field, value)
    response = await rig.inference.ModelInfer(request)
    assert rig.outputs_of(response)["y"].tolist() == Y


async def test_a_sequence_has_no_queue_that_listens(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    request = rig.infer("fold", {"x": np.array([[[1, 2]]])}, 1, start=True)
    running = await rig.arrived(rig.inference.ModelInfer(request))
    request.parameters["sequence_start"].bool_param = False
    request.parameters["timeout"].int64_param = 1
    late = await rig.arrived(rig.inference.ModelInfer(request))
    await asyncio.sleep(0.01)
    rig.held["fold"].released.set()
    for call, expected in ((running, [[[1, 2]]]), (late, [[[4, 8]]])):
        assert rig.outputs_of(await call)["y"].tolist() == expected


async def test_other_parameters_of_triton_are_refused(rig: Any) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True)
    request.parameters["triton_other"].bool_param = True
    assert "'triton_other'" in await refuse(rig, request)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("sequence_id", "bool_param", True),
        ("sequence_id", "double_param", 1.0),
        ("sequence_start", "int64_param", 1),
        ("sequence_end", "string_param", "true"),
    ],
)
async def test_sequence_parameters_of_the_wrong_type(
    rig: Any, name: str, field: str, value: Any
) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True)
    setattr(request.parameters[name], field, value)
    assert f"'{name}'" in await refuse(rig, request)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
async def test_parameters_of_tensors_that_nobody_knows(rig: Any, side: str) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True, outputs=("y",))
    tensor = getattr(request, side)[0]
    tensor.parameters["compression"].string_param = "zip"
    call = rig.inference.ModelInfer(request)
    error = await rig.refused(call, grpc.StatusCode.UNIMPLEMENTED, "Unsupported")
    assert "['compression']" in error.details()
    assert len(rig.serving.sessions) == 0


async def test_parameters_of_tensors_that_mean_something_over_http_only(rig: Any) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True, outputs=("y",))
    request.inputs[0].parameters["binary_data_size"].int64_param = 16
    request.outputs[0].parameters["binary_data"].bool_param = False
    response = await rig.inference.ModelInfer(request)
    assert rig.outputs_of(response)["y"].tolist() == Y


async def test_a_parameter_that_would_change_the_meaning_is_not_ignored(rig: Any) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True)
    request.parameters["rnnserve_wish"].int64_param = 1
    await rig.refused(rig.inference.ModelInfer(request), grpc.StatusCode.UNIMPLEMENTED)

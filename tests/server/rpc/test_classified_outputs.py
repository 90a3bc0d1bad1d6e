"""Outputs as their highest elements, over the wire."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode

from server.errors import InvalidRequest
from server.repository.spec import TensorSpec
from server.rpc.ways import AsClasses

X = np.float32([[1, 2], [5, 3]])  # "affine" makes 2 * x + 1


def infer(rig: Any, count: Any, kind: str = "int64_param", **more: Any) -> Any:
    request = rig.infer("affine", {"x": X}, outputs=("y",), **more)
    setattr(request.outputs[0].parameters["classification"], kind, count)
    return request


def texts_of(content: bytes) -> list[str]:
    """The elements of a BYTES tensor."""
    found = []
    while content:
        (length,) = struct.unpack_from("<I", content)
        found.append(content[4 : 4 + length].decode())
        content = content[4 + length :]
    return found


async def test_the_highest_of_each_row_with_its_label(rig: Any) -> None:
    response = await rig.inference.ModelInfer(infer(rig, 1))
    (output,), (content,) = response.outputs, response.raw_output_contents
    assert (output.name, output.datatype, list(output.shape)) == ("y", "BYTES", [2, 1])
    assert texts_of(content) == ["5.000000:1:high", "11.000000:0:low"]


@pytest.mark.parametrize("count", [2, 3, 2**63 - 1])
async def test_no_more_than_there_are(rig: Any, count: int) -> None:
    response = await rig.inference.ModelInfer(infer(rig, count))
    assert list(response.outputs[0].shape) == [2, 2]
    assert texts_of(response.raw_output_contents[0]) == [
        "5.000000:1:high",
        "3.000000:0:low",
        "11.000000:0:low",
        "7.000000:1:high",
    ]


async def test_beside_the_output_itself(rig: Any) -> None:
    request = infer(rig, 1)
    request.outputs.add(name="y")
    response = await rig.inference.ModelInfer(request)
    assert [output.datatype for output in response.outputs] == ["BYTES", "FP32"]
    assert np.frombuffer(response.raw_output_contents[1], np.float32).tolist() == [3, 5, 11, 7]


async def test_all_axes_but_the_batch_count_as_one(rig: Any) -> None:
    """Timesteps among them: an index counts elements row by row."""
    x = np.array([[[9, 1], [0, 2]]])
    request = rig.infer("fold", {"x": x}, 1, start=True, outputs=("y",))
    request.outputs[0].parameters["classification"].int64_param = 3
    response = await rig.inference.ModelInfer(request)
    assert rig.fold(x).ravel().tolist() == [9, 1, 27, 5]
    assert list(response.outputs[0].shape) == [1, 3]
    assert texts_of(response.raw_output_contents[0]) == ["27:2", "9:0", "5:3"]


async def test_a_model_without_batch_axis(rig: Any) -> None:
    request = rig.infer("whole", {"x": np.array([5, 6])}, outputs=("total",))
    request.outputs[0].parameters["classification"].int64_param = 2
    response = await rig.inference.ModelInfer(request)
    assert list(response.outputs[0].shape) == [1]
    assert texts_of(response.raw_output_contents[0]) == ["11:0"]


async def test_in_a_stream(rig: Any) -> None:
    stream = rig.inference.ModelStreamInfer()
    for count in (1, 0, 2):
        await stream.write(infer(rig, count))
    answers = [await stream.read() for _ in range(3)]
    assert [list(a.infer_response.outputs[0].shape) for a in answers[::2]] == [[2, 1], [2, 2]]
    assert answers[1].error_message.startswith("invalid value for 'classification' parameter")
    await stream.done_writing()


@pytest.mark.parametrize(
    ("count", "kind", "text"),
    [
        (0, "int64_param", "invalid value for 'classification' parameter, expected >= 1, got 0"),
        (-1, "int64_param", "invalid value for 'classification' parameter"),
        (1, "uint64_param", "invalid value type for 'classification' parameter"),
        ("1", "string_param", "invalid value type for 'classification' parameter"),
    ],
)
async def test_counts_that_are_none(rig: Any, count: Any, kind: str, text: str) -> None:
    call = rig.inference.ModelInfer(infer(rig, count, kind))
    error = await rig.refused(call, StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details().startswith(text)


async def test_not_in_shared_memory(rig: Any, make_segment: Any) -> None:
    rig.serving.regions.register("r", make_segment().name, 0, 64)
    request = infer(rig, 1)
    request.outputs[0].parameters["shared_memory_region"].string_param = "r"
    request.outputs[0].parameters["shared_memory_byte_size"].int64_param = 64
    call = rig.inference.ModelInfer(request)
    error = await rig.refused(call, StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details().startswith("output can't set both 'shared_memory_region' and 'classif")


async def test_truths_are_no_classes(rig: Any) -> None:
    spec = TensorSpec("y", "BOOL", np.dtype(np.bool_), (-1, 2))
    with pytest.raises(InvalidRequest, match="due to unsupported type 'BOOL'"):
        AsClasses(spec, 1, True).prepare(rig.serving.model("affine"), 1, 1)

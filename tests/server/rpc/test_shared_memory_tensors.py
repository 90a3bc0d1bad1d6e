"""Inputs and outputs of inferences in shared memory."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from grpc import StatusCode

from server.stubs.inference import grpc_service_pb2 as oip

if TYPE_CHECKING:
    from pathlib import Path

X = np.array([[[1, 2], [3, 4]]])  # (batch, time, 2) of "fold"
SIZE = X.nbytes
FILL = b"\xee" * 256
MIXED = {"x": np.float32([[1, 2], [3, 4]]), "place": np.array([0, 1])}


@pytest.fixture
def segment(make_segment: Any) -> Path:
    path: Path = make_segment(FILL)
    return path


@pytest.fixture
async def rig(make_rig: Any, segment: Path) -> Any:
    """Where also those may use it whose address is not known: a stream's, of some transports."""
    return with_region(await make_rig(shared_memory="all"), segment)


def with_region(rig: Any, segment: Path) -> Any:
    rig.serving.regions.register("r", segment.name, 0, len(FILL))
    return rig


def put(segment: Path, offset: int, array: Any) -> None:
    with segment.open("r+b") as file:
        file.seek(offset)
        file.write(np.asarray(array).tobytes())


def content(segment: Path) -> bytes:
    return segment.read_bytes()


def get(segment: Path, offset: int, like: Any) -> Any:
    return np.frombuffer(content(segment), like.dtype, like.size, offset).reshape(like.shape)


def share(tensor: Any, byte_size: int, offset: int = 0, region: str = "r") -> None:
    """As `tritonclient` does."""
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = byte_size
    if offset:
        tensor.parameters["shared_memory_offset"].int64_param = offset


def infer(rig: Any, x: Any = X, model: str = "fold", **more: Any) -> oip.ModelInferRequest:
    """With output "y"; sequence 1."""
    request = rig.infer(model, {"x": x}, 1, outputs=("y",), **more)
    assert isinstance(request, oip.ModelInferRequest)
    return request


def infer_shared(
    rig: Any,
    segment: Path,
    x: Any = X,
    *,
    to: int = 128,
    room: int | None = None,
    model: str = "fold",
    step: int = 0,
    **more: Any,
) -> oip.ModelInferRequest:
    """The input at the region's beginning, the output at `to`."""
    request = infer(rig, x, model, **more)
    del request.raw_input_contents[:]
    put(segment, 0, x)
    share(request.inputs[0], x.nbytes)
    share(request.outputs[0], x.nbytes if room is None else room, to)
    if step:
        request.parameters["rnnserve_step"].int64_param = step
    return request


async def refuse(
    rig: Any,
    request: oip.ModelInferRequest,
    text: str,
    code: StatusCode = StatusCode.INVALID_ARGUMENT,
    kind: str = "InvalidRequest",
) -> None:
    """The request is refused, and every session is as it was."""
    before = await rig.snapshot()
    error = await rig.refused(rig.inference.ModelInfer(request), code, kind)
    assert error.details().startswith(text)
    assert await rig.snapshot() == before


# ---- what works ---------------------------------------------------------------------------------


async def test_input_and_output(rig: Any, segment: Path) -> None:
    response = await rig.inference.ModelInfer(infer_shared(rig, segment, start=True, id="7"))
    assert (response.id, list(response.raw_output_contents)) == ("7", [b""])
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", "INT64", [1, 2, 2])
    assert not output.HasField("contents")
    assert response.parameters["triton_final_response"].bool_param
    expected = rig.fold(X)
    assert (get(segment, 128, X) == expected).all()
    # in the same place again, with a longer room than it needs
    x = X + 7
    request = infer_shared(rig, segment, x, room=100)
    await rig.inference.ModelInfer(request)
    assert (get(segment, 128, X) == rig.fold(x, expected[:, -1])).all()
    assert content(segment)[128 + SIZE :] == FILL[128 + SIZE :]


async def test_the_region_begins_anywhere_in_its_segment(make_rig: Any, segment: Path) -> None:
    rig = await make_rig()
    rig.serving.regions.register("r", segment.name, 64, 128)
    request = infer(rig, start=True)
    del request.raw_input_contents[:]
    share(request.inputs[0], SIZE, offset=8)
    share(request.outputs[0], SIZE, offset=128 - SIZE)
    put(segment, 64 + 8, X)
    await rig.inference.ModelInfer(request)
    assert (get(segment, 64 + 128 - SIZE, X) == rig.fold(X)).all()
    assert content(segment)[192:] == FILL[192:]


@pytest.mark.parametrize("shared", ["x", "place"])
@pytest.mark.parametrize("typed", [False, True])
async def test_beside_an_input_in_the_request(
    rig: Any, segment: Path, shared: str, typed: bool
) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True)
    for tensor, raw in zip(request.inputs, list(request.raw_input_contents), strict=True):
        if tensor.name == shared:
            put(segment, 16, MIXED[shared])
            share(tensor, len(raw), 16)
            request.raw_input_contents.remove(raw)
        elif typed:
            name = {"x": "fp32_contents", "place": "int64_contents"}[tensor.name]
            getattr(tensor.contents, name).extend(MIXED[tensor.name].ravel().tolist())
    if typed:
        del request.raw_input_contents[:]
    response = await rig.inference.ModelInfer(request)
    assert rig.outputs_of(response)["y"].tolist() == [[1, 2], [13, 24]]


async def test_outputs_of_both_kinds(rig: Any, segment: Path) -> None:
    request = rig.infer("mixed", MIXED, 1, start=True, outputs=("count_next", "y", "count_next"))
    share(request.outputs[0], 16, 32)
    response = await rig.inference.ModelInfer(request)
    assert [output.name for output in response.outputs] == ["count_next", "y", "count_next"]
    assert response.raw_output_contents[0] == b""
    assert get(segment, 32, MIXED["place"]).tolist() == [1, 1]
    assert np.frombuffer(response.raw_output_contents[1], np.float32).tolist() == [1, 2, 13, 24]
    assert np.frombuffer(response.raw_output_contents[2], np.int64).tolist() == [1, 1]


async def test_a_model_without_batch_axis(rig: Any, segment: Path) -> None:
    x = np.array([5, 6, 7])
    put(segment, 0, x)
    request = rig.infer("whole", {"x": x}, outputs=("total",))
    del request.raw_input_contents[:]
    share(request.inputs[0], x.nbytes)
    share(request.outputs[0], 8, 64)
    await rig.inference.ModelInfer(request)
    assert get(segment, 64, np.zeros(1, np.int64)).tolist() == [18]


async def test_in_a_stream(rig: Any, segment: Path) -> None:
    stream = rig.inference.ModelStreamInfer()
    await stream.write(infer_shared(rig, segment, start=True))
    answer = await stream.read()
    assert (answer.error_message, answer.infer_response.raw_output_contents) == ("", [b""])
    assert (get(segment, 128, X) == rig.fold(X)).all()
    await stream.write(infer_shared(rig, segment, room=SIZE - 1, id="short"))
    answer = await stream.read()
    assert answer.error_message.startswith("shared memory size specified with the request for out")
    assert answer.infer_response.id == "short"
    await stream.write(infer_shared(rig, segment))
    assert (await stream.read()).error_message == ""
    assert (get(segment, 128, X) == rig.fold(X, rig.fold(X)[:, -1])).all()
    await stream.done_writing()


async def test_a_step_that_is_asked_for_again_is_written_again(rig: Any, segment: Path) -> None:
    for step in (1, 2):
        request = infer_shared(rig, segment, start=step == 1, step=step)
        await rig.inference.ModelInfer(request)
    first = get(segment, 128, X).copy()
    put(segment, 128, X)
    request = infer_shared(rig, segment, step=2, to=64)
    await rig.inference.ModelInfer(request)
    assert (get(segment, 64, X) == first).all()
    stream = rig.inference.ModelStreamInfer()
    await stream.write(infer_shared(rig, segment, step=2, to=200))
    assert (await stream.read()).error_message == ""
    assert (get(segment, 200, X) == first).all()
    (session,) = rig.serving.sessions
    assert session.step == 2


async def test_the_end_of_a_sequence_that_is_asked_for_again(rig: Any, segment: Path) -> None:
    request = infer_shared(rig, segment, step=1, start=True, end=True)
    await rig.inference.ModelInfer(request)
    put(segment, 128, X)
    await rig.inference.ModelInfer(request)
    assert (get(segment, 128, X) == rig.fold(X)).all()
    assert len(rig.serving.sessions) == 0


# ---- while others change things -----------------------------------------------------------------


async def test_the_input_is_what_was_there_when_the_request_came(
    make_rig: Any, segment: Path
) -> None:
    rig = with_region(await make_rig(hold="fold"), segment)
    call = rig.inference.ModelInfer(infer_shared(rig, segment, start=True))
    waiting = await rig.arrived(call)
    put(segment, 0, X + 1)
    rig.held["fold"].released.set()
    await waiting
    assert (get(segment, 128, X) == rig.fold(X)).all()


async def test_unregistered_and_removed_while_a_request_uses_it(
    make_rig: Any, segment: Path
) -> None:
    rig = with_region(await make_rig(hold="fold"), segment)
    waiting = await rig.arrived(rig.inference.ModelInfer(infer_shared(rig, segment, start=True)))
    other_name = segment.with_name(segment.name + "-kept")
    os.link(segment, other_name)
    try:
        await rig.inference.SystemSharedMemoryUnregister(oip.SystemSharedMemoryUnregisterRequest())
        os.unlink(segment)
        rig.held["fold"].released.set()
        await waiting
        assert (get(other_name, 128, X) == rig.fold(X)).all()
    finally:
        os.unlink(other_name)
    text = "Unable to find shared memory region: 'r'"
    request = infer(rig)
    share(request.outputs[0], SIZE)
    await refuse(rig, request, text, StatusCode.NOT_FOUND, "RegionNotFound")


async def test_nothing_is_written_for_somebody_who_has_gone(make_rig: Any, segment: Path) -> None:
    """It may have another use for the place."""
    rig = with_region(await make_rig(hold="fold"), segment)
    running = await rig.arrived(rig.inference.ModelInfer(infer_shared(rig, segment, start=True)))
    waiting = await rig.arrived(rig.inference.ModelInfer(infer_shared(rig, segment, to=200)))
    before = content(segment)
    (session,) = rig.serving.sessions
    first, second = list(session.pending)
    for call in (running, waiting):
        call.cancel()
    await rig.until(lambda: first.cancelled and second.cancelled)
    rig.held["fold"].released.set()
    await asyncio.gather(running, waiting, return_exceptions=True)
    await rig.serving.idle()
    assert content(segment) == before


async def test_a_segment_that_is_cut_short_before_the_step(rig: Any, segment: Path) -> None:
    await rig.inference.ModelInfer(infer(rig, start=True))
    request = infer_shared(rig, segment)
    os.truncate(segment, 128 + SIZE - 1)
    await refuse(rig, request, "shared memory region 'r' ends before its 256 bytes")
    os.truncate(segment, SIZE - 1)
    request.ClearField("outputs")
    await refuse(rig, request, "shared memory region 'r' ends before its 256 bytes")
    response = await rig.inference.ModelInfer(infer(rig))
    assert (rig.outputs_of(response)["y"] == rig.fold(X, rig.fold(X)[:, -1])).all()


async def test_a_segment_that_is_cut_short_while_the_step_runs(
    make_rig: Any, segment: Path
) -> None:
    """The step is made; whoever has numbered it can still have its answer."""
    rig = with_region(await make_rig(hold="fold"), segment)
    waiting = await rig.arrived(
        rig.inference.ModelInfer(infer_shared(rig, segment, start=True, step=1))
    )
    os.truncate(segment, 0)
    rig.held["fold"].released.set()
    await rig.refused(waiting, StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    request = infer(rig, start=True)
    request.parameters["rnnserve_step"].int64_param = 1
    response = await rig.inference.ModelInfer(request)
    assert (rig.outputs_of(response)["y"] == rig.fold(X)).all()
    (session,) = rig.serving.sessions
    assert session.step == 1


# ---- what is refused ----------------------------------------------------------------------------


async def test_an_output_that_does_not_fit_is_refused_before_the_step(
    rig: Any, segment: Path
) -> None:
    await rig.inference.ModelInfer(infer(rig, start=True))
    text = (
        f"shared memory size specified with the request for output 'y' ({SIZE - 1} bytes) should "
        f"be at least {SIZE} bytes to hold the results"
    )
    await refuse(rig, infer_shared(rig, segment, room=SIZE - 1), text)
    await refuse(rig, infer_shared(rig, segment, room=SIZE - 1, start=True), text)
    await refuse(rig, infer_shared(rig, segment, room=SIZE - 1, end=True), text)
    # twice as many timesteps
    long = np.concatenate([X, X], axis=1)
    await refuse(rig, infer_shared(rig, segment, long, room=SIZE), "shared memory size specified")
    # or rows
    request = rig.infer("mixed", MIXED, 1, start=True, outputs=("y",))
    share(request.outputs[0], 15)
    await refuse(rig, request, "shared memory size specified")
    share(request.outputs[0], 16)
    await rig.inference.ModelInfer(request)
    assert get(segment, 0, MIXED["x"]).tolist() == [[1, 2], [13, 24]]


async def test_an_output_whose_size_nobody_tells(rig: Any, segment: Path) -> None:
    """It is found not to fit only when it is there: the session has moved on, and says so. Who has
    numbered the step can have its answer all the same.
    """
    ask = rig.inference.ModelInfer
    request = infer_shared(rig, segment, model="untold", start=True, step=1)
    await ask(request)
    assert (get(segment, 128, X) == rig.fold(X)).all()
    request = infer_shared(rig, segment, model="untold", step=2, room=SIZE - 1)
    error = await rig.refused(ask(request), StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert f"should be at least {SIZE} bytes to hold the results" in error.details()
    assert "the state has moved on" in error.details()
    (session,) = rig.serving.sessions
    assert session.step == 2
    await ask(infer_shared(rig, segment, model="untold", step=2, to=64))
    assert (get(segment, 64, X) == rig.fold(X, rig.fold(X)[:, -1])).all()
    assert session.step == 2


@pytest.mark.parametrize(
    ("offset", "byte_size", "text"),
    [
        (256, SIZE, "Invalid offset for shared memory region: 'r'"),
        (-1, SIZE, "Invalid offset for shared memory region: 'r'"),
        (256 - SIZE + 1, SIZE, "Invalid offset + byte size for shared memory region: 'r'"),
        (0, 257, "Invalid offset + byte size for shared memory region: 'r'"),
        (0, -1, "Invalid offset + byte size for shared memory region: 'r'"),
        (0, 0, "Invalid offset + byte size for shared memory region: 'r'"),
        (32, 2**63 - 1, "Invalid offset + byte size for shared memory region: 'r'"),
    ],
)
@pytest.mark.parametrize("side", ["inputs", "outputs"])
async def test_bounds(rig: Any, side: str, offset: int, byte_size: int, text: str) -> None:
    await rig.inference.ModelInfer(infer(rig, start=True))
    request = infer(rig)
    if side == "inputs":
        del request.raw_input_contents[:]
    share(getattr(request, side)[0], byte_size, offset)
    await refuse(rig, request, text)


@pytest.mark.parametrize("byte_size", [SIZE - 1, SIZE + 1])
async def test_an_input_has_the_size_of_its_shape(rig: Any, byte_size: int) -> None:
    request = infer(rig, start=True)
    del request.raw_input_contents[:]
    share(request.inputs[0], byte_size)
    text = (
        f"input byte size mismatch for input 'x' for model 'fold'. Expected {SIZE}, got {byte_size}"
    )
    await refuse(rig, request, text)


@pytest.mark.parametrize(
    ("name", "kind", "value", "text"),
    [
        ("shared_memory_region", "int64_param", 1,
         "invalid value type for 'shared_memory_region' parameter for tensor"),
        ("shared_memory_byte_size", "string_param", "8",
         "invalid value type for 'shared_memory_byte_size' parameter for tensor"),
        ("shared_memory_byte_size", "uint64_param", 8,
         "invalid value type for 'shared_memory_byte_size' parameter for tensor"),
        ("shared_memory_offset", "double_param", 0.0,
         "invalid value type for 'shared_memory_offset' parameter for tensor"),
        ("shared_memory_byte_size", None, None,
         "'shared_memory_byte_size' must be specified along with 'shared_memory_region'"),
        ("shared_memory_region", None, None,
         "'shared_memory_byte_size' can not be specified without 'shared_memory_region'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("side", ["inputs", "outputs"])
async def test_parameters_of_the_wrong_kind(
    rig: Any, side: str, name: str, kind: Any, value: Any, text: str
) -> None:
    request = infer(rig, start=True)
    if side == "inputs":
        del request.raw_input_contents[:]
    tensor = getattr(request, side)[0]
    share(tensor, SIZE)
    if kind is None:
        del tensor.parameters[name]
    else:
        setattr(tensor.parameters[name], kind, value)
    await refuse(rig, request, text)


async def test_an_offset_without_region(rig: Any) -> None:
    request = infer(rig, start=True)
    request.outputs[0].parameters["shared_memory_offset"].int64_param = 8
    text = "'shared_memory_offset' can not be specified without 'shared_memory_region'"
    await refuse(rig, request, text)


async def test_contents_beside_shared_memory(rig: Any, segment: Path) -> None:
    request = infer_shared(rig, segment, start=True)
    request.inputs[0].contents.int64_contents.extend([1, 2, 3, 4])
    await refuse(rig, request, "unexpected 'content' provided when using shared memory for input")
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(X.tobytes())
    await refuse(rig, request, "expected 0 raw input contents for model 'fold'")


async def test_an_input_given_twice(rig: Any, segment: Path) -> None:
    request = infer_shared(rig, segment, start=True)
    request.inputs.add().CopyFrom(request.inputs[0])
    await refuse(rig, request, "input 'x' for model 'fold' is given twice")


async def test_more_than_may_wait(make_rig: Any, make_segment: Any) -> None:
    """Messages have a limit; what is in shared memory has this one."""
    rig, segment = await make_rig(max_pending_bytes=1024), make_segment(bytes(4096))
    rig.serving.regions.register("r", segment.name, 0, 4096)
    request = infer(rig, np.zeros((1, 128, 2), np.int64), start=True)
    del request.raw_input_contents[:]
    share(request.inputs[0], 2048)
    text = "input 'x' for model 'fold' has 2048 bytes in shared memory, more than all"
    await refuse(rig, request, text)


async def test_a_full_file_system_is_told_before_the_step(rig: Any, make_segment: Any) -> None:
    segment = make_segment(b"")
    os.truncate(segment, 2**50)
    rig.serving.regions.register("huge", segment.name, 0, 2**50)
    await rig.inference.ModelInfer(infer(rig, model="untold", start=True))
    request = infer(rig, model="untold")
    share(request.outputs[0], 2**50, region="huge")
    await refuse(rig, request, "cannot write to shared memory region 'huge'")

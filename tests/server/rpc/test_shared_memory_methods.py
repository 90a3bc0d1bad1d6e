"""Regions of shared memory over the wire: who may register them, and what the errors say."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from grpc import StatusCode

from server.errors import NotAllowed
from server.rpc.caller import Caller
from server.rpc.inference_service import InferenceService
from server.stubs.inference import grpc_service_pb2 as oip

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = Caller(lambda: (), lambda: "192.0.2.1")
HERE = Caller(lambda: (), lambda: "127.0.0.1")


async def register(rig: Any, name: str, segment: Path, byte_size: int = 64, **more: Any) -> None:
    request = oip.SystemSharedMemoryRegisterRequest(
        name=name, key="/" + segment.name, byte_size=byte_size, **more
    )
    await rig.inference.SystemSharedMemoryRegister(request)


async def unregister(rig: Any, name: str = "") -> None:
    request = oip.SystemSharedMemoryUnregisterRequest(name=name)
    await rig.inference.SystemSharedMemoryUnregister(request)


async def status(rig: Any, name: str = "") -> Any:
    request = oip.SystemSharedMemoryStatusRequest(name=name)
    return (await rig.inference.SystemSharedMemoryStatus(request)).regions


async def test_a_region_from_its_beginning_to_its_end(rig: Any, make_segment: Any) -> None:
    first, second = make_segment(), make_segment()
    assert not await status(rig)
    await register(rig, "first", first)
    await register(rig, "second", second, 16, offset=8)
    assert set(await status(rig)) == {"first", "second"}
    (found,) = (await status(rig, "second")).items()
    assert found == (
        "second",
        oip.SystemSharedMemoryStatusResponse.RegionStatus(
            name="second", key="/" + second.name, offset=8, byte_size=16
        ),
    )
    await unregister(rig, "first")
    await unregister(rig, "first")  # as other servers do, in silence
    assert set(await status(rig)) == {"second"}
    await register(rig, "first", first)
    await unregister(rig)
    assert not await status(rig)


async def test_refusals(rig: Any, make_segment: Any) -> None:
    segment = make_segment()
    await register(rig, "taken", segment)
    for call, code, kind, text in (
        (register(rig, "taken", segment), StatusCode.ALREADY_EXISTS, "RegionExists",
         "shared memory region 'taken' already in manager"),
        (register(rig, "long", segment, 65), StatusCode.INVALID_ARGUMENT, "InvalidRequest",
         "failed to register shared memory region 'long': invalid args"),
        (register(rig, "far", segment, 1, offset=2**64 - 1), StatusCode.INVALID_ARGUMENT,
         "InvalidRequest", "failed to register shared memory region 'far': invalid args"),
        (register(rig, "gone", segment.with_name("rnns")), StatusCode.NOT_FOUND, "RegionNotFound",
         "Unable to open shared memory region: '/rnns'"),
        (status(rig, "gone"), StatusCode.NOT_FOUND, "RegionNotFound",
         "Unable to find system shared memory region: 'gone'"),
    ):  # fmt: skip
        error = await rig.refused(call, code, kind)
        assert error.details().startswith(text)
    assert set(await status(rig)) == {"taken"}


async def test_it_is_among_the_extensions(rig: Any, make_rig: Any) -> None:
    async def extensions(rig: Any) -> set[str]:
        return set((await rig.inference.ServerMetadata(oip.ServerMetadataRequest())).extensions)

    assert {"system_shared_memory", "classification"} <= await extensions(rig)
    assert "cuda_shared_memory" not in await extensions(rig)
    assert "system_shared_memory" not in await extensions(await make_rig(shared_memory="off"))


async def test_it_can_be_off(make_rig: Any, make_segment: Any) -> None:
    rig, segment = await make_rig(shared_memory="off"), make_segment()
    for call in (register(rig, "r", segment), unregister(rig), status(rig)):
        error = await rig.refused(call, StatusCode.PERMISSION_DENIED, "NotAllowed")
        assert "(setting shared_memory: off)" in error.details()
    request = rig.infer("affine", {})
    given = request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).parameters
    given["shared_memory_region"].string_param = "r"
    given["shared_memory_byte_size"].int64_param = 8
    call = rig.inference.ModelInfer(request)
    await rig.refused(call, StatusCode.PERMISSION_DENIED, "NotAllowed")


async def ask(service: InferenceService, method: str, request: Any, caller: Caller) -> None:
    """A unary call, as transports make it. Raises what is wrong with it."""
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    getattr(InferenceService, method).begin(service, request, answered.set_result, caller)
    answer = await answered
    if isinstance(answer, Exception):
        raise answer


@pytest.mark.parametrize(
    ("policy", "caller", "allowed"),
    [
        ("local", HERE, True),
        ("local", ELSEWHERE, False),
        ("local", Caller(lambda: (), lambda: ""), False),
        ("all", ELSEWHERE, True),
        ("off", HERE, False),
    ],
)
async def test_who_may(rig: Any, segment: Path, policy: Any, caller: Any, allowed: bool) -> None:
    not_asked: Any = None
    service = InferenceService(rig.serving, 1, control=not_asked, shared_memory=policy)
    key = {"name": "r", "key": segment.name, "byte_size": 64}
    rig.serving.regions.register("there", segment.name, 0, 8)
    infer = rig.infer("affine", {}, outputs=("y",))
    infer.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    for tensor in (infer.inputs[0], infer.outputs[0]):
        tensor.parameters["shared_memory_region"].string_param = "there"
        tensor.parameters["shared_memory_byte_size"].int64_param = 8
    only_output = rig.infer("affine", {"x": [[1, 2]]}, outputs=("y",))
    only_output.inputs[0].datatype, only_output.raw_input_contents[0] = "FP32", bytes(8)
    only_output.outputs[0].CopyFrom(infer.outputs[0])
    for method, request in (
        ("SystemSharedMemoryRegister", oip.SystemSharedMemoryRegisterRequest(**key)),
        ("SystemSharedMemoryStatus", oip.SystemSharedMemoryStatusRequest()),
        ("ModelInfer", infer),
        ("ModelInfer", only_output),
        ("SystemSharedMemoryUnregister", oip.SystemSharedMemoryUnregisterRequest()),
    ):
        if allowed:
            await ask(service, method, request, caller)
        else:
            with pytest.raises(NotAllowed, match=f"setting shared_memory: {policy}"):
                await ask(service, method, request, caller)
    slot: Any = SimpleNamespace(fill=lambda answer: None)
    service.stream(caller).begin(rig.infer("affine", {"x": np.float32([[1, 2]])}), slot)
    if not allowed:
        with pytest.raises(NotAllowed):
            service.stream(caller).begin(infer, slot)
    left = [region.name for region in rig.serving.regions.status()]
    assert left == ([] if allowed else ["there"])


@pytest.fixture
def segment(make_segment: Any) -> Path:
    path: Path = make_segment()
    return path


# ---- CUDA ---------------------------------------------------------------------------------------


async def test_cuda_has_no_regions_and_forgets_them(rig: Any) -> None:
    ask = rig.inference.CudaSharedMemoryStatus
    assert not (await ask(oip.CudaSharedMemoryStatusRequest())).regions
    for name in ("", "r"):
        request = oip.CudaSharedMemoryUnregisterRequest(name=name)
        await rig.inference.CudaSharedMemoryUnregister(request)
    call = ask(oip.CudaSharedMemoryStatusRequest(name="r"))
    error = await rig.refused(call, StatusCode.NOT_FOUND, "RegionNotFound")
    assert error.details() == "Unable to find cuda shared memory region: 'r'"


async def test_cuda_unregister_leaves_system_regions_alone(rig: Any, segment: Path) -> None:
    await register(rig, "r", segment)
    for name in ("", "r"):
        request = oip.CudaSharedMemoryUnregisterRequest(name=name)
        await rig.inference.CudaSharedMemoryUnregister(request)
    assert set(await status(rig)) == {"r"}


async def test_cuda_regions_are_not_registered(rig: Any) -> None:
    request = oip.CudaSharedMemoryRegisterRequest(name="r", raw_handle=bytes(64), byte_size=8)
    call = rig.inference.CudaSharedMemoryRegister(request)
    error = await rig.refused(call, StatusCode.UNIMPLEMENTED, "Unsupported")
    assert error.details().startswith("failed to register CUDA shared memory region: 'r'")
    assert "system shared memory" in error.details()

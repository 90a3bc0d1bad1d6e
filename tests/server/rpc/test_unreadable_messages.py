"""Bytes that are no message: an answer like to every other mistake, in calls and in streams."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from server.stubs.inference import grpc_service_pb2 as oip

NO_MESSAGE = b"\x0a\xff\xff"  # a text longer than what follows
SERVICES = [
    pb.DESCRIPTOR.services_by_name["SessionService"],
    oip.DESCRIPTOR.services_by_name["GRPCInferenceService"],
]
UNARY = [
    (f"/{service.full_name}/{method.name}", method.input_type)
    for service in SERVICES
    for method in service.methods
    if method.input_type.fields and not method.client_streaming
]
STREAMS = ["/rnnserve.v1.SessionService/Stream", "/inference.GRPCInferenceService/ModelStreamInfer"]


@pytest.mark.parametrize(("path", "kind"), UNARY)
async def test_calls(rig: Any, path: str, kind: Any) -> None:
    call = rig.channel.unary_unary(path)(NO_MESSAGE)
    error = await rig.refused(call, grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details() == f"the request of {path} is no message of type {kind.full_name}"


@pytest.mark.parametrize("path", STREAMS)
async def test_streams_end(rig: Any, path: str) -> None:
    """With a word, and sessions go on without them."""
    key = await rig.open()
    await rig.step(key, np.array([[[3, 4]]]))
    before = await rig.snapshot()
    call = rig.channel.stream_stream(path)()
    await call.write(NO_MESSAGE)
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert path in await call.details()
    assert await rig.snapshot() == before
    await rig.step(key, np.array([[[1, 2]]]))


async def test_what_was_asked_before_is_answered_before(rig: Any) -> None:
    """However often it is tried: an answer may be on its way while the stream ends."""
    for n in range(1, 40):
        call = rig.channel.stream_stream(STREAMS[1])(timeout=10)
        request = rig.infer("fold", {"x": np.array([[[n, 4]] * 6])}, n, start=True)
        await call.write(request.SerializeToString())
        if n % 2:
            answer = await call.read()
            await call.write(NO_MESSAGE)
        else:
            await call.write(NO_MESSAGE)
            answer = await call.read()
        response = oip.ModelStreamInferResponse.FromString(answer).infer_response
        assert rig.outputs_of(response)["y"].shape == (1, 6, 2)
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [step for step, _ in (await rig.snapshot()).values()] == [1] * 39

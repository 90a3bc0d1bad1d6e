"""Any message to any method: a clear answer, and every session as it was."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import structlog
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fuzz import messages, mutation, odd
from fuzz.worker import UNARY
from server.serving import home_of
from server.stubs.inference import grpc_service_pb2 as oip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rnnserve.v1 import session_pb2 as pb

CLEAR = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,  # models are not loaded and unloaded on demand
}
# one server for all examples: the more of them it has seen, the better
ONE_SERVER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=ONE_SERVER)
MAX_MESSAGE_BYTES = 4 * 2**20  # of the rig's server
X = np.array([[[3, 4]]])
INFER = "/inference.GRPCInferenceService/ModelInfer"  # has tests of its own
OTHERS = [each for each in UNARY if each[0] != INFER]


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
async def begun(rig: Any) -> Any:
    """A sequence and a session, which go on whatever is sent beside them."""
    await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1, start=True))
    key = await rig.open()
    await rig.step(key, X)
    return key


async def judge(rig: Any, path: str, raw: bytes) -> None:
    before = await rig.snapshot()
    call = rig.channel.unary_unary(path)(raw)
    code = await call.code()
    if len(raw) > MAX_MESSAGE_BYTES:
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    elif code is not grpc.StatusCode.OK:
        assert code in CLEAR, (code, await call.details())
        assert await call.details()
        assert dict(await call.trailing_metadata())["rnnserve-error"]
    after = await rig.snapshot()
    assert after.items() >= before.items()
    assert len(after) == len(before) or code is grpc.StatusCode.OK


def close_others(rig: Any, begun: pb.SessionKey) -> None:
    """What a call has opened that was right by chance."""
    for session in rig.serving.sessions:
        if session.id != begun.session_id and "sequence 1 " not in f"{session.id}":
            home_of(session).close(session)


@pytest.mark.parametrize(("path", "method"), OTHERS, ids=lambda each: str(each)[-28:])
@given(seed=st.integers(0, 2**32))
@EXAMPLES
async def test_any_message_to_any_method(
    rig: Any, begun: pb.SessionKey, seed: int, path: str, method: Any
) -> None:
    close_others(rig, begun)
    rng = Random(seed)
    message = messages.message(rng, method.input_type)
    note(f"{message}"[:2000])
    raw = message.SerializeToString()
    await judge(rig, path, mutation.mutated(rng, raw) if rng.random() < 0.3 else raw)


@pytest.mark.parametrize(("path", "method"), OTHERS, ids=lambda each: str(each)[-28:])
async def test_noise_to_any_method(rig: Any, begun: Any, path: str, method: Any) -> None:
    rng = Random(path)
    for size in (1, 2, 3, 5, 9, 50, 1000, 100_000):
        await judge(rig, path, rng.randbytes(size))


@pytest.mark.parametrize("version", odd.VERSIONS)
async def test_versions_of_models(rig: Any, version: str) -> None:
    """Said by every method that takes one, in the same way."""
    stub = rig.inference
    calls = (
        stub.ModelMetadata(oip.ModelMetadataRequest(name="fold", version=version)),
        stub.ModelConfig(oip.ModelConfigRequest(name="fold", version=version)),
        stub.ModelStatistics(oip.ModelStatisticsRequest(name="fold", version=version)),
        stub.ModelInfer(rig.infer("fold", {"x": X}, 1, start=True, model_version=version)),
    )
    codes = [await call.code() for call in calls]
    assert len(set(codes)) == 1
    ready = stub.ModelReady(oip.ModelReadyRequest(name="fold", version=version))
    match codes[0]:
        case grpc.StatusCode.OK:
            assert version == "" or int(version) in (1, 2)
            assert (await ready).ready
        case grpc.StatusCode.NOT_FOUND:
            assert int(version) not in (1, 2) if len(version) < 1000 else version.isdigit()
            assert not (await ready).ready
        case code:
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert not (version.isascii() and version.isdecimal())
            assert await ready.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("path", "method"), OTHERS, ids=lambda each: str(each)[-28:])
async def test_nothing_at_all(rig: Any, begun: Any, path: str, method: Any) -> None:
    await judge(rig, path, b"")
    await rig.step(begun, X)
    answer = await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1))
    assert rig.outputs_of(answer)["y"].tolist() == [[[12, 16]]]

"""Call by call the answers that grpcio gives, from the other transports; and which one serves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import rnnserve
from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc
from server.stubs.inference import grpc_service_pb2 as oip
from server.stubs.inference import grpc_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("pygrpc_native")

TRANSPORTS = ("grpcio", "http2", "native")  # grpcio's answers are the measure
MAX_BYTES = 200_000


@pytest.fixture(scope="module")
def channels(start: Any, one_at_a_time: Path) -> Iterator[dict[str, grpc.Channel]]:
    """To servers that differ in their transport alone."""
    options = ("--max-message-bytes", str(MAX_BYTES), "--max-sessions", "2")
    opened = {}
    for transport in TRANSPORTS:
        server = start(one_at_a_time, "--transport", transport, *options).wait_until_serving()
        assert server.events()[-1]["transport"] == transport
        opened[transport] = grpc.insecure_channel(server.grpc)
    yield opened
    for channel in opened.values():
        channel.close()


SESSIONS, INFERENCE = "/rnnserve.v1.SessionService/", "/inference.GRPCInferenceService/"
NOBODY = pb.SessionKey(session_id="nobody's", token="guess")
FRAMES = np.zeros((1, 1, 12), np.float32)


def infer(**fields: Any) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="vowels", **fields)
    request.inputs.add(name="frames", datatype="FP32", shape=FRAMES.shape)
    request.raw_input_contents.append(FRAMES.tobytes())
    return request


def numbered(sequence: int, **flags: bool) -> oip.ModelInferRequest:
    request = infer()
    request.parameters["sequence_id"].int64_param = sequence
    for name, value in flags.items():
        request.parameters[name].bool_param = value
    return request


LOG_FILE = oip.LogSettingsRequest(settings={"log_file": {"string_param": "elsewhere"}})
CASES: dict[str, tuple[str, Any]] = {
    "described": (SESSIONS + "DescribeModel", pb.DescribeModelRequest(model_name="vowels")),
    "unknown model": (SESSIONS + "OpenSession", pb.OpenSessionRequest(model_name="größe")),
    "long name": (SESSIONS + "OpenSession", pb.OpenSessionRequest(model_name="m" * 10_000)),
    "unknown session": (SESSIONS + "Step", pb.StepRequest(session=NOBODY)),
    "nothing": (SESSIONS + "GetStates", pb.GetStatesRequest()),
    "broken snapshot": (SESSIONS + "Restore", pb.RestoreRequest(snapshot=b"\0" * 99)),
    "too large": (SESSIONS + "Restore", pb.RestoreRequest(snapshot=bytes(MAX_BYTES))),
    "listed": (SESSIONS + "ListSessions", pb.ListSessionsRequest()),
    "live": (INFERENCE + "ServerLive", oip.ServerLiveRequest()),
    "server": (INFERENCE + "ServerMetadata", oip.ServerMetadataRequest()),
    "model": (INFERENCE + "ModelMetadata", oip.ModelMetadataRequest(name="vowels")),
    "no sequence": (INFERENCE + "ModelInfer", infer()),
    "no START": (INFERENCE + "ModelInfer", numbered(7)),
    "all of a sequence": (
        INFERENCE + "ModelInfer", numbered(8, sequence_start=True, sequence_end=True),
    ),
    "reserved": (INFERENCE + "ModelInfer", oip.ModelInferRequest(model_name="vowels")),
    "not offered": (INFERENCE + "LogSettings", LOG_FILE),
    "unknown method": (INFERENCE + "Nothing", oip.ServerLiveRequest()),
    "unknown service": ("/some.Service/Method", oip.ServerLiveRequest()),
    "health": ("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest()),
    "health of nobody": (
        "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest(service="x"),
    ),
}  # fmt: skip


def answer(channel: grpc.Channel, path: str, request: bytes) -> tuple[Any, ...]:
    """All that a client can see of a call."""
    try:
        response, call = channel.unary_unary(path).with_call(request, timeout=10)
    except grpc.RpcError as error:
        return error.code(), error.details(), tuple(error.trailing_metadata())
    return call.code(), response, tuple(call.initial_metadata()), tuple(call.trailing_metadata())


@pytest.mark.parametrize("other", ["http2", "native"])
@pytest.mark.parametrize("case", CASES)
def test_all_answer_alike(channels: dict[str, grpc.Channel], case: str, other: str) -> None:
    path, request = CASES[case]
    grpcio, theirs = (
        answer(channels[name], path, request.SerializeToString()) for name in ("grpcio", other)
    )
    assert theirs == grpcio


def test_too_many_sessions(channels: dict[str, grpc.Channel]) -> None:
    """All the same but for one key, which belongs to gRPC and the front does not let through."""
    seen = []
    for channel in channels.values():
        stub = session_pb2_grpc.SessionServiceStub(channel)
        opened = [stub.OpenSession(pb.OpenSessionRequest(model_name="vowels")) for _ in range(2)]
        request = pb.OpenSessionRequest(model_name="vowels").SerializeToString()
        seen.append(answer(channel, SESSIONS + "OpenSession", request))
        for one in opened:
            stub.CloseSession(pb.CloseSessionRequest(session=one.session))
    (code, text, metadata), http2, native = seen
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    kept = tuple(pair for pair in metadata if pair[0] != "grpc-retry-pushback-ms")
    assert len(kept) == len(metadata) - 1
    assert http2 == (code, text, metadata)
    assert native == (code, text, kept)


def test_streams_reflection_and_health_are_there(channels: dict[str, grpc.Channel]) -> None:
    for channel in channels.values():
        listed = reflection_pb2.ServerReflectionRequest(list_services="")
        reflected = reflection_pb2_grpc.ServerReflectionStub(channel)
        (services,) = reflected.ServerReflectionInfo(iter([listed]))
        names = {service.name for service in services.list_services_response.service}
        assert {"rnnserve.v1.SessionService", "inference.GRPCInferenceService"} <= names
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        requests = [numbered(9, sequence_start=True), numbered(9, sequence_end=True)]
        answers = list(inference.ModelStreamInfer(iter(requests)))
        assert [bool(one.error_message) for one in answers] == [False, False]


@pytest.mark.parametrize(
    ("compression", "transports"),
    [(grpc.Compression.Gzip, TRANSPORTS), (grpc.Compression.Deflate, ("grpcio", "http2"))],
)
def test_compressed_requests(
    channels: dict[str, grpc.Channel], compression: grpc.Compression, transports: tuple[str, ...]
) -> None:
    answers = []
    for transport in transports:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channels[transport])
        request = numbered(10, sequence_start=True, sequence_end=True)
        answer = stub.ModelInfer(request, compression=compression)
        streamed = list(stub.ModelStreamInfer(iter([request]), compression=compression))
        assert [one.infer_response.raw_output_contents for one in streamed] == [
            answer.raw_output_contents
        ]
        answers.append(answer)
    assert answers[1:] == answers[:-1]


# ---- which one serves ----------------------------------------------------------------------------


def test_by_default_it_is_http2(start: Any, repository: Path) -> None:
    assert start(repository).wait_until_serving().events()[-1]["transport"] == "http2"


@pytest.mark.parametrize(
    ("transport", "absent", "level", "extras"),
    [
        ("auto", "h2", "info", "server"),
        ("http2", "h2", "warning", "server"),
        ("native", "pygrpc_native", "warning", "server,fast"),
    ],
)
def test_where_it_is_not_installed_grpcio_serves(
    start: Any,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
    absent: str,
    level: str,
    extras: str,
) -> None:
    missing = f'raise ModuleNotFoundError("No module named {absent}", name="{absent}")\n'
    (tmp_path / f"{absent}.py").write_text(missing)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    server = start(repository, "--transport", transport).wait_until_serving()
    (told,) = [event for event in server.events() if "missing" in event]
    assert (told["level"], told["missing"]) == (level, absent)
    assert told["install"] == f"pip install 'rnnserve[{extras}]'"
    assert server.events()[-1]["transport"] == "grpcio"
    with rnnserve.connect(server.grpc) as client, client.session("vowels") as session:
        session.step(FRAMES[0, 0])

"""`--transport native`: what other modules here test, over the native front; and call by call the
answers that grpcio gives.
"""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
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
    from collections.abc import Callable, Iterator

pytest.importorskip("pygrpc_native")

MAX_BYTES = 200_000


def borrowed_from(name: str) -> dict[str, Any]:
    """The tests and fixtures of a module of this directory."""
    file = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{name}_over_native", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {key: value for key, value in vars(module).items() if not key.startswith("__")}


for name in ("test_served_sessions", "test_interleaved_clients", "test_tritonclient"):
    vars().update(borrowed_from(name))
vars().update(borrowed_from("test_shutdown"))


@pytest.fixture(scope="module")
def start(start: Any) -> Callable[..., Any]:
    """Their servers have the native front, but for those that say otherwise."""
    return lambda repository, *options: start(repository, "--transport", "native", *options)


@pytest.fixture(scope="module")
def server(start: Any, repository: Path) -> Any:
    return start(repository).wait_until_serving()


@pytest.fixture(scope="module")
def exact_server(start: Any, one_at_a_time: Path) -> Any:
    return start(one_at_a_time).wait_until_serving()


# ---- call by call --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def channels(start: Any, one_at_a_time: Path) -> Iterator[list[grpc.Channel]]:
    """To two servers that differ in their transport alone: grpcio's first."""
    options = ("--max-message-bytes", str(MAX_BYTES), "--max-sessions", "2")
    servers = [
        start(one_at_a_time, "--transport", transport, *options).wait_until_serving()
        for transport in ("grpcio", "native")
    ]
    opened = [grpc.insecure_channel(server.grpc) for server in servers]
    yield opened
    for channel in opened:
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


@pytest.mark.parametrize("case", CASES)
def test_both_answer_alike(channels: list[grpc.Channel], case: str) -> None:
    path, request = CASES[case]
    grpcio, native = (answer(channel, path, request.SerializeToString()) for channel in channels)
    assert native == grpcio


def test_too_many_sessions(channels: list[grpc.Channel]) -> None:
    """All the same but for one key, which belongs to gRPC and the front does not let through."""
    seen = []
    for channel in channels:
        stub = session_pb2_grpc.SessionServiceStub(channel)
        opened = [stub.OpenSession(pb.OpenSessionRequest(model_name="vowels")) for _ in range(2)]
        request = pb.OpenSessionRequest(model_name="vowels").SerializeToString()
        seen.append(answer(channel, SESSIONS + "OpenSession", request))
        for one in opened:
            stub.CloseSession(pb.CloseSessionRequest(session=one.session))
    (code, text, metadata), native = seen
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    kept = tuple(pair for pair in metadata if pair[0] != "grpc-retry-pushback-ms")
    assert len(kept) == len(metadata) - 1
    assert native == (code, text, kept)


def test_streams_reflection_and_health_are_there(channels: list[grpc.Channel]) -> None:
    for channel in channels:
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


def test_a_port_in_use_is_one_line_and_an_exit_code(start: Any, repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = start(repository, "--grpc-port", str(port))
        assert server.exit_code(60) == 1
    lines = [line for line in server.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, server.stderr
    assert f"127.0.0.1:{port} for gRPC" in lines[0]


def test_without_the_extra_grpcio_serves(
    start: Any, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = 'raise ModuleNotFoundError("No module named pygrpc_native", name="pygrpc_native")\n'
    (tmp_path / "pygrpc_native.py").write_text(absent)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = start(repository).wait_until_serving()
    (warning,) = [event for event in server.events() if event["level"] == "warning"]
    assert warning["missing"] == "pygrpc_native"
    assert warning["install"] == "pip install 'rnnserve[server,fast]'"
    with rnnserve.connect(server.grpc) as client, client.session("vowels") as session:
        session.step(FRAMES[0, 0])

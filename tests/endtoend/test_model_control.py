"""Loading and unloading by the real `tritonclient`, from one server and from several processes."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from server.stubs.inference import grpc_service_pb2 as oip
from server.stubs.inference import grpc_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXPLICIT = ("--model-control-mode", "explicit")


def test_with_tritonclient(
    start: Callable[..., Any], script: Callable[..., Any], repository: Path
) -> None:
    server = start(repository, *EXPLICIT).wait_until_serving()
    process = script("triton_control.py", server.grpc, str(repository / "vowels/1/model.onnx"))
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    seen = json.loads(printed)
    assert seen == {
        "at first": [["vowels", "", ""]],
        "loaded": [["vowels", "1", "READY"]],
        "ready": True,
        "batch sizes": [64, 3],
        "with files": [["copy", "1", "READY"], ["vowels", "1", "READY"]],
        "still ready": False,
        "unknown": ["StatusCode.NOT_FOUND", seen["unknown"][1]],
        "broken": ["StatusCode.INVALID_ARGUMENT", seen["broken"][1]],
        "aio": [True, seen["aio"][1], False],
    }
    assert seen["unknown"][1].startswith("failed to load 'unknown', no such model")
    assert "no model configuration" in seen["broken"][1]
    server.stop()


def test_what_to_load_at_the_start(start: Callable[..., Any], repository: Path) -> None:
    server = start(repository, *EXPLICIT, "--load-model", "vowels").wait_until_serving()
    with grpc.insecure_channel(server.grpc) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ModelReady(oip.ModelReadyRequest(name="vowels")).ready
    server.stop()
    missing = start(repository, *EXPLICIT, "--load-model", "vowel")
    assert missing.exit_code(60) == 1
    assert "holds no model 'vowel'" in missing.stderr


@pytest.fixture
def two(start: Callable[..., Any], repository: Path) -> Any:
    server = start(repository, *EXPLICIT, "--processes", "2").wait_until_serving()
    yield server
    server.terminate()
    assert server.exit_code() == 0


def ready_in(server: Any) -> set[bool]:
    """What connections are told, whichever process they reach."""
    answers = set()
    for _ in range(30):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.grpc, options) as channel:
            stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            request = oip.ModelReadyRequest(name="vowels")
            answers.add(stub.ModelReady(request, timeout=10, wait_for_ready=True).ready)
    return answers


def test_every_process_loads_and_unloads(two: Any) -> None:
    with grpc.insecure_channel(two.grpc) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert ready_in(two) == {False}
        stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="vowels"))
        assert ready_in(two) == {True}
        stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name="vowels"))
        assert ready_in(two) == {False}
        with pytest.raises(grpc.RpcError) as caught:
            stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="x"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_process_that_follows_another_loads_what_the_others_have(two: Any) -> None:
    with grpc.insecure_channel(two.grpc) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="vowels"))
    loads = [event for event in two.events() if event["event"] == "model ready"]
    assert len(loads) == 2
    workers = [int(pid) for pid in children(two.process.pid)]
    os.kill(workers[0], signal.SIGKILL)
    give_up_s = time.monotonic() + 60
    while sum(event["event"] == "model ready" for event in two.events()) < 3:
        assert time.monotonic() < give_up_s, two.stderr
        time.sleep(0.05)
    assert ready_in(two) == {True}


def children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()

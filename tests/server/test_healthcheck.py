"""The health check against real servers: exit code 0 means SERVING and nothing else."""

from __future__ import annotations

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from server import healthcheck
from server.config import ServerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

Status = health_pb2.HealthCheckResponse


@contextmanager
def serving(**statuses: Status.ServingStatus) -> Iterator[str]:
    """The address of a health service with a status per service; `_` stands for the server."""
    servicer = health.HealthServicer()
    for service, status in statuses.items():
        servicer.set("" if service == "_" else service, status)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_zero_while_the_server_serves() -> None:
    with serving(_=Status.SERVING) as address:
        assert healthcheck.main(["--address", address]) == 0


def test_one_with_the_status_while_it_drains(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(_=Status.NOT_SERVING) as address:
        assert healthcheck.main(["--address", address]) == 1
    assert capsys.readouterr().err == f"{address}: NOT_SERVING\n"


def test_one_service_may_be_asked_for() -> None:
    with serving(_=Status.NOT_SERVING, sessions=Status.SERVING) as address:
        assert healthcheck.main(["--address", address, "--service", "sessions"]) == 0


def test_a_service_that_nobody_offers_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(_=Status.SERVING) as address:
        assert healthcheck.main(["--address", address, "--service", "other"]) == 1
    assert "NOT_FOUND" in capsys.readouterr().err


def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # but does not listen: nobody else can
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert healthcheck.main(["--address", address, "--timeout-s", "2"]) == 1
    assert capsys.readouterr().err.startswith(f"{address}: UNAVAILABLE")


def test_who_accepts_and_says_nothing_is_given_up() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        assert healthcheck.problem_of(address, "", timeout_s=0.2) is not None


def test_the_port_is_the_servers_own() -> None:
    default = healthcheck._parser({}).parse_args([])
    moved = healthcheck._parser({"RNNSERVE_GRPC_PORT": "9001"}).parse_args([])
    assert default.address == f"127.0.0.1:{ServerConfig.model_fields['grpc_port'].default}"
    assert moved.address == "127.0.0.1:9001"


def test_it_runs_as_a_module_and_loads_no_model_runtime() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "server.healthcheck", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--address" in run.stdout
    assert not any(name in run.stderr for name in ("onnxruntime", "numpy", "pydantic", "typer"))

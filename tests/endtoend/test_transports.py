"""What other modules here test, over the transports that are not the default."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("pygrpc_native")


def borrowed_from(name: str) -> dict[str, Any]:
    """The tests and fixtures of a module of this directory."""
    file = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{name}_over_others", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {key: value for key, value in vars(module).items() if not key.startswith("__")}


for name in ("test_served_sessions", "test_interleaved_clients", "test_tritonclient"):
    vars().update(borrowed_from(name))
vars().update(borrowed_from("test_shutdown"))


@pytest.fixture(scope="module", params=["native", "grpcio"])
def start(start: Any, request: Any) -> Callable[..., Any]:
    """Their servers have that transport, but for those that say otherwise."""
    return lambda repository, *options: start(repository, "--transport", request.param, *options)


@pytest.fixture(scope="module")
def server(start: Any, repository: Path) -> Any:
    return start(repository).wait_until_serving()


@pytest.fixture(scope="module")
def exact_server(start: Any, one_at_a_time: Path) -> Any:
    return start(one_at_a_time).wait_until_serving()


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

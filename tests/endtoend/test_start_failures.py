"""What cannot be served: one line that says why, an exit code, and no traceback."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def with_bad_config(directory: Path) -> None:
    (directory / "vowels" / "config.pbtxt").write_text("max_batch_size: many\n")


def with_unknown_state(directory: Path) -> None:
    config = directory / "vowels" / "config.pbtxt"
    config.write_text(config.read_text().replace('"lstm_h"', '"lstm_z"'))


def with_corrupt_model(directory: Path) -> None:
    model = directory / "vowels" / "1" / "model.onnx"
    model.write_bytes(model.read_bytes()[:1000])


# how the repository is spoilt; options; what the line must hold
CASES: dict[str, tuple[Callable[[Path], None] | None, tuple[str, ...], tuple[str, ...]]] = {
    "no repository": (shutil.rmtree, (), ("not a directory",)),
    "config is no config": (with_bad_config, (), ("config.pbtxt", "max_batch_size")),
    "config names what is not there": (with_unknown_state, (), ("config.pbtxt", "lstm_z")),
    "truncated model": (with_corrupt_model, (), ("model.onnx",)),
    "gRPC port in use": (None, ("--grpc-port", "PORT"), ("PORT for gRPC", "--grpc-port")),
    "HTTP port in use": (None, ("--http-port", "PORT"), ("PORT for HTTP", "--http-port")),
    "too much state": (None, ("--max-sessions", str(10**12)), ("lstm_h", "number of sessions")),
}


@pytest.fixture(scope="module")
def failures(
    start: Any, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Any, int]]]:
    """All of them at once, and the port that was in use."""
    root = tmp_path_factory.mktemp("failures")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        servers = {}
        for number, (case, (spoil, options, _)) in enumerate(CASES.items()):
            copy = root / str(number)
            shutil.copytree(repository, copy)
            if spoil is not None:
                spoil(copy)
            chosen = (option.replace("PORT", str(port)) for option in options)
            servers[case] = start(copy, *chosen)
        yield {case: (server, port) for case, server in servers.items()}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_an_exit_code(failures: dict[str, tuple[Any, int]], case: str) -> None:
    server, port = failures[case]
    assert server.exit_code(60) == 1
    lines = [line for line in server.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, server.stderr
    assert lines[0].startswith("rnnserve: ")
    for words in CASES[case][2]:
        assert words.replace("PORT", str(port)) in lines[0]
    assert not [event for event in server.events() if event["event"] == "serving"]

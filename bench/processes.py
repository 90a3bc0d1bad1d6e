"""The other processes of a measurement: the echo server and the load generator."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.load import Load
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


def answer_like(hidden: int) -> bytes:
    """A message as long as the server's answer to a step."""
    output = pb.Tensor(
        name="hidden", datatype="FP32", shape=(1, hidden), contents=bytes(4 * hidden)
    )
    return pb.StreamResponse(
        request_id=1, session=1, step=pb.StepResponse(outputs=[output], step=1000)
    ).SerializeToString()


def bytes_echo(hidden: int, busy_us: float = 0) -> AbstractContextManager[str]:
    """The address of an echo that sends ready bytes, as many as the model's answer has."""
    return _echo("bytes", answer_like(hidden).hex(), str(busy_us))


def service_echo() -> AbstractContextManager[str]:
    """The address of an echo of the same messages, through the generated code."""
    return _echo("service")


@contextmanager
def _echo(*arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.echo", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def frames(target: str, model: str, sessions: int, seconds: float) -> float:
    """Session-steps per second by frames, from a client process of its own."""
    command = [sys.executable, "-m", "bench.frames", target, model]
    command += ["--sessions", str(sessions), "--seconds", str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def load(target: str, model: str, sessions: int, seconds: float) -> Load:
    """One measurement by a fresh load generator."""
    command = [sys.executable, "-m", "bench.load", target, model]
    command += ["--sessions", str(sessions), "--seconds", str(seconds)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return Load(**json.loads(finished.stdout))


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in use."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status has no VmRSS")

"""The real Triton server, with our model in its Python backend, in processes of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench.libraries import Unavailable
from bench.shapes import FEATURES

if TYPE_CHECKING:
    from types import TracebackType

    from bench.triton.environment import Environment

START_LIMIT_S = 60.0
STOP_LIMIT_S = 15.0
READY = "Started GRPCInferenceService at "

# The fastest of what was tried on two cores. Dims of any size make Triton compare shapes before it
# batches; two instances of the model halve the batches; a delay for fuller ones costs a single
# sequence its length and does not pay with 64.
CONFIG = """
backend: "python"
max_batch_size: 512
input {{ name: "frames" data_type: TYPE_FP32 dims: [1, {features}] }}
output {{ name: "hidden" data_type: TYPE_FP32 dims: [1, {units}] }}
sequence_batching {{
  max_sequence_idle_microseconds: 86400000000
  oldest {{ max_candidate_sequences: 1024 }}
}}
instance_group {{ kind: KIND_CPU count: 1 }}
"""
OPTIONS = (
    *("--grpc-address", "127.0.0.1", "--allow-http", "false", "--allow-metrics", "false"),
    # With its default of 8, 2.51 died of a signal in most runs of 64 streams, when they ended; with
    # more in none.
    *("--grpc-infer-allocation-pool-size", "1024"),
)


class TritonProcess:
    """Serves `<ours>/<name>`, a repository's entry, in Triton, for as long as a `with` block lasts.

    `grpc` is the address it listens on. Raises Unavailable if it does not start.
    """

    def __init__(self, environment: Environment, ours: Path, name: str, folder: Path) -> None:
        self._environment = environment
        self._log = folder / "triton.log"
        self._repository = folder / "repository"
        self._write(ours, name)
        self.grpc = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        self.grpc = f"127.0.0.1:{_free_port()}"
        command: list[str | Path] = [
            *(self._environment.server, "--model-repository", self._repository),
            *("--backend-directory", self._environment.backends),
            *("--grpc-port", self.grpc.partition(":")[2], *OPTIONS),
        ]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, env=self._environment.variables, stdout=log, stderr=log
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _write(self, ours: Path, name: str) -> None:
        version = self._repository / name / "1"
        version.mkdir(parents=True)
        shutil.copy(ours / name / "1" / "model.onnx", version)
        shutil.copy(Path(__file__).with_name("model.py"), version)
        units = int(name.removeprefix("lstm"))
        config = CONFIG.format(features=FEATURES, units=units)
        (version.parent / "config.pbtxt").write_text(config)

    def _wait_until_ready(self) -> None:
        give_up_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < give_up_s:
            ended = self._process.poll() is not None
            if READY in self._log.read_text():
                return
            if ended:
                break
            time.sleep(0.05)
        raise Unavailable(f"Triton did not start:\n{_last_words(self._log.read_text())}")


def _last_words(log: str) -> str:
    """The errors in Triton's log, or its end."""
    lines = log.splitlines()
    errors = [line for line in lines if line.startswith(("E", "error:"))]
    return "\n".join((errors or lines)[-5:])


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port

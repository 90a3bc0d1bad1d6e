"""A real `rnnserve serve` in a process of its own, serving a real export."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

RNNSERVE = Path(sys.executable).with_name("rnnserve")
START_LIMIT_S = 60.0
FEATURES, CLASSES = 12, 9


class Server:
    """`grpc` and `http` are addresses ("host:port"), known once it serves."""

    def __init__(self, repository: Path, log: Path, *options: str) -> None:
        self._log = log
        command = [RNNSERVE, "serve", "--repository", repository, "--log-format", "json"]
        # any free port, unless the options say otherwise: the last one counts
        command += ["--grpc-port", "0", "--http-port", "0", *options]
        with log.open("w") as stderr:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
        self.grpc = self.http = ""

    def wait_until_serving(self) -> Server:
        give_up_s = time.monotonic() + START_LIMIT_S
        while not (events := [e for e in self.events() if e["event"] == "serving"]):
            assert self.process.poll() is None, self.stderr
            assert time.monotonic() < give_up_s, self.stderr
            time.sleep(0.02)
        self.grpc, self.http = events[0]["grpc"], events[0]["http"]
        return self

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    def events(self) -> list[dict[str, Any]]:
        """What it has logged, but for a line that is being written."""
        whole = self.stderr.rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The sum of a metric over all its labels."""
        lines = self.get("/metrics")[1].splitlines()
        values = [
            line.rpartition(" ")[2] for line in lines if line.split("{")[0].split(" ")[0] == name
        ]
        assert values, f"no metric {name}"
        return sum(map(float, values))

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, limit_s: float = 20.0) -> int:
        return self.process.wait(limit_s)

    def stop(self) -> None:
        """However it is; and it must not have lost an exception on the way."""
        if self.process.poll() is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.2)  # two signals at once can be one
            self.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert "Traceback" not in self.stderr, self.stderr


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds "vowels", an untrained LSTM with a softmax on top, as `rnnserve export` writes it."""
    import torch

    import export
    import models

    torch.manual_seed(0)
    layers = [
        models.LSTM(16, recurrent_activation="sigmoid", return_sequences=True, name="lstm"),
        models.Dense(CLASSES, activation="softmax", name="dense"),
    ]
    model = models.Sequential(
        layers, input_name="frames", output_name="probabilities", name="vowels"
    )
    model(torch.zeros(1, 2, FEATURES))
    root = tmp_path_factory.mktemp("repository")
    export.install(model, root)
    return root


@pytest.fixture(scope="session")
def one_at_a_time(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, of which the server never runs two requests together."""
    copy = tmp_path_factory.mktemp("one") / "repository"
    shutil.copytree(repository, copy)
    config = copy / "vowels" / "config.pbtxt"
    text = config.read_text()
    assert "max_batch_size: 64" in text
    config.write_text(text.replace("max_batch_size: 64", "max_batch_size: 1"))
    return copy


@pytest.fixture(scope="session")
def alone(repository: Path) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What somebody alone gets: plain ONNX Runtime on the file as exported, step by step.

    (time, 12) → (time, 9).
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = str(repository / "vowels" / "1" / "model.onnx")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(frames: NDArray[Any]) -> NDArray[Any]:
        states = {name: np.zeros((1, 16), np.float32) for name in ("lstm_h", "lstm_c")}
        wanted = ["probabilities", "lstm_h_next", "lstm_c_next"]
        outputs = []
        for frame in frames:
            y, *after = session.run(wanted, {"frames": frame[None, None], **states})
            outputs.append(y[0, 0])
            states = dict(zip(states, after, strict=True))
        return np.stack(outputs)

    return run


@pytest.fixture(scope="session")
def utterances() -> list[NDArray[np.float32]]:
    """Twenty sequences of 7 to 29 frames of 12 numbers."""
    rng = np.random.default_rng(7)
    return [
        rng.normal(size=(int(rng.integers(7, 30)), FEATURES)).astype(np.float32) for _ in range(20)
    ]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers, each stopped at the end of the session at the latest."""
    servers: list[Server] = []

    def begin(repository: Path, *options: str) -> Server:
        log = tmp_path_factory.mktemp("server") / "log"
        servers.append(Server(repository, log, *options))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def server(start: Callable[..., Server], repository: Path) -> Server:
    """With its defaults; tests share it and leave no session behind."""
    return start(repository).wait_until_serving()


@pytest.fixture(scope="session")
def exact_server(start: Callable[..., Server], one_at_a_time: Path) -> Server:
    return start(one_at_a_time).wait_until_serving()


@pytest.fixture
def script() -> Callable[..., subprocess.Popen[str]]:
    """Runs a script of this directory with this Python; stdout is a pipe."""

    def run(name: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(Path(__file__).with_name(name)), *arguments]
        environment = os.environ | {"GRPC_VERBOSITY": "NONE"}
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, cwd="/"
        )

    return run

"""What the image holds, without Docker: deploy/install.sh into an empty virtual environment, then a
served inference with what it installed, from a directory where the sources cannot be seen.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import torch

import export
import models

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
START_LIMIT_S, STOP_LIMIT_S = 60.0, 10.0
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RNNSERVE_"))}

# Downloading and unpacking ONNX Runtime takes half a minute, several over a slow line.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Installed(NamedTuple):
    """An environment that install.sh made, and an empty directory to run its programs in."""

    prefix: Path
    directory: Path

    def python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.prefix / "bin" / "python", "-c", code, *arguments],
            cwd=self.directory,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    prefix = tmp_path_factory.mktemp("install") / "rnnserve"
    subprocess.run(
        [ROOT / "deploy" / "install.sh", prefix],
        env={**ENVIRONMENT, "PYTHON": sys.executable},
        check=True,
    )
    yield Installed(prefix, tmp_path_factory.mktemp("elsewhere"))
    shutil.rmtree(prefix)  # half a gigabyte, which pytest would keep


@pytest.fixture(scope="module")
def model() -> models.Sequential:
    torch.manual_seed(0)
    model = models.Sequential(
        [models.LSTM(8, return_sequences=True), models.Dense(3, activation="softmax")],
        output_name="probabilities",
        name="tiny",
    )
    model.build((None, None, 4))
    return model


@pytest.fixture(scope="module")
def address(
    installed: Installed, model: models.Sequential, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Of a server that runs `model` by what was installed."""
    repository = tmp_path_factory.mktemp("repository")
    export.install(model, repository)
    log = tmp_path_factory.mktemp("log") / "serve.log"
    options = ["--repository", repository, "--provider", "cpu", "--log-format", "json"]
    ports = ["--grpc-port", "0", "--http-port", "0"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [installed.prefix / "bin" / "rnnserve", "serve", *options, *ports],
            cwd=installed.directory,
            env=ENVIRONMENT,
            stdout=output,
            stderr=output,
        )
    try:
        yield wait_for_address(process, log)
    finally:
        process.terminate()
        assert process.wait(STOP_LIMIT_S) == 0, log.read_text()


def wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    give_up_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < give_up_s and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"event": "serving"' in line:
                return str(json.loads(line)["grpc"])
        time.sleep(0.05)
    pytest.fail(f"the server did not start: {log.read_text()}")


@pytest.mark.parametrize("package", ["torch", "pytest", "tritonclient"])
def test_nothing_of_training_or_development_is_installed(
    installed: Installed, package: str
) -> None:
    run = installed.python(f"import {package}")
    assert f"No module named '{package}'" in run.stderr


def test_what_runs_is_what_was_installed(installed: Installed) -> None:
    run = installed.python("import server, rnnserve; print(server.__file__, rnnserve.__file__)")
    assert all(file.startswith(str(installed.prefix)) for file in run.stdout.split()), run.stdout


def test_versions_are_those_of_the_constraints(installed: Installed) -> None:
    run = installed.python(
        "import importlib.metadata as m; "
        "print(*(d.name.lower().replace('-', '_') + '==' + d.version for d in m.distributions()))"
    )
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.lower().replace("-", "_") for line in lines if not line.startswith("#")}
    unpinned = set(run.stdout.split()) - pinned
    assert {name.partition("==")[0] for name in unpinned} <= {"pip", "setuptools", "rnnserve"}


def test_it_serves(installed: Installed, address: str, model: models.Sequential) -> None:
    """Two steps of one session are one sequence in torch: the state was kept between them."""
    frames = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    run = installed.python(
        "import json, sys, rnnserve\n"
        "with rnnserve.connect(sys.argv[1]) as client, client.session('tiny') as session:\n"
        "    answers = [session.step(frame) for frame in json.loads(sys.argv[2])]\n"
        "print(json.dumps([answer.tolist() for answer in answers]))",
        address,
        json.dumps(frames.tolist()),
    )
    assert run.returncode == 0, run.stderr
    with torch.no_grad():
        expected = model(torch.from_numpy(frames)[None])[0].numpy()
    np.testing.assert_allclose(json.loads(run.stdout), expected, rtol=0, atol=1e-6)


def test_it_is_healthy(installed: Installed, address: str) -> None:
    check = "import sys, server.healthcheck as h; sys.exit(h.main(['--address', sys.argv[1]]))"
    healthy, nobody = installed.python(check, address), installed.python(check, "127.0.0.1:1")
    assert (healthy.returncode, nobody.returncode) == (0, 1), healthy.stderr

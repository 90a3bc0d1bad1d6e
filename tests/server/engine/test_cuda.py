"""The arena on a GPU: the same numbers, and nothing of a step left to the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from server.engine.devices import choose_device, cuda_device_name
from server.engine.engine import Engine
from server.engine.graph import with_arena
from server.engine.session import create_session, session_options
from server.repository.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.conftest import LstmModel, MakeModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(cuda_device_name() is None, reason="no CUDA device"),
]


@pytest.fixture
def path(make_model: MakeModel, lstm_model: LstmModel, lstm_config: str) -> Path:
    return make_model("lstm", lstm_config, lstm_model())


def test_steps_equal_those_on_the_cpu(path: Path) -> None:
    [spec] = load(path)
    cpu, gpu = (Engine(spec, provider=kind, rows=1000) for kind in ("cpu", "cuda"))
    assert gpu.device.startswith("cuda:0 ")
    rng = np.random.default_rng(0)
    everything = np.arange(1, 1000)
    filling = {name: rng.normal(size=(999, 4)).astype(np.float32) for name in "hc"}
    for engine in (cpu, gpu):
        engine.write(everything, filling)
    for _ in range(20):
        read, write = rng.permutation(everything)[:16].reshape(2, 8)
        frames = rng.normal(size=(8, 2, 3)).astype(np.float32)
        before = gpu.read(everything)
        ours, theirs = (engine.run({"frames": frames}, read, write) for engine in (gpu, cpu))
        np.testing.assert_allclose(ours["y"], theirs["y"], atol=1e-5)
        after = gpu.read(everything)
        untouched = np.setdiff1d(everything, write) - 1
        for name, values in after.items():
            np.testing.assert_array_equal(values[untouched], before[name][untouched])
            np.testing.assert_allclose(values, cpu.read(everything)[name], atol=1e-5)


def test_the_pools_live_on_the_gpu(path: Path) -> None:
    engine = Engine(load(path)[0], provider="cuda", rows=10)
    assert engine.arena is not None
    assert {pool.device_name() for pool in engine.arena.pools.values()} == {"cuda"}


def test_every_node_runs_on_the_gpu(path: Path) -> None:
    [spec] = load(path)
    graph = with_arena(onnx.load(spec.onnx_path), spec)
    options = session_options(1)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    create_session(graph.model, choose_device("cuda"), options)  # refuses any node on the CPU

"""The arena on a GPU: the same numbers, and nothing of a step left to the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from server.engine.devices import choose_device, cuda_device_names
from server.engine.engine import Engine
from server.engine.graph import with_arena
from server.engine.session import create_session, session_options
from server.errors import StartupError
from server.repository.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.conftest import LstmModel, MakeModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not cuda_device_names(), reason="no CUDA device"),
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


def test_options_of_the_model_arrive_in_the_provider(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    more = """
        instance_group { kind: KIND_GPU gpus: [ 0 ] }
        optimization { execution_accelerators { gpu_execution_accelerator [ {
          name: "cuda"
          parameters { key: "use_tf32" value: "1" }
          parameters { key: "gpu_mem_limit" value: "1073741824" }
          parameters { key: "arena_extend_strategy" value: "kSameAsRequested" }
        } ] } }
        parameters { key: "cudnn_conv_algo_search" value { string_value: "1" } }
        parameters {
          key: "memory.enable_memory_arena_shrinkage" value { string_value: "gpu:0;cpu:0" }
        }
    """
    [spec] = load(make_model("lstm", lstm_config + more, lstm_model()))
    engine = Engine(spec, provider="auto", rows=20)
    options = engine._session.get_provider_options()["CUDAExecutionProvider"]
    expected = {
        "device_id": "0",
        "use_tf32": "1",
        "gpu_mem_limit": "1073741824",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    assert {key: options[key] for key in expected} == expected
    frames = np.ones((1, 2, 3), np.float32)
    assert engine.run({"frames": frames}, np.array([0]), np.array([1]))["y"].shape == (1, 2, 4)


def test_a_gpu_that_is_not_there(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    more = "instance_group { kind: KIND_GPU gpus: [ 99 ] }"
    [spec] = load(make_model("lstm", lstm_config + more, lstm_model()))
    with pytest.raises(StartupError, match=r"gpus: \[99\]; this machine has: 0 \("):
        Engine(spec, provider="auto", rows=20)


def test_there_is_one_instance_on_the_gpu(path: Path) -> None:
    assert Engine(load(path)[0], provider="cuda", rows=10, instances=3).instances == 1

from __future__ import annotations

import pytest

from server.engine.devices import (
    CPU,
    Device,
    choose_device,
    cuda_device_names,
    cuda_problem,
    gpu_of,
)
from server.errors import StartupError
from server.repository.spec import RunOptions

without_gpu = pytest.mark.skipif(bool(cuda_device_names()), reason="has a CUDA device")


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") is CPU
    assert str(CPU) == "cpu"
    assert CPU.providers == ["CPUExecutionProvider"]


@without_gpu
def test_auto_takes_the_cpu_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    assert choose_device("auto") is CPU
    assert capfd.readouterr() == ("", "")


@without_gpu
def test_cuda_without_a_device_is_one_clear_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StartupError) as caught:
        choose_device("cuda")
    assert str(caught.value) == (
        "provider 'cuda': no CUDA device found; expected a GPU, or provider 'cpu'"
    )
    assert capfd.readouterr() == ("", "")


@without_gpu
def test_a_trial_says_why_cuda_cannot_be_used_and_writes_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What a machine meets that has a GPU's driver but not the libraries."""
    problem = cuda_problem()
    assert problem is not None
    assert problem.startswith(("ONNX Runtime cannot", "this onnxruntime is built without CUDA"))
    assert "\n" not in problem
    assert capfd.readouterr() == ("", "")


def test_cuda_keeps_full_precision_and_leaves_the_rest_to_the_cpu() -> None:
    gpu = Device("cuda", 0, "NVIDIA X")
    assert str(gpu) == "cuda:0 NVIDIA X"
    (provider, options), rest = gpu.providers
    assert (provider, rest) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options == {"device_id": "0", "use_tf32": "0"}


def test_a_model_may_say_otherwise() -> None:
    gpu = Device("cuda", 2, "NVIDIA X", {"use_tf32": "1", "gpu_mem_limit": "1000"})
    expected = {"device_id": "2", "use_tf32": "1", "gpu_mem_limit": "1000"}
    assert gpu.providers[0] == ("CUDAExecutionProvider", expected)


def test_a_certain_gpu() -> None:
    names = ["NVIDIA X", "NVIDIA Y"]
    assert gpu_of(names, 1) == Device("cuda", 1, "NVIDIA Y")
    assert gpu_of([], 1) is None
    with pytest.raises(StartupError) as caught:
        gpu_of(names, 2)
    assert str(caught.value) == (
        "instance_group.gpus: [2]; this machine has: 0 (NVIDIA X), 1 (NVIDIA Y)"
    )


def test_a_model_for_the_cpu_runs_there_whatever_the_server_has() -> None:
    for provider in ("auto", "cuda", "cpu"):
        assert choose_device(provider, RunOptions(device="cpu")) is CPU

"""Where models run: the CPU, or CUDA where ONNX Runtime can really use it.

onnxruntime-gpu names the CUDA provider on every machine and, asked for it without a device, takes
the CPU with a complaint on stderr. So the driver is asked first, and a trial session decides.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import onnxruntime as ort
import structlog
from onnx import TensorProto, helper

from server.errors import StartupError
from server.repository.spec import NO_OPTIONS, RunOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
_NAME_BYTES = 256
_SEVERITY_WARNING, _SEVERITY_FATAL = 2, 4


@dataclass(frozen=True, slots=True)
class Device:
    """`kind` and `index` as OrtValue wants them; `str()` for display. `options` are of the CUDA
    provider, beside or instead of ours.
    """

    kind: Literal["cpu", "cuda"]
    index: int = 0
    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def providers(self) -> list[str | tuple[str, dict[str, str]]]:
        """Execution providers, the preferred one first."""
        if self.kind == "cpu":
            return [CPU_PROVIDER]
        # TF32 would round every product to 10 bits: states of a long session drift apart from
        # those that the CPU computes.
        options = {"device_id": str(self.index), "use_tf32": "0", **self.options}
        return [(CUDA_PROVIDER, options), CPU_PROVIDER]

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index} {self.name}".rstrip()


CPU = Device("cpu")


def choose_device(
    provider: Literal["auto", "cuda", "cpu"], wanted: RunOptions = NO_OPTIONS
) -> Device:
    """The device for `provider`, and for a model that wants one of its own: the CPU, where it says
    so, or a certain GPU. "auto" falls back to the CPU, "cuda" raises StartupError, and so do both
    where there are GPUs, but not the one that is wanted.
    """
    if provider == "cpu" or wanted.device == "cpu":
        return CPU
    names = cuda_device_names()
    gpu = gpu_of(names, wanted.gpu or 0)
    problem = "no CUDA device found" if gpu is None else cuda_problem(gpu.index)
    if problem is None and gpu is not None:
        return gpu
    if provider == "cuda":
        raise StartupError(f"provider 'cuda': {problem}; expected a GPU, or provider 'cpu'")
    if gpu is not None:
        structlog.get_logger().warning("the GPU stays unused", device=gpu.name, reason=problem)
    return CPU


def gpu_of(names: Sequence[str], index: int) -> Device | None:
    """The GPU number `index` of those with these names, None where there is none at all. Raises
    StartupError where there are others.
    """
    if names and index >= len(names):
        there = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
        raise StartupError(f"instance_group.gpus: [{index}]; this machine has: {there}")
    return Device("cuda", index, names[index]) if names else None


def cuda_device_names() -> list[str]:
    """The names of the devices that the CUDA driver has, none where there is no driver."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    return [_device_name(cuda, index) for index in range(count.value)]


def _device_name(cuda: Any, index: int) -> str:
    device, name = ctypes.c_int(0), ctypes.create_string_buffer(_NAME_BYTES)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, _NAME_BYTES, device)
    return name.value.decode(errors="replace")


def cuda_problem(index: int = 0) -> str | None:
    """Why ONNX Runtime cannot use the device of that number, None if it can."""
    if CUDA_PROVIDER not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA; install onnxruntime-gpu"
    said = io.StringIO()
    ort.set_default_logger_severity(_SEVERITY_FATAL)
    try:
        with contextlib.redirect_stdout(said):  # preload_dlls prints what it cannot find
            ort.preload_dlls()
        options = ort.SessionOptions()
        options.log_severity_level = _SEVERITY_FATAL
        trial = ort.InferenceSession(
            _identity(), options, Device("cuda", index).providers, enable_fallback=0
        )
    except Exception as error:  # whatever loading a driver's libraries may raise
        return f"ONNX Runtime cannot use it: {' '.join(str(error).split())}"
    finally:
        ort.set_default_logger_severity(_SEVERITY_WARNING)
    if CUDA_PROVIDER not in trial.get_providers():
        missing = " ".join(said.getvalue().split()) or "are CUDA and cuDNN installed?"
        return f"ONNX Runtime cannot load its CUDA provider: {missing}"
    return None


def _identity() -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "trial", [x], [y])
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())

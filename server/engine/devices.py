"""Where models run: the CPU, or CUDA where ONNX Runtime can really use it.

onnxruntime-gpu names the CUDA provider on every machine and, asked for it without a device, takes
the CPU with a complaint on stderr. So the driver is asked first, and a trial session decides.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
from dataclasses import dataclass
from typing import Any, Literal

import onnxruntime as ort
import structlog
from onnx import TensorProto, helper

from server.errors import StartupError

CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
_NAME_BYTES = 256
_SEVERITY_WARNING, _SEVERITY_FATAL = 2, 4


@dataclass(frozen=True, slots=True)
class Device:
    """`kind` and `index` as OrtValue wants them; `str()` for display."""

    kind: Literal["cpu", "cuda"]
    index: int = 0
    name: str = ""

    @property
    def providers(self) -> list[str | tuple[str, dict[str, str]]]:
        """Execution providers, the preferred one first."""
        if self.kind == "cpu":
            return [CPU_PROVIDER]
        # TF32 would round every product to 10 bits: states of a long session drift apart from
        # those that the CPU computes.
        options = {"device_id": str(self.index), "use_tf32": "0"}
        return [(CUDA_PROVIDER, options), CPU_PROVIDER]

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index} {self.name}".rstrip()


CPU = Device("cpu")


def choose_device(provider: Literal["auto", "cuda", "cpu"]) -> Device:
    """The device for `provider`; "auto" falls back to the CPU, "cuda" raises StartupError."""
    if provider == "cpu":
        return CPU
    name = cuda_device_name()
    problem = "no CUDA device found" if name is None else cuda_problem()
    if problem is None:
        return Device("cuda", 0, name or "")
    if provider == "cuda":
        raise StartupError(f"provider 'cuda': {problem}; expected a GPU, or provider 'cpu'")
    if name is not None:
        structlog.get_logger().warning("the GPU stays unused", device=name, reason=problem)
    return CPU


def cuda_device_name() -> str | None:
    """The name of device 0 from the CUDA driver, None where there is no driver or device."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    count, device = ctypes.c_int(0), ctypes.c_int(0)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    calls: tuple[tuple[Any, ...], ...] = (
        (cuda.cuInit, 0),
        (cuda.cuDeviceGetCount, ctypes.byref(count)),
        (cuda.cuDeviceGet, ctypes.byref(device), 0),
        (cuda.cuDeviceGetName, name, _NAME_BYTES, device),
    )
    if any(function(*arguments) != 0 for function, *arguments in calls) or count.value == 0:
        return None
    return name.value.decode(errors="replace")


def cuda_problem() -> str | None:
    """Why ONNX Runtime cannot use the device, None if it can."""
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
            _identity(), options, Device("cuda").providers, enable_fallback=0
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

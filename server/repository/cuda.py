"""Options of ONNX Runtime's CUDA provider: as an accelerator's parameters, or as parameters of the
model, which is the older way to write four of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.repository.problem import Problem, there_is
from server.repository.scalars import count, digits, flag, one_of, one_or_zero

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.stubs.inference.model_config_pb2 import ModelConfig

_ACCELERATORS = "optimization.execution_accelerators"
_NOT_HERE = {
    "tensorrt": "take it out, and CUDA runs the model",
    "openvino": "take it out, and ONNX Runtime's own CPU kernels run the model",
}


def _copies(text: str, label: str) -> str:
    if not flag(text, label):
        raise Problem(
            f"{label}: {text!r}; expected 1: copies on a stream of their own race with the model"
        )
    return "1"


_OPTIONS: dict[str, Callable[[str, str], str]] = {
    "arena_extend_strategy": one_of("kNextPowerOfTwo", "kSameAsRequested"),
    "cudnn_conv1d_pad_to_nc1d": one_or_zero,
    "cudnn_conv_algo_search": one_of("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "cudnn_conv_use_max_workspace": one_or_zero,
    "do_copy_in_default_stream": _copies,
    "enable_skip_layer_norm_strict_mode": one_or_zero,
    "fuse_conv_bias": one_or_zero,
    "gpu_mem_limit": digits,
    "prefer_nhwc": one_or_zero,
    "sdpa_kernel": digits,
    "tunable_op_enable": one_or_zero,
    "tunable_op_max_tuning_duration_ms": digits,
    "tunable_op_tuning_enable": one_or_zero,
    "use_ep_level_unified_stream": one_or_zero,
    "use_tf32": one_or_zero,
}
_ADDRESS = "it is an address within another program"
_REFUSED = {
    "device_id": "the device stands in instance_group.gpus",
    "enable_cuda_graph": "every step has memory of its own, which a captured graph would not read",
    "has_user_compute_stream": _ADDRESS,
    "user_compute_stream": _ADDRESS,
    "gpu_external_alloc": _ADDRESS,
    "gpu_external_free": _ADDRESS,
    "gpu_external_empty_cache": _ADDRESS,
}
# The older way: numbers for what has a name.
_NUMBERED = {
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
}
PARAMETERS = (*_NUMBERED, "do_copy_in_default_stream", "gpu_mem_limit")


def cuda_options(config: ModelConfig) -> dict[str, str]:
    """By ONNX Runtime's names. Raises Problem, at other accelerators too."""
    accelerators = config.optimization.execution_accelerators
    for accelerator in accelerators.cpu_execution_accelerator:
        _refuse(f"{_ACCELERATORS}.cpu_execution_accelerator", accelerator.name, "none")
    options: dict[str, str] = {}
    for accelerator in accelerators.gpu_execution_accelerator:
        label = f"{_ACCELERATORS}.gpu_execution_accelerator"
        if accelerator.name != "cuda":
            _refuse(label, accelerator.name, "'cuda'")
        for key, text in sorted(accelerator.parameters.items()):
            options[key] = _option(key, text, f"{label}: {key}")
    for key in PARAMETERS:
        if key not in config.parameters:
            continue
        label = f"parameters: {key}"
        if key in options:
            raise Problem(f"{label}: stands in {_ACCELERATORS}, too; expected it once")
        text = config.parameters[key].string_value
        if key in _NUMBERED:
            names = _NUMBERED[key]
            text = names[count(text, label, most=len(names) - 1)]
        options[key] = _option(key, text, label)
    return options


def _refuse(label: str, name: str, expected: str) -> None:
    hint = _NOT_HERE.get(name)
    because = f"expected {expected}" if hint is None else f"not supported by this server; {hint}"
    raise Problem(f"{label}: name {name!r}: {because}")


def _option(key: str, text: str, label: str) -> str:
    if key in _REFUSED:
        raise Problem(f"{label}: not supported by this server: {_REFUSED[key]}; take it out")
    if key not in _OPTIONS:
        raise Problem(f"{label}: not known; there is: {there_is(_OPTIONS, key)}")
    return _OPTIONS[key](text, label)

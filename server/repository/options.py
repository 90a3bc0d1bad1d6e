"""How the model is to be run: `optimization`, and the parameters that NVIDIA Triton's backend for
ONNX Runtime reads (github.com/triton-inference-server/onnxruntime_backend), with their meaning
there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from server.repository import cuda
from server.repository.instance_groups import device_of
from server.repository.problem import Problem, there_is
from server.repository.scalars import count, digits, flag, one_or_zero
from server.repository.spec import RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.stubs.inference.model_config_pb2 import ModelConfig

_Level = Literal["all", "extended", "basic", "none"]
_LEVELS: dict[int, _Level] = {0: "all", 1: "extended", -1: "basic", 2: "none"}
_MODES = {"0": False, "1": True}  # execution_mode → parallel
_MOST_THREADS = 4096
_SHRINK = "memory.enable_memory_arena_shrinkage"
_SHRUNK = re.compile(r"cpu:0|gpu:[0-9]+")

# Of ONNX Runtime's entries those that a model may need and that let the server keep its promises.
_SESSION: dict[str, Callable[[str, str], str]] = {
    "session.disable_aot_function_inlining": one_or_zero,
    "session.disable_double_qdq_remover": one_or_zero,
    "session.disable_prepacking": one_or_zero,
    "session.disable_quant_qdq": one_or_zero,
    "session.dynamic_block_base": digits,
    "session.enable_quant_qdq_cleanup": one_or_zero,
    "session.force_spinning_stop": one_or_zero,
    "session.inter_op.allow_spinning": one_or_zero,
    "session.intra_op.allow_spinning": one_or_zero,
    "session.qdqisint8allowed": one_or_zero,
    "session.use_device_allocator_for_initializers": one_or_zero,
    "session.x64quantprecision": one_or_zero,
}
_PREFIX = "session."
PARAMETERS = (
    "enable_mem_arena",
    "enable_mem_pattern",
    "execution_mode",
    "inter_op_thread_count",
    "intra_op_thread_count",
    "share_session_between_instances",
    _SHRINK,
    *cuda.PARAMETERS,
)


def is_read(key: str) -> bool:
    """Whether a parameter of that name is taken up here, or refused."""
    return key in PARAMETERS or key.startswith(_PREFIX)


def run_options(config: ModelConfig) -> RunOptions:
    """Raises Problem, which names the key."""
    level = config.optimization.graph.level
    if level not in _LEVELS:
        raise Problem(
            f"optimization.graph.level: {level}; expected 0 (all optimizations), 1 (extended),"
            " -1 (basic) or 2 (none)"
        )
    device, gpu = device_of(config)
    texts = {key: parameter.string_value for key, parameter in config.parameters.items()}
    if "share_session_between_instances" in texts:  # nothing else than that can be had
        flag(
            texts["share_session_between_instances"], "parameters: share_session_between_instances"
        )
    arena = _flag(texts, "enable_mem_arena", otherwise=True)
    return RunOptions(
        graph_level=_LEVELS[level],
        parallel=_parallel(texts),
        intra_op_threads=_threads(texts, "intra_op_thread_count"),
        inter_op_threads=_threads(texts, "inter_op_thread_count"),
        memory_arena=arena,
        memory_pattern=_flag(texts, "enable_mem_pattern", otherwise=False),
        shrinks=_shrinks(texts, has_arena=arena),
        session=_session(texts),
        cuda=cuda.cuda_options(config),
        device=device,
        gpu=gpu,
    )


def _flag(texts: dict[str, str], key: str, *, otherwise: bool) -> bool:
    return flag(texts[key], f"parameters: {key}") if key in texts else otherwise


def _threads(texts: dict[str, str], key: str) -> int | None:
    return count(texts[key], f"parameters: {key}", _MOST_THREADS) if key in texts else None


def _parallel(texts: dict[str, str]) -> bool:
    text = texts.get("execution_mode", "0")
    if text not in _MODES:
        raise Problem(
            f"parameters: execution_mode: {text!r}; expected 0 (sequential) or 1 (parallel)"
        )
    return _MODES[text]


def _shrinks(texts: dict[str, str], *, has_arena: bool) -> tuple[Literal["cpu", "gpu"], ...]:
    if _SHRINK not in texts:
        return ()
    text, label = texts[_SHRINK], f"parameters: {_SHRINK}"
    entries = text.split(";")
    if not all(_SHRUNK.fullmatch(entry) for entry in entries):
        raise Problem(f"{label}: {text!r}; expected devices such as 'cpu:0' or 'cpu:0;gpu:0'")
    kinds = {entry[:3] for entry in entries}
    if "cpu" in kinds and not has_arena:
        raise Problem(f"{label}: {text!r}; with enable_mem_arena: 0 there is none on the CPU")
    return tuple(kind for kind in ("cpu", "gpu") if kind in kinds)


def _session(texts: dict[str, str]) -> dict[str, str]:
    entries = {}
    for key, text in sorted(texts.items()):
        if not key.startswith(_PREFIX):
            continue
        label = f"parameters: {key}"
        if key not in _SESSION:
            raise Problem(f"{label}: not supported; there is: {there_is(_SESSION, key)}")
        entries[key] = _SESSION[key](text, label)
    return entries

"""ONNX Runtime sessions: one place for their options and for the text of their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from server.errors import StartupError
from server.repository.spec import NO_OPTIONS, RunOptions

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from server.engine.devices import Device

# ONNX Runtime's exceptions have no common base; binding raises the built-in ones.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(
        kind
        for kind in vars(state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
)
_LOG_FATAL = 4
# It crashes the process on some float16 models (github.com/microsoft/onnxruntime/issues/32405).
_CRASHES = ["FuseFp16InitializerToFp32NodeTransformer"]
_TEXT_LIMIT = 400
_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_MODES = {False: ort.ExecutionMode.ORT_SEQUENTIAL, True: ort.ExecutionMode.ORT_PARALLEL}
_ENTRIES = {
    # Threads that spin between steps take the cores from those who decode requests.
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
}


def session_options(intra_op_threads: int, wanted: RunOptions = NO_OPTIONS) -> ort.SessionOptions:
    """Options for runs of microseconds, one at a time, unless the model `wanted` others. 0 threads:
    ONNX Runtime's choice.
    """
    own = wanted.intra_op_threads
    between = wanted.inter_op_threads
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[wanted.graph_level]
    options.intra_op_num_threads = intra_op_threads if own is None else own
    options.inter_op_num_threads = int(not wanted.parallel) if between is None else between
    options.execution_mode = _MODES[wanted.parallel]
    options.enable_cpu_mem_arena = wanted.memory_arena
    # A plan of memory for every combination of batch size and timesteps would pile up, and did not
    # make steps faster.
    options.enable_mem_pattern = wanted.memory_pattern
    for key, value in {**_ENTRIES, **wanted.session}.items():
        options.add_session_config_entry(key, value)
    # Every error is raised too; logged, each bad request would write to stderr.
    options.log_severity_level = _LOG_FATAL
    return options


def run_options(wanted: RunOptions, device: Device) -> ort.RunOptions | None:
    """Options of every run, None where the model `wanted` nothing special. ONNX Runtime fails runs
    that name another device than those of the session.
    """
    names = {"cpu": "cpu:0", "gpu": f"gpu:{device.index}"}
    used = ("cpu",) if device.kind == "cpu" else ("cpu", "gpu")
    shrinks = [names[kind] for kind in wanted.shrinks if kind in used]
    if not shrinks:
        return None
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", ";".join(shrinks))
    return options


def create_session(
    model: onnx.ModelProto,
    device: Device,
    options: ort.SessionOptions,
    external_data: Path | None = None,
) -> ort.InferenceSession:
    """A session on `device`. `external_data` is the directory that the model's file came from.

    Raises StartupError if the model cannot be run there.
    """
    if external_data is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(external_data)
        )
    try:
        session = ort.InferenceSession(
            model.SerializeToString(),
            options,
            device.providers,
            enable_fallback=0,
            disabled_optimizers=_CRASHES,
        )
    except ORT_ERRORS as error:
        raise StartupError(f"ONNX Runtime cannot load the model: {readable(error)}") from None
    expected = device.providers[0]
    name = expected if isinstance(expected, str) else expected[0]
    if name not in session.get_providers():
        raise StartupError(f"ONNX Runtime did not give the model its {name}")
    return session


def readable(error: Exception) -> str:
    """One line without ONNX Runtime's own codes in front."""
    text = " ".join(str(error).split()).removeprefix("Error in execution: ")
    if text.startswith("[ONNXRuntimeError]"):  # "[ONNXRuntimeError] : 1 : FAIL : what happened"
        text = text.split(" : ", 3)[-1]
    return text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + " …"

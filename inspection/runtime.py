"""Plain ONNX Runtime, as a user would run a file: what models are tried and proven with."""

from __future__ import annotations

import onnxruntime as ort

_SEVERITY_FATAL = 4
# It crashes the process on some float16 models (github.com/microsoft/onnxruntime/issues/32405);
# the server leaves it out, too.
_LEFT_OUT = ["FuseFp16InitializerToFp32NodeTransformer"]


def plain_session(model: str | bytes) -> ort.InferenceSession:
    """The model, a path or its bytes, on the CPU in one thread. Raises what ONNX Runtime raises."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _SEVERITY_FATAL  # every error is raised, too
    return ort.InferenceSession(
        model, options, ["CPUExecutionProvider"], disabled_optimizers=_LEFT_OUT
    )

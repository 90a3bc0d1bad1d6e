"""The version of the standard operators that a model uses: new enough for the nodes of surgery."""

from __future__ import annotations

import onnx
from onnx import helper, shape_inference, version_converter

from server.errors import StartupError

WITH_SCATTER = 11  # the first with ScatterND as it still is
WITH_EXPAND = 8
WITH_RESHAPE = 5  # that takes the shape as an input
_DEFAULT_DOMAINS = ("", "ai.onnx")
_NEW_OPSET = 18
# onnx's exceptions have no common base
_ERRORS = (RuntimeError, ValueError, version_converter.ConvertError, shape_inference.InferenceError)


def with_opset(model: onnx.ModelProto, oldest: int) -> onnx.ModelProto:
    """The model, converted where it is older than the `oldest` that surgery can do with. Raises
    StartupError where that cannot be done.
    """
    version = _opset(model)
    if version is None:  # a model of custom operators or of functions alone
        versions = [_opset(function) for function in model.functions]
        model.opset_import.append(
            helper.make_opsetid("", max([v for v in versions if v], default=_NEW_OPSET))
        )
    elif version < oldest:
        return _converted(model, version, oldest)
    return model


def _opset(imports: onnx.ModelProto | onnx.FunctionProto) -> int | None:
    versions = [entry.version for entry in imports.opset_import if entry.domain in _DEFAULT_DOMAINS]
    return min(versions, default=None)


def _converted(model: onnx.ModelProto, version: int, oldest: int) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, oldest)
    except _ERRORS as error:
        reason = " ".join(str(error).split())
        raise StartupError(
            f"opset {version}; expected {oldest} or newer, and onnx cannot convert it"
            f" ({reason}); export the model anew with a newer opset"
        ) from None

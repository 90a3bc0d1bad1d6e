"""Smaller numbers: float16 graphs, and int8 weights, by ONNX Runtime's own tools.

float16: weights, states and everything between are half precision; what a request carries and is
answered stays float32, so that no client changes. int8: the weights of products are bytes with a
scale, and activations are quantised as they come (dynamic quantisation).
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from export.signature import Signature


class Precision(Enum):
    """What the graph computes with."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"

    @property
    def limit(self) -> float | None:
        """Of the relative error of floating-point numbers against torch in float32: more than so
        much is no rounding any more. None for the usual limit.
        """
        return {Precision.FLOAT32: None, Precision.FLOAT16: 0.05, Precision.INT8: 0.5}[self]


def precision_of(dtype: str, quantize: bool) -> Precision:
    """Raises ExportError for a dtype that there is not, or both at once."""
    if dtype not in ("float32", "float16"):
        raise ExportError(f"dtype {dtype!r}: expected float32 or float16")
    if quantize and dtype == "float16":
        raise ExportError("either float16 or int8: dynamic quantisation starts from float32")
    return Precision.INT8 if quantize else Precision(dtype)


def converted(
    model: onnx.ModelProto, signature: Signature, precision: Precision
) -> tuple[onnx.ModelProto, Signature]:
    """The model in that precision, and its signature, whose states may have another dtype."""
    if precision is Precision.FLOAT16:
        return _halved(model, signature)
    if precision is Precision.INT8:
        return _quantised(model), signature
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy, signature


def _halved(model: onnx.ModelProto, signature: Signature) -> tuple[onnx.ModelProto, Signature]:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    kept = [tensor.name for tensor in (*signature.inputs, *signature.outputs)]
    copy = onnx.ModelProto()  # the tool changes what it is given
    copy.CopyFrom(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights so small that they become the smallest
        half = convert_float_to_float16(copy, keep_io_types=kept)
    states = tuple(
        replace(state, dtype="float16") if state.dtype == "float32" else state
        for state in signature.states
    )
    return half, replace(signature, states=states)


def _quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "model.onnx"
        quantize_dynamic(
            model,
            path,
            weight_type=QuantType.QInt8,
            extra_options={"EnableSubgraph": True},
        )
        return onnx.load(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """The tool advises a preparation that does nothing for graphs as ours, which are clean."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)

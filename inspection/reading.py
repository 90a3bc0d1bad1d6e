"""An ONNX file from outside: its inputs and outputs by name, and sessions that run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
from google.protobuf.message import DecodeError
from onnx import helper, shape_inference
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from inspection.errors import Refused
from inspection.runtime import plain_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy as np
    import onnxruntime as ort

Dim = int | str | None  # a size, a symbol, or any size
_TEXT_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of the graph. `dims` is None where the graph does not tell the rank.

    `dtype` is None for what is no tensor of numbers: strings, sequences, bfloat16.
    """

    name: str
    elem_type: int
    dtype: np.dtype[Any] | None
    dims: tuple[Dim, ...] | None

    @property
    def rank(self) -> int | None:
        return None if self.dims is None else len(self.dims)

    def __str__(self) -> str:
        if not self.elem_type:
            return "no tensor"
        kind = onnx.TensorProto.DataType.Name(self.elem_type).lower()
        if self.dims is None:
            return f"{kind} of any shape"
        return f"{kind}[{', '.join('?' if d is None else str(d) for d in self.dims)}]"


@dataclass(frozen=True, slots=True)
class Model:
    """A model as read, without its external data, which lies beside `path`."""

    path: Path
    proto: onnx.ModelProto
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    external_files: tuple[str, ...]

    @property
    def opset(self) -> int:
        """Of ONNX's own ops."""
        versions = [o.version for o in self.proto.opset_import if o.domain in ("", "ai.onnx")]
        return max(versions, default=0)


def read(path: Path) -> Model:
    """Read and check a file. Raises Refused, which names the file."""
    proto = _parse(path)
    constants = {tensor.name for tensor in proto.graph.initializer}
    external = sorted(set(_external_files(proto.graph)))
    for location in external:
        if not (path.parent / location).is_file():
            raise Refused(
                f"{path}: its weights are to be in {location}, which is not beside it; copy that"
                " file there"
            )
    return Model(
        path=path,
        proto=proto,
        inputs=tuple(_value(v) for v in proto.graph.input if v.name not in constants),
        outputs=tuple(_value(v) for v in inferred(proto).graph.output),
        external_files=tuple(external),
    )


def session(model: Model) -> ort.InferenceSession:
    """Plain ONNX Runtime on the CPU, one thread. Raises Refused if it cannot run the model."""
    try:
        return plain_session(str(model.path))
    except Exception as error:  # its exceptions have no base of their own
        raise Refused(f"{model.path}: ONNX Runtime cannot load it: {one_line(error)}") from None


def inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With the types and shapes that ONNX can tell of values, or as it is where it cannot."""
    try:
        return shape_inference.infer_shapes(proto)
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        return proto


def one_line(error: Exception) -> str:
    """What ONNX Runtime says, without its own codes in front."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):  # "[ONNXRuntimeError] : 1 : FAIL : what happened"
        text = text.split(" : ", 3)[-1]
    text = text.rpartition("Status Message: ")[2]  # nodes around the one that failed
    text = text.rpartition(" was false. ")[2]  # the place in its source, and the condition
    return text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + " …"


def _parse(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    except DecodeError:
        raise Refused(f"{path}: not an ONNX model") from None
    if not proto.graph.output or not proto.opset_import:
        raise Refused(f"{path}: not an ONNX model, or one without outputs")
    return proto


def _value(value: onnx.ValueInfoProto) -> Value:
    tensor = value.type.tensor_type
    dims = tuple(map(_dim, tensor.shape.dim)) if tensor.HasField("shape") else None
    return Value(value.name, tensor.elem_type, _dtype(tensor.elem_type), dims)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.dim_param:
        return dim.dim_param
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def _dtype(elem_type: int) -> np.dtype[Any] | None:
    try:
        dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    except KeyError:
        return None
    return dtype if dtype.isbuiltin and dtype.kind in "biuf" else None


def _external_files(graph: onnx.GraphProto) -> Iterator[str]:
    for tensor in _stored_tensors(graph):
        if uses_external_data(tensor):
            yield ExternalDataInfo(tensor).location


def _stored_tensors(graph: onnx.GraphProto) -> Iterable[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _stored_tensors(inner)

"""What an ONNX file says of itself: its inputs, outputs, metadata, and the digest of its bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper, shape_inference
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from server.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """An input or output of a graph.

    `shape` counts every axis; -1: any size, None: unknown. `elem_type` is 0 for what is no tensor:
    a sequence, a map. An `optional` input has a value in the file for when it is not fed.
    """

    name: str
    elem_type: int
    shape: tuple[int, ...] | None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The outside of a model. `sha256` covers the file and its external data; `stored` are values
    of optional inputs.
    """

    path: Path
    inputs: dict[str, GraphTensor]
    outputs: dict[str, GraphTensor]
    metadata: dict[str, str]
    sha256: bytes
    stored: dict[str, onnx.TensorProto]

    @property
    def required(self) -> list[str]:
        """The inputs that somebody has to feed."""
        return [tensor.name for tensor in self.inputs.values() if not tensor.optional]

    def value(self, name: str) -> NDArray[Any] | None:
        """What the file holds for an input, None if nothing (or only as a sparse tensor)."""
        tensor = self.stored.get(name)
        if tensor is None:
            return None
        return np.asarray(numpy_helper.to_array(tensor, str(self.path.parent)))


def read_onnx(path: Path) -> OnnxFile:
    """Reads the model without its external data. Raises StartupError, which names the file."""
    try:
        data = path.read_bytes()
        model = onnx.ModelProto.FromString(data)
    except OSError as error:
        raise StartupError(f"{path}: cannot be read: {error.strerror}") from None
    except DecodeError:
        raise StartupError(f"{path}: not an ONNX model") from None
    if not model.graph.output:
        raise StartupError(f"{path}: not an ONNX model, or one without outputs")
    stored = {tensor.name for tensor in model.graph.initializer}
    stored |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    inputs = {value.name for value in model.graph.input}
    return OnnxFile(
        path=path,
        inputs=_tensors(model.graph.input, stored),
        outputs=_tensors(_typed_outputs(model)),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        sha256=_digest(path, data, model),
        stored={tensor.name: tensor for tensor in model.graph.initializer if tensor.name in inputs},
    )


def _typed_outputs(model: onnx.ModelProto) -> Sequence[onnx.ValueInfoProto]:
    """The outputs, their types inferred where the file leaves them out."""
    declared = list(model.graph.output)
    if all(value.type.WhichOneof("value") for value in declared):
        return declared
    try:
        return list(shape_inference.infer_shapes(model).graph.output)
    except (shape_inference.InferenceError, RuntimeError):  # ONNX Runtime will say what is wrong
        return declared


def _tensors(
    values: Iterable[onnx.ValueInfoProto], stored: Collection[str] = ()
) -> dict[str, GraphTensor]:
    return {value.name: _tensor(value, value.name in stored) for value in values}


def _tensor(value: onnx.ValueInfoProto, optional: bool) -> GraphTensor:
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(_size(dim) for dim in tensor.shape.dim)
    return GraphTensor(value.name, tensor.elem_type, shape, optional)


def _size(dim: onnx.TensorShapeProto.Dimension) -> int:
    return max(dim.dim_value, -1) if dim.HasField("dim_value") else -1


def _digest(path: Path, data: bytes, model: onnx.ModelProto) -> bytes:
    digest = hashlib.sha256(data)
    for location in sorted(set(_external_files(model.graph))):
        try:
            with (path.parent / location).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except OSError as error:
            raise StartupError(f"{path}: external data {location}: {error.strerror}") from None
    return digest.digest()


def _external_files(graph: onnx.GraphProto) -> Iterator[str]:
    for tensor in _stored_tensors(graph):
        if uses_external_data(tensor):
            yield ExternalDataInfo(tensor).location


def _stored_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Constants of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _stored_tensors(inner)

"""The one table of element types: wire name, numpy, ONNX, model configuration.

BYTES (strings) and BF16 exist in the protocols but not here: the first is no tensor of numbers,
the second is none of numpy's types. Looking them up says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from server.stubs.inference import model_config_pb2 as config_pb2


@dataclass(frozen=True, slots=True)
class Datatype:
    """One element type under its four names."""

    name: str  # Open Inference Protocol, "FP32"
    dtype: np.dtype[Any]
    onnx: int  # TensorProto.DataType
    config: int  # DataType of the model configuration

    @property
    def config_name(self) -> str:
        """As written in config.pbtxt, "TYPE_FP32"."""
        return config_pb2.DataType.Name(self.config)  # type: ignore[arg-type]


class UnsupportedDatatype(Exception):
    """The text names the type and fits behind "…: "."""


def _row(name: str, dtype: Any, onnx: int) -> Datatype:
    return Datatype(name, np.dtype(dtype), onnx, config_pb2.DataType.Value(f"TYPE_{name}"))


DATATYPES = (
    _row("BOOL", np.bool_, TensorProto.BOOL),
    _row("UINT8", np.uint8, TensorProto.UINT8),
    _row("UINT16", np.uint16, TensorProto.UINT16),
    _row("UINT32", np.uint32, TensorProto.UINT32),
    _row("UINT64", np.uint64, TensorProto.UINT64),
    _row("INT8", np.int8, TensorProto.INT8),
    _row("INT16", np.int16, TensorProto.INT16),
    _row("INT32", np.int32, TensorProto.INT32),
    _row("INT64", np.int64, TensorProto.INT64),
    _row("FP16", np.float16, TensorProto.FLOAT16),
    _row("FP32", np.float32, TensorProto.FLOAT),
    _row("FP64", np.float64, TensorProto.DOUBLE),
)
BY_NAME = {row.name: row for row in DATATYPES}
_BY_ONNX = {row.onnx: row for row in DATATYPES}
_BY_CONFIG = {row.config: row for row in DATATYPES}


def of_onnx(elem_type: int) -> Datatype:
    """The datatype of an ONNX tensor's `elem_type`; UnsupportedDatatype if there is none."""
    if elem_type not in _BY_ONNX:
        raise UnsupportedDatatype(f"type {_name(TensorProto.DataType, elem_type)} is not supported")
    return _BY_ONNX[elem_type]


def of_config(data_type: int) -> Datatype:
    """The datatype of a configuration's `data_type`; UnsupportedDatatype if there is none."""
    if data_type == config_pb2.TYPE_INVALID:
        raise UnsupportedDatatype("data_type missing")
    if data_type not in _BY_CONFIG:
        raise UnsupportedDatatype(
            f"data_type {_name(config_pb2.DataType, data_type)} is not supported"
        )
    return _BY_CONFIG[data_type]


def _name(enum: Any, number: int) -> str:
    return str(enum.Name(number) if number in enum.values() else number)

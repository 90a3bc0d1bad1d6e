"""`sequence_batching.control_input[]`: inputs that tell the model where in its sequence it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from server import datatypes
from server.repository.problem import Problem
from server.repository.spec import ControlSpec, TensorSpec
from server.repository.tensors import datatype_of, find
from server.stubs.inference import model_config_pb2 as pb

if TYPE_CHECKING:
    from server.datatypes import Datatype
    from server.repository.onnx_file import GraphTensor, OnnxFile
    from server.stubs.inference.model_config_pb2 import ModelConfig, ModelSequenceBatching

_Signal = Literal["start", "end", "ready", "id"]
_SIGNALS: dict[int, _Signal] = {
    pb.ModelSequenceBatching.Control.CONTROL_SEQUENCE_START: "start",
    pb.ModelSequenceBatching.Control.CONTROL_SEQUENCE_END: "end",
    pb.ModelSequenceBatching.Control.CONTROL_SEQUENCE_READY: "ready",
    pb.ModelSequenceBatching.Control.CONTROL_SEQUENCE_CORRID: "id",
}
_FLAGS = {"int32_false_true": "INT32", "fp32_false_true": "FP32", "bool_false_true": "BOOL"}
_IDS = ("UINT64", "INT64", "UINT32", "INT32")


def control_specs(config: ModelConfig, model: OnnxFile) -> tuple[ControlSpec, ...]:
    """The control inputs in the configuration's order. Raises Problem."""
    specs: list[ControlSpec] = []
    for entry in config.sequence_batching.control_input:
        label = f"control_input {entry.name!r}"
        if len(entry.control) != 1:
            raise Problem(f"{label}: {len(entry.control)} control; expected one")
        spec = _control(entry.name, entry.control[0], label, model, config.max_batch_size)
        for other in specs:
            if other.tensor.name == entry.name:
                raise Problem(f"{label}: stands there twice")
            if other.signal == spec.signal:
                kind = pb.ModelSequenceBatching.Control.Kind.Name(entry.control[0].kind)
                raise Problem(f"{label}: {kind} goes to {other.tensor.name!r} already")
        specs.append(spec)
    return tuple(specs)


def _control(
    name: str,
    control: ModelSequenceBatching.Control,
    label: str,
    model: OnnxFile,
    max_batch_size: int,
) -> ControlSpec:
    signal = _SIGNALS.get(control.kind)
    if signal is None:
        raise Problem(f"{label}: kind {control.kind} is not known")
    tensor = find(model.inputs, name, label)
    values: list[float] = []
    if signal == "id":
        datatype = _id_type(control, label)
    else:
        datatype, values = _flag_values(control, label)
    found = datatype_of(tensor, label)
    if datatype != found:
        raise Problem(f"{label}: {datatype.config_name}; the model has {found.config_name}")
    shape = _shape(tensor, label, max_batch_size)
    spec = TensorSpec(name, datatype.name, datatype.dtype, shape)
    return ControlSpec(spec, signal, *values)


def _flag_values(
    control: ModelSequenceBatching.Control, label: str
) -> tuple[Datatype, list[float]]:
    """The type of a flag, and its two values."""
    given = {field: list(getattr(control, field)) for field in _FLAGS if getattr(control, field)}
    if len(given) != 1:
        raise Problem(f"{label}: {', '.join(given) or 'none'}; expected one of {', '.join(_FLAGS)}")
    [(field, values)] = given.items()
    if len(values) != 2:
        raise Problem(f"{label}: {field} {values}; expected two values, false and true")
    datatype = datatypes.BY_NAME[_FLAGS[field]]
    if control.data_type not in (0, datatype.config):
        said = _type_name(control)
        raise Problem(f"{label}: {field} with data_type {said}; expected {datatype.config_name}")
    return datatype, values


def _id_type(control: ModelSequenceBatching.Control, label: str) -> Datatype:
    for field in _FLAGS:
        if getattr(control, field):
            raise Problem(f"{label}: {field}; expected data_type alone, for an id")
    names = [f"TYPE_{name}" for name in _IDS]
    given = _type_name(control)
    if given not in names:
        raise Problem(f"{label}: data_type {given}; expected one of {', '.join(names)}")
    return datatypes.of_config(control.data_type)


def _type_name(control: ModelSequenceBatching.Control) -> str:
    number = control.data_type
    return str(pb.DataType.Name(number) if number in pb.DataType.values() else number)


def _shape(tensor: GraphTensor, label: str, max_batch_size: int) -> tuple[int, ...]:
    """One element for each row; a batch axis comes first."""
    batch: tuple[int, ...] = (-1,) if max_batch_size else ()
    if tensor.shape is None:
        return (*batch, 1)
    axes = tensor.shape[len(batch) :]
    rows = tensor.shape[: len(batch)]
    good_rows = rows == batch or (rows == (1,) and max_batch_size == 1)
    if not good_rows or any(size not in (1, -1) for size in axes):
        expected = (
            "[-1, 1] or [-1], of which axis 0 is the batch" if max_batch_size else "[1] or []"
        )
        raise Problem(f"{label}: the model has {list(tensor.shape)}; expected {expected}")
    return (*batch, *(1 for _ in axes))

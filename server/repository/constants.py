"""Inputs that no request carries: the same for every request, or given once for each session.

`rnnserve.constant.<input>` is a number, a list, a .npy file in `constants/` beside the versions, or
the word "session". A number fills the input; a list or file has the input's shape, or that of one
row where the first axis is the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from server.repository.parameters import CONSTANT
from server.repository.problem import Problem
from server.repository.spec import FixedInput, StateSpec
from server.repository.tensors import Declared, agree, check_type, datatype_of, find, resolve
from server.repository.values import parse_value

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from server.repository.onnx_file import GraphTensor, OnnxFile
    from server.repository.parameters import Parameters
    from server.repository.tensors import Shape
    from server.stubs.inference.model_config_pb2 import ModelConfig, ModelInput

CONSTANTS = "constants"  # directory beside the versions
SESSION = "session"


def take_constants(
    config: ModelConfig, parameters: Parameters, model: OnnxFile, model_dir: Path
) -> tuple[tuple[FixedInput, ...], tuple[StateSpec, ...]]:
    """Those of all requests, and those of a session. `config.input` is afterwards without them.

    Raises Problem.
    """
    declared = {entry.name: entry for entry in config.input if entry.name in parameters.constants}
    others = [entry for entry in config.input if entry.name not in declared]
    del config.input[:]
    config.input.extend(others)
    fixed, kept = [], []
    for name, text in parameters.constants.items():
        label = f"parameters: {CONSTANT}{name}"
        tensor = find(model.inputs, name, label)
        entry = declared.get(name)
        if entry is not None:
            _check_entry(entry)
        if text == SESSION:
            kept.append(_kept(entry, tensor, label, config.max_batch_size))
        else:
            fixed.append(_fixed(entry, tensor, label, text, config, model_dir))
    return tuple(fixed), tuple(kept)


def _check_entry(entry: ModelInput) -> None:
    """Nothing is said of requests. Raises Problem."""
    for field, _ in entry.ListFields():
        if field.name in ("optional", "reshape"):
            raise Problem(
                f"input {entry.name!r}: {field.name}; expected none beside a parameter"
                f" {CONSTANT}{entry.name}: no request carries it"
            )


def _kept(
    entry: ModelInput | None, tensor: GraphTensor, label: str, max_batch_size: int
) -> StateSpec:
    """A constant of a session: a state that nothing writes."""
    batch_axis = 0 if max_batch_size else None
    if entry is None and (tensor.shape is None or (max_batch_size and not tensor.shape)):
        raise Problem(
            f"{label}: the model does not tell its shape, or has no batch axis for it; expected"
            f" an input {tensor.name!r} with its dims"
        )
    declared = Declared(
        label=label if entry is None else f"input {tensor.name!r}",
        name=tensor.name,
        direction="input",
        data_type=(entry and entry.data_type) or datatype_of(tensor, label).config,
        dims=(entry and entry.dims) or (tensor.shape or ())[bool(max_batch_size) :],
        batch_axis=batch_axis,
        max_batch_size=max_batch_size,
    )
    datatype, dims = resolve(declared, {tensor.name: tensor})
    if -1 in dims:
        raise Problem(f"{label}: dims {list(dims)}; expected sizes: a session keeps so many")
    initial = np.zeros(dims, datatype.dtype)
    initial.flags.writeable = False
    return StateSpec(tensor.name, "", datatype.name, datatype.dtype, dims, batch_axis, initial)


def _fixed(
    entry: ModelInput | None,
    tensor: GraphTensor,
    label: str,
    text: str,
    config: ModelConfig,
    model_dir: Path,
) -> FixedInput:
    datatype = datatype_of(tensor, label)
    if entry is not None and entry.data_type:
        check_type(entry.data_type, datatype, f"input {tensor.name!r}")
    value = parse_value(text, label, datatype, model_dir / CONSTANTS)
    shape = tensor.shape
    if shape is None and entry is not None:
        shape = (*([-1] if config.max_batch_size else []), *entry.dims)
    batched = config.max_batch_size > 0 and shape is not None and shape[:1] == (-1,)
    if entry is not None and entry.dims and shape is not None:
        if agree(entry.dims, shape) is not None:
            batched = False  # the dims count every axis: none of them is the batch
        elif not batched or agree(entry.dims, shape[1:]) is None:
            dims = list(entry.dims)
            raise Problem(f"input {tensor.name!r}: dims {dims}; the model has {list(shape)}")
    return _fit(tensor.name, value, shape, batched, label)


def _fit(
    name: str, value: NDArray[Any], shape: Shape | None, batched: bool, label: str
) -> FixedInput:
    """Raises Problem where the value has not the input's shape, or that of one row where it is
    `batched`.
    """
    if shape is None:
        return FixedInput(name, value, per_row=False)
    row = shape[1:] if batched else shape
    if batched and value.ndim == len(shape) and len(value) == 1:
        value = value[0]  # one row, with its batch axis
    elif value.ndim == 0 and -1 not in row:
        value = np.full(row, value)
    if agree(row, value.shape) is not None:
        return FixedInput(name, value, per_row=batched)
    what = "a number" if value.ndim == 0 else f"shape {list(value.shape)}"
    rows = (
        f", of which axis 0 is the batch; expected one row, {list(row)}, or an input {name!r} with"
        " dims that count every axis"
        if batched
        else ""
    )
    raise Problem(f"{label}: {what}; the model has {list(shape)}{rows}")

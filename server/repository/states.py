"""`sequence_batching.state[]` against the graph, and what each state is at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from server.repository.parameters import BATCH_AXIS, STATE
from server.repository.problem import Problem
from server.repository.spec import StateSpec
from server.repository.tensors import Declared, agree, resolve
from server.repository.values import read_raw

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from server.datatypes import Datatype
    from server.repository.onnx_file import OnnxFile
    from server.repository.parameters import Parameters
    from server.repository.tensors import Shape
    from server.stubs.inference.model_config_pb2 import ModelConfig, ModelSequenceBatching

INITIAL_STATES = "initial_state"  # directory beside the versions


def state_specs(
    config: ModelConfig, parameters: Parameters, model: OnnxFile, model_dir: Path
) -> tuple[StateSpec, ...]:
    """The states in the configuration's order. Raises Problem."""
    states = config.sequence_batching.state
    for field in ("input_name", "output_name"):
        names = [getattr(state, field) for state in states]
        twice = sorted({name for name in names if names.count(name) > 1 or not name})
        if twice:
            raise Problem(f"state: {field} {twice[0]!r}; expected a name of its own for each state")
    return tuple(
        _state_spec(
            state,
            model,
            parameters.batch_axes.get(state.input_name, 0) if config.max_batch_size else None,
            config.max_batch_size,
            model_dir,
        )
        for state in states
    )


def _state_spec(
    state: ModelSequenceBatching.State,
    model: OnnxFile,
    batch_axis: int | None,
    max_batch_size: int,
    model_dir: Path,
) -> StateSpec:
    label = f"state {state.input_name!r}"
    read = _declared(state, label, "input", batch_axis, max_batch_size)
    written = _declared(state, label, "output", batch_axis, max_batch_size)
    datatype, before = resolve(read, model.inputs)
    _, after = resolve(written, model.outputs)
    shape = agree(before, after)
    if shape is None:
        raise Problem(f"{label}: the model reads {list(before)} but writes {list(after)}")
    initial, shape = _initial(state, label, datatype, shape, model_dir)
    return StateSpec(
        name=state.input_name,
        output=state.output_name,
        datatype=datatype.name,
        dtype=datatype.dtype,
        shape=shape,
        batch_axis=batch_axis,
        initial=initial,
    )


def _declared(
    state: ModelSequenceBatching.State,
    label: str,
    direction: str,
    batch_axis: int | None,
    max_batch_size: int,
) -> Declared:
    name = state.input_name if direction == "input" else state.output_name
    return Declared(
        label=label if direction == "input" else f"{label}, output_name {name!r}",
        name=name,
        direction=direction,
        data_type=state.data_type,
        dims=state.dims,
        batch_axis=batch_axis,
        max_batch_size=max_batch_size,
        axis_key=f"{STATE}{state.input_name}{BATCH_AXIS}",
    )


def _initial(
    state: ModelSequenceBatching.State,
    label: str,
    datatype: Datatype,
    shape: Shape,
    model_dir: Path,
) -> tuple[NDArray[Any], Shape]:
    """The initial state and the shape, made exact by it where dims are -1, or else 1 there. Raises
    Problem.
    """
    if len(state.initial_state) > 1:
        raise Problem(f"{label}: {len(state.initial_state)} initial_state; expected at most 1")
    source = None
    for initial in state.initial_state:
        source = initial
        if initial.data_type != state.data_type:
            raise Problem(f"{label}: initial_state's data_type differs from the state's")
        dims = list(initial.dims)
        if any(size < 1 and size != -1 for size in dims):
            raise Problem(f"{label}: initial_state's dims {dims}; expected sizes of 1 or more")
        together = agree(shape, dims)
        if together is None:
            raise Problem(f"{label}: initial_state's dims {dims}; the state has {list(shape)}")
        shape = together
    shape = tuple(1 if size == -1 else size for size in shape)  # as Triton has it
    if source is None or source.WhichOneof("state_data") != "data_file":
        return _frozen(np.zeros(shape, datatype.dtype)), shape
    values = read_raw(
        model_dir / INITIAL_STATES,
        source.data_file,
        f"{label}: data_file",
        datatype,
        shape,
        may_be_longer=True,
    )
    return _frozen(values), shape


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array

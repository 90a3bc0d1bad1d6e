"""What a configuration leaves out and the graph tells: types, dims, whole lists, the batch axis.

Triton completes ONNX models alike where a list of tensors is missing altogether. It goes on from
there: entries and states may leave out their types and dims.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.repository.constants import SESSION
from server.repository.parameters import CONSTANT
from server.repository.problem import Problem
from server.repository.tensors import agree, datatype_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from server.repository.onnx_file import GraphTensor, OnnxFile
    from server.repository.parameters import Parameters
    from server.repository.tensors import Shape
    from server.stubs.inference.model_config_pb2 import (
        ModelConfig,
        ModelInput,
        ModelOutput,
        ModelSequenceBatching,
    )

# Triton's is 4. Nobody waits for a batch to become full: it has the rows that are there when the
# engine is free, and in few large runs they are done sooner than in many small ones.
DEFAULT_MAX_BATCH_SIZE = 64


def complete_batch(config: ModelConfig, model: OnnxFile, parameters: Parameters) -> None:
    """`max_batch_size` for a configuration that says none: the default where all that goes in and
    out has a batch axis of any size, else 0.
    """
    if 0 in parameters.time_axes.values():
        return  # the first axis is time
    tensors = list(_with_batch_axis(config, model, parameters))
    if tensors and all(tensors):
        config.max_batch_size = DEFAULT_MAX_BATCH_SIZE
        if config.WhichOneof("scheduling_choice") is None:
            config.dynamic_batching.SetInParent()  # as Triton says then


def _with_batch_axis(
    config: ModelConfig, model: OnnxFile, parameters: Parameters
) -> Iterator[bool]:
    """For each tensor whether the graph has an axis of any size that its dims do not count."""
    axes, states = _axes(config, parameters), config.sequence_batching.state
    fixed = {name for name, text in parameters.constants.items() if text != SESSION}
    said = {**_dims(config.input), **{state.input_name: state.dims for state in states}}
    for name in {*model.required, *said} - fixed:
        yield _has_batch_axis(model.inputs.get(name), said.get(name, ()), axes.get(name, 0))
    served = _dims(config.output) or dict.fromkeys(model.outputs, ())
    for name, dims in {**served, **{state.output_name: state.dims for state in states}}.items():
        yield _has_batch_axis(model.outputs.get(name), dims, axes.get(name, 0))


def _dims(entries: Iterable[ModelInput] | Iterable[ModelOutput]) -> dict[str, Sequence[int]]:
    """As the graph has them."""
    return {e.name: e.reshape.shape if e.HasField("reshape") else e.dims for e in entries}


def _has_batch_axis(tensor: GraphTensor | None, dims: Sequence[int], axis: int) -> bool:
    """What the graph does not have is complained about elsewhere. No dims: not said."""
    if tensor is None:
        return True
    shape = tensor.shape
    if shape is None or shape[axis : axis + 1] != (-1,):
        return False
    return not dims or agree(dims, shape) is None


def complete_tensors(
    config: ModelConfig, model: OnnxFile, parameters: Parameters, fed: Collection[str]
) -> None:
    """Fills in `input` or `output` where the list is missing altogether, and types and dims of what
    is listed. Inputs in `fed` get their values elsewhere. Raises Problem.
    """
    axes = _axes(config, parameters)

    def axis_of(name: str) -> int | None:
        return axes.get(name, 0) if config.max_batch_size else None

    inputs, outputs = config.input, config.output
    for entry in inputs:
        _fill(entry, model.inputs, f"input {entry.name!r}", axis_of(entry.name))
    for output in outputs:
        _fill(output, model.outputs, f"output {output.name!r}", axis_of(output.name))
    states = config.sequence_batching.state
    if not inputs:
        read = {state.input_name for state in states}.union(fed)
        for name in model.required:
            if name not in read:
                _derive(inputs.add(), model.inputs[name], "input", axis_of(name))
    if not outputs:
        written = {state.output_name for state in states}
        for name, tensor in model.outputs.items():
            if name not in written:
                _derive(outputs.add(), tensor, "output", axis_of(name))


def _axes(config: ModelConfig, parameters: Parameters) -> dict[str, int]:
    """Where batch axes stand that are not said to be first, those of states among them."""
    axes = dict(parameters.tensor_axes)
    for state in config.sequence_batching.state:
        axis = parameters.batch_axes.get(state.input_name, 0)
        axes |= {state.input_name: axis, state.output_name: axis}
    return axes


def complete_states(config: ModelConfig, model: OnnxFile, parameters: Parameters) -> None:
    """Fills in types and dims of states, and of what they are at the start. Raises Problem."""
    axes = _axes(config, parameters)
    for state in config.sequence_batching.state:
        _fill_state(state, model, axes[state.input_name] if config.max_batch_size else None)
        for initial in state.initial_state:
            if not initial.data_type:
                initial.data_type = state.data_type
            if not initial.dims:
                initial.dims.extend(state.dims)


def _fill_state(
    state: ModelSequenceBatching.State, model: OnnxFile, batch_axis: int | None
) -> None:
    label = f"state {state.input_name!r}"
    tensor = model.inputs.get(state.input_name)
    if tensor is None:
        return
    if not state.data_type:
        state.data_type = datatype_of(tensor, label).config  # type: ignore[assignment]
    if not state.dims:
        other = model.outputs.get(state.output_name, tensor)
        state.dims.extend(_row(tensor.shape or other.shape or (), batch_axis))
        if -1 in state.dims and not any(initial.dims for initial in state.initial_state):
            raise Problem(
                f"{label}: the model has {list(tensor.shape or ())}; expected its dims: which size"
                " it has is not told"
            )


def _fill(
    entry: ModelInput | ModelOutput,
    graph: Mapping[str, GraphTensor],
    label: str,
    batch_axis: int | None,
) -> None:
    tensor = graph.get(entry.name)
    if tensor is None:
        return
    if not entry.data_type:
        entry.data_type = datatype_of(tensor, label).config  # type: ignore[assignment]
    if not entry.dims and not entry.HasField("reshape"):
        entry.dims.extend(_row(tensor.shape or (), batch_axis))


def _derive(
    entry: ModelInput | ModelOutput, tensor: GraphTensor, direction: str, batch_axis: int | None
) -> None:
    label = f"tensor {tensor.name!r} of the model"
    try:
        datatype = datatype_of(tensor, label)
    except Problem as problem:
        if direction == "input":
            raise
        raise Problem(f"{problem}; expected a list of the outputs to serve, in output") from None
    shape = tensor.shape
    if shape is None or (batch_axis is not None and len(shape) <= batch_axis):
        constant = f", or {CONSTANT}{tensor.name}" if direction == "input" else ""
        raise Problem(
            f"{label}: shape unknown or without batch axis; expected its dims in"
            f" {direction}{constant}"
        )
    entry.name = tensor.name
    entry.data_type = datatype.config  # type: ignore[assignment]
    entry.dims.extend(_row(shape, batch_axis))
    if not entry.dims:  # as Triton does: dims must not be empty there
        entry.dims.append(1)
        if batch_axis is not None:
            entry.reshape.SetInParent()


def _row(shape: Shape, batch_axis: int | None) -> Shape:
    return shape if batch_axis is None else shape[:batch_axis] + shape[batch_axis + 1 :]

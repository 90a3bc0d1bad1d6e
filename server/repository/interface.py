"""What requests and answers carry: `input` and `output` of the configuration against the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server import datatypes
from server.repository.problem import Problem
from server.repository.tensors import Declared, tensor_spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from server.repository.onnx_file import GraphTensor, OnnxFile
    from server.repository.parameters import Parameters
    from server.repository.spec import StateSpec, TensorSpec
    from server.stubs.inference.model_config_pb2 import ModelConfig, ModelInput, ModelOutput


def derive_tensors(config: ModelConfig, model: OnnxFile) -> None:
    """Fills in `input` or `output` from the graph, where the list is missing altogether."""
    states = config.sequence_batching.state
    if not config.input:
        read = {state.input_name for state in states}
        for tensor in model.inputs.values():
            if tensor.name not in read:
                _derive(config.input.add(), tensor, config)
    if not config.output:
        written = {state.output_name for state in states}
        for tensor in model.outputs.values():
            if tensor.name not in written:
                _derive(config.output.add(), tensor, config)


def _derive(entry: ModelInput | ModelOutput, tensor: GraphTensor, config: ModelConfig) -> None:
    label = f"tensor {tensor.name!r} of the model"
    if tensor.shape is None or len(tensor.shape) < bool(config.max_batch_size):
        raise Problem(f"{label}: shape unknown or without batch axis; expected its dims here")
    try:
        entry.data_type = datatypes.of_onnx(tensor.elem_type).config  # type: ignore[assignment]
    except datatypes.UnsupportedDatatype as error:
        raise Problem(f"{label}: {error}") from None
    entry.name = tensor.name
    entry.dims.extend(tensor.shape[1:] if config.max_batch_size else tensor.shape)


def tensor_specs(
    entries: Iterable[ModelInput] | Iterable[ModelOutput],
    direction: str,
    graph: Mapping[str, GraphTensor],
    config: ModelConfig,
    parameters: Parameters,
) -> tuple[TensorSpec, ...]:
    """Inputs or outputs (`direction`) in the configuration's order. Raises Problem."""
    specs: dict[str, TensorSpec] = {}
    for entry in entries:
        if entry.name in specs:
            raise Problem(f"{direction} {entry.name!r}: stands there twice")
        declared = Declared(
            label=f"{direction} {entry.name!r}",
            name=entry.name,
            direction=direction,
            data_type=entry.data_type,
            dims=entry.dims,
            batch_axis=0 if config.max_batch_size else None,
            max_batch_size=config.max_batch_size,
        )
        specs[entry.name] = tensor_spec(declared, graph, parameters.time_axes.get(entry.name))
    return tuple(specs.values())


def check_roles(
    model: OnnxFile,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    states: tuple[StateSpec, ...],
) -> None:
    """Every input of the graph is fed by exactly one side: the request or the arena."""
    fed, kept = {tensor.name for tensor in inputs}, {state.name for state in states}
    for name in sorted(fed & kept):
        raise Problem(f"input {name!r}: a state too; expected it in one of the two")
    for name in sorted(model.inputs.keys() - fed - kept):
        raise Problem(f"model input {name!r}: neither in input nor in sequence_batching.state")
    served = {tensor.name for tensor in outputs}
    for state in states:
        if state.output in served and state.batch_axis != 0:
            raise Problem(f"output {state.output!r}: a state whose batch axis is not 0")


def check_cut(inputs: tuple[TensorSpec, ...]) -> None:
    """A model that may be cut has timesteps, and any number of them."""
    axes = [(tensor, tensor.time_axis) for tensor in inputs if tensor.time_axis is not None]
    if not axes:
        raise Problem("parameters: rnnserve.may_be_cut: no input has a rnnserve.time_axis")
    for tensor, axis in axes:
        if tensor.shape[axis] != -1:
            raise Problem(
                f"parameters: rnnserve.may_be_cut: input {tensor.name!r} has"
                f" {tensor.shape[axis]} timesteps; expected any number (-1)"
            )

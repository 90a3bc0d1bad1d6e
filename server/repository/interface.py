"""What requests and answers carry: `input` and `output` of the configuration against the graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from server import datatypes
from server.repository.defaults import with_default
from server.repository.labels import read_labels
from server.repository.parameters import CONSTANT, DEFAULT, TENSOR_AXIS
from server.repository.problem import Problem
from server.repository.reshape import inner_dims
from server.repository.tensors import Declared, tensor_spec
from server.stubs.inference.model_config_pb2 import ModelInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from server.repository.onnx_file import GraphTensor, OnnxFile
    from server.repository.parameters import Parameters
    from server.repository.spec import ModelSpec, StateSpec, TensorSpec
    from server.stubs.inference.model_config_pb2 import ModelConfig, ModelOutput


def input_specs(
    config: ModelConfig, model: OnnxFile, parameters: Parameters
) -> tuple[TensorSpec, ...]:
    """What requests carry, in the configuration's order. Raises Problem."""
    axes = {entry.name: parameters.tensor_axes.get(entry.name, 0) for entry in config.input}
    specs = _tensor_specs(config.input, "input", model.inputs, axes, config, parameters)
    for entry in config.input:
        _check_format(entry)
        if entry.name in parameters.defaults and not entry.optional:
            key = f"{DEFAULT}{entry.name}"
            raise Problem(f"parameters: {key}: expected optional: true in input {entry.name!r}")
    batched, numbers = config.max_batch_size > 0, parameters.defaults
    return tuple(
        with_default(spec, model, numbers.get(spec.name), batched=batched)
        if entry.optional
        else spec
        for entry, spec in zip(config.input, specs, strict=True)
    )


def _check_format(entry: ModelInput) -> None:
    """It says what three axes mean, to people. Raises Problem where there are not three."""
    if entry.format not in ModelInput.Format.values():
        raise Problem(f"input {entry.name!r}: format {entry.format} is not known")
    if entry.format and len(entry.dims) != 3:
        said = f"{ModelInput.Format.Name(entry.format)} with dims {list(entry.dims)}"
        raise Problem(f"input {entry.name!r}: format {said}; expected three")


def output_specs(
    config: ModelConfig,
    model: OnnxFile,
    parameters: Parameters,
    states: tuple[StateSpec, ...],
    model_dir: Path,
) -> tuple[TensorSpec, ...]:
    """What answers carry, in the configuration's order. Raises Problem."""
    axes = {state.output: state.batch_axis or 0 for state in states}
    for name, axis in parameters.tensor_axes.items():
        if axes.setdefault(name, axis) != axis:
            raise Problem(
                f"parameters: {TENSOR_AXIS}{name}: {axis}; the batch axis of the state that it"
                f" is: {axes[name]}"
            )
    specs = _tensor_specs(config.output, "output", model.outputs, axes, config, parameters)
    return tuple(
        replace(spec, labels=read_labels(entry.label_filename, model_dir, f"output {spec.name!r}"))
        for entry, spec in zip(config.output, specs, strict=True)
    )


def _tensor_specs(
    entries: Iterable[ModelInput] | Iterable[ModelOutput],
    direction: str,
    graph: Mapping[str, GraphTensor],
    axes: Mapping[str, int],
    config: ModelConfig,
    parameters: Parameters,
) -> tuple[TensorSpec, ...]:
    specs: dict[str, TensorSpec] = {}
    for entry in entries:
        if entry.name in specs:
            raise Problem(f"{direction} {entry.name!r}: stands there twice")
        inner = inner_dims(entry, graph.get(entry.name), batched=config.max_batch_size > 0)
        declared = Declared(
            label=f"{direction} {entry.name!r}",
            name=entry.name,
            direction=direction,
            data_type=entry.data_type,
            dims=entry.dims if inner is None else inner,
            batch_axis=axes.get(entry.name, 0) if config.max_batch_size else None,
            max_batch_size=config.max_batch_size,
            axis_key=f"{TENSOR_AXIS}{entry.name}",
            field="dims" if inner is None else "reshape",
        )
        time_axis = parameters.time_axes.get(entry.name)
        outer = None if inner is None else entry.dims
        specs[entry.name] = tensor_spec(declared, graph, time_axis, outer)
    return tuple(specs.values())


def describe(
    config: ModelConfig,
    inputs: tuple[TensorSpec, ...],
    constants: tuple[StateSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> None:
    """Makes `input` and `output` say what requests may carry and answers do, the shapes as exact as
    they are known: clients hold them against the model's metadata. `inputs` and `outputs` are in
    the configuration's order.
    """
    first = 1 if config.max_batch_size else 0
    entries: list[ModelInput | ModelOutput] = [*config.input, *config.output]
    for entry, tensor in zip(entries, (*inputs, *outputs), strict=True):
        entry.dims[:] = tensor.shape[first:]
        if entry.HasField("reshape"):
            entry.reshape.shape[:] = (tensor.graph_shape or ())[first:]
    for constant in constants:
        data_type = datatypes.BY_NAME[constant.datatype].config
        config.input.add(name=constant.name, data_type=data_type, dims=constant.shape)


def check_roles(model: OnnxFile, roles: Iterable[tuple[str, str]]) -> None:
    """Every input of the graph is fed by exactly one side. `roles` are pairs of an input's name and
    the field that it stands in.
    """
    known: dict[str, str] = {}
    for name, role in roles:
        if name in known:
            raise Problem(f"{role} {name!r}: in {known[name]} too; expected it in one of the two")
        known[name] = role
    for name in sorted(set(model.required) - known.keys()):
        raise Problem(
            f"model input {name!r}: nobody feeds it; expected it in input, in"
            f" sequence_batching.state or control_input, or a parameter {CONSTANT}{name}"
        )


def check_batch(spec: ModelSpec) -> None:
    """Something tells how many rows a batch has."""
    if spec.max_batch_size and not spec.fed and not spec.kept:
        raise Problem(
            f"max_batch_size: {spec.max_batch_size}, but nothing that a request carries or a"
            " session keeps has a batch axis; expected max_batch_size: 0"
        )

"""What the configuration's schema cannot say: parameters whose keys begin with "rnnserve."."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from server.repository.problem import Problem, there_is

if TYPE_CHECKING:
    from server.stubs.inference.model_config_pb2 import ModelConfig

PREFIX = "rnnserve."
TIME_AXIS = "rnnserve.time_axis."  # <tensor>: an axis, counted with the batch axis
TENSOR_AXIS = "rnnserve.batch_axis."  # <tensor>: an axis of the graph's
MAY_BE_CUT = "rnnserve.may_be_cut"  # "true" or "false"
STATE, BATCH_AXIS = "rnnserve.state.", ".batch_axis"  # around a state's input_name: an axis
CONSTANT = "rnnserve.constant."  # <input>: see constants.py
DEFAULT = "rnnserve.default."  # <input>: a number

KEYS = (
    f"{TIME_AXIS}<tensor>",
    f"{TENSOR_AXIS}<tensor>",
    MAY_BE_CUT,
    f"{STATE}<input_name>{BATCH_AXIS}",
    f"{CONSTANT}<input>",
    f"{DEFAULT}<input>",
)


@dataclass(slots=True)
class Parameters:
    """The parameters by meaning; axes, constants and defaults by the tensor's name."""

    time_axes: dict[str, int] = field(default_factory=dict)
    tensor_axes: dict[str, int] = field(default_factory=dict)
    batch_axes: dict[str, int] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    may_be_cut: bool = False


def read_parameters(config: ModelConfig) -> Parameters:
    """Raises Problem at a key or value that is not known."""
    parameters = Parameters()
    for key, parameter in sorted(config.parameters.items()):
        if key.startswith(PREFIX):
            _read(parameters, key, parameter.string_value)
    return parameters


def check_names(parameters: Parameters, config: ModelConfig) -> None:
    """Raises Problem at a parameter for a tensor that is not configured, constants apart."""
    inputs = {tensor.name for tensor in config.input}
    tensors = inputs | {tensor.name for tensor in config.output}
    states = {state.input_name for state in config.sequence_batching.state}
    for key, after, found, names, kind in (
        (TIME_AXIS, "", parameters.time_axes, tensors, "input or output"),
        (TENSOR_AXIS, "", parameters.tensor_axes, tensors, "input or output"),
        (DEFAULT, "", parameters.defaults, inputs, "input"),
        (STATE, BATCH_AXIS, parameters.batch_axes, states, "state"),
    ):
        for name in found:
            if name not in names:
                listed = there_is(names, name)
                raise Problem(f"parameters: {key}{name}{after}: no such {kind}; there is: {listed}")


def check_axes(parameters: Parameters, config: ModelConfig) -> None:
    """Raises Problem at a batch axis of a model without one."""
    if config.max_batch_size:
        return
    keys = {f"{TENSOR_AXIS}{name}": axis for name, axis in parameters.tensor_axes.items()}
    keys |= {f"{STATE}{name}{BATCH_AXIS}": axis for name, axis in parameters.batch_axes.items()}
    for key, axis in keys.items():
        raise Problem(
            f"parameters: {key}: {axis}; expected none: with max_batch_size: 0 there is no batch"
            " axis"
        )


def _read(parameters: Parameters, key: str, value: str) -> None:
    if key.startswith(TIME_AXIS):
        parameters.time_axes[key.removeprefix(TIME_AXIS)] = _axis(key, value)
    elif key.startswith(TENSOR_AXIS):
        parameters.tensor_axes[key.removeprefix(TENSOR_AXIS)] = _axis(key, value)
    elif key.startswith(STATE) and key.endswith(BATCH_AXIS):
        name = key.removeprefix(STATE).removesuffix(BATCH_AXIS)
        parameters.batch_axes[name] = _axis(key, value)
    elif key.startswith(CONSTANT):
        parameters.constants[key.removeprefix(CONSTANT)] = value
    elif key.startswith(DEFAULT):
        parameters.defaults[key.removeprefix(DEFAULT)] = value
    elif key == MAY_BE_CUT:
        if value not in ("true", "false"):
            raise Problem(f"parameters: {key}: {value!r}; expected 'true' or 'false'")
        parameters.may_be_cut = value == "true"
    else:
        raise Problem(f"parameters: {key}: not known; expected one of {', '.join(KEYS)}")


def _axis(key: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal()):
        raise Problem(f"parameters: {key}: {value!r}; expected the number of an axis, 0 or more")
    return int(value)

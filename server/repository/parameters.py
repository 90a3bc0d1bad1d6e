"""What the configuration's schema cannot say: parameters whose keys begin with "rnnserve."."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from server.repository.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Collection

    from server.stubs.inference.model_config_pb2 import ModelConfig

PREFIX = "rnnserve."
TIME_AXIS = "rnnserve.time_axis."  # <tensor>: an axis, counted with the batch axis
MAY_BE_CUT = "rnnserve.may_be_cut"  # "true" or "false"
STATE, BATCH_AXIS = "rnnserve.state.", ".batch_axis"  # around a state's input_name: an axis


@dataclass(slots=True)
class Parameters:
    """The parameters by meaning."""

    time_axes: dict[str, int] = field(default_factory=dict)
    batch_axes: dict[str, int] = field(default_factory=dict)
    may_be_cut: bool = False


def read_parameters(config: ModelConfig) -> Parameters:
    """Raises Problem at a key or value that is not known."""
    parameters = Parameters()
    for key, parameter in sorted(config.parameters.items()):
        if key.startswith(PREFIX):
            _read(parameters, key, parameter.string_value)
    return parameters


def check_names(parameters: Parameters, config: ModelConfig) -> None:
    """Raises Problem at a parameter for a tensor that is not configured."""
    tensors = {tensor.name for tensor in config.input} | {tensor.name for tensor in config.output}
    _check_names(TIME_AXIS, "", parameters.time_axes, tensors, "input or output")
    states = {state.input_name for state in config.sequence_batching.state}
    _check_names(STATE, BATCH_AXIS, parameters.batch_axes, states, "state")


def _read(parameters: Parameters, key: str, value: str) -> None:
    if key.startswith(TIME_AXIS):
        parameters.time_axes[key.removeprefix(TIME_AXIS)] = _axis(key, value)
    elif key.startswith(STATE) and key.endswith(BATCH_AXIS):
        name = key.removeprefix(STATE).removesuffix(BATCH_AXIS)
        parameters.batch_axes[name] = _axis(key, value)
    elif key == MAY_BE_CUT:
        if value not in ("true", "false"):
            raise Problem(f"parameters: {key}: {value!r}; expected 'true' or 'false'")
        parameters.may_be_cut = value == "true"
    else:
        known = f"{TIME_AXIS}<tensor>, {MAY_BE_CUT}, {STATE}<input_name>{BATCH_AXIS}"
        raise Problem(f"parameters: {key}: not known; expected one of {known}")


def _axis(key: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal()):
        raise Problem(f"parameters: {key}: {value!r}; expected the number of an axis, 0 or more")
    return int(value)


def _check_names(
    before: str, after: str, axes: dict[str, int], names: Collection[str], kind: str
) -> None:
    for name in axes:
        if name not in names:
            listed = ", ".join(sorted(names)) or "none"
            raise Problem(f"parameters: {before}{name}{after}: no such {kind}; there is: {listed}")

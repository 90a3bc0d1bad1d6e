"""The text of config.pbtxt: what is input, output and state, in Triton's schema.

Written by hand, because the schema's code belongs to the server; a test parses the text with the
real schema. What that schema cannot say goes into `parameters`, under keys that begin with
`rnnserve.`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from export.graph import Dims
    from export.signature import Signature, State, Tensor

HEAD = "# Written by `rnnserve export`"
DEFAULT_MAX_BATCH_SIZE = 64
DEFAULT_IDLE_SECONDS = 600.0
_INDENT = "  "
_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
}
# What the schema's fields hold: an int32, and microseconds in a uint64.
_LARGEST_BATCH_SIZE = 2**31 - 1
_IDLE_SECONDS = (1e-6, 1e12)


@dataclass(frozen=True, slots=True)
class Serving:
    """What the repository entry says beyond the graph itself.

    Raises:
        ExportError: a name that cannot be a folder, or a number that makes no sense.
    """

    name: str
    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE
    idle_seconds: float = DEFAULT_IDLE_SECONDS

    def __post_init__(self) -> None:
        if not self.name or self.name[0] in ".-" or not _plain(self.name):
            raise ExportError(
                f"model name {self.name!r}: use letters, digits, '_', '-' and '.', "
                "beginning with neither '.' nor '-'"
            )
        if not 1 <= self.max_batch_size <= _LARGEST_BATCH_SIZE:
            raise ExportError(
                f"max batch size is {self.max_batch_size}: "
                f"it must be from 1 to {_LARGEST_BATCH_SIZE}"
            )
        shortest, longest = _IDLE_SECONDS
        if not shortest <= self.idle_seconds <= longest:
            raise ExportError(
                f"idle time is {self.idle_seconds} s: it must be from {shortest:g} to {longest:g}"
            )


def config_text(signature: Signature, serving: Serving) -> str:
    """config.pbtxt for a model of this signature; without states, every request is all there is."""
    states = signature.states
    lines = [
        f"{HEAD}; the next export of this model replaces it.",
        f'name: "{serving.name}"',
        'platform: "onnxruntime_onnx"',
        'backend: "onnxruntime"',
        f"max_batch_size: {serving.max_batch_size}",
    ]
    for tensor in signature.inputs:
        lines += _message("input", _tensor(tensor))
    for tensor in signature.outputs:
        lines += _message("output", _tensor(tensor))
    lines += _message("sequence_batching", _sequence_batching(signature, serving)) if states else []
    for key, value in _parameters(signature).items():
        lines += _message("parameters", [f'key: "{key}"', f'value {{ string_value: "{value}" }}'])
    return "\n".join(lines) + "\n"


def _sequence_batching(signature: Signature, serving: Serving) -> list[str]:
    idle = round(serving.idle_seconds * 1e6)
    lines = [f"max_sequence_idle_microseconds: {idle}", "oldest {}"]
    for state in signature.states:
        lines += _message("state", _state(state))
    return lines


def _tensor(tensor: Tensor) -> list[str]:
    lines = [f'name: "{tensor.name}"', *_typed(tensor)]
    return [*lines, "optional: true"] if tensor.optional else lines


def _state(state: State) -> list[str]:
    initial = [f'name: "{state.name}_zero"', *_typed(state), "zero_data: true"]
    return [
        f'input_name: "{state.name}"',
        f'output_name: "{state.output}"',
        *_typed(state),
        *_message("initial_state", initial),
    ]


def _typed(tensor: Tensor | State) -> list[str]:
    return [f"data_type: {_TYPES[tensor.dtype]}", f"dims: {_dims(tensor.shape)}"]


def _parameters(signature: Signature) -> dict[str, str]:
    values = {"rnnserve.may_be_cut": "true"} if signature.may_be_cut else {}
    for tensor in (*signature.inputs, *signature.outputs):
        if tensor.time_axis is not None:
            values[f"rnnserve.time_axis.{tensor.name}"] = str(tensor.time_axis)
    for tensor in signature.inputs:
        if tensor.constant:
            values[f"rnnserve.constant.{tensor.name}"] = "session"
        if tensor.optional:
            values[f"rnnserve.default.{tensor.name}"] = "1"
    return values


def _dims(shape: Dims) -> str:
    """Dims without the batch axis, which max_batch_size > 0 implies."""
    return "[" + ", ".join("-1" if isinstance(d, str) else str(d) for d in shape[1:]) + "]"


def _message(name: str, lines: Iterable[str]) -> list[str]:
    return [f"{name} {{", *(f"{_INDENT}{line}" for line in lines), "}"]


def _plain(name: str) -> bool:
    return all(c.isascii() and (c.isalnum() or c in "_-.") for c in name)

"""The text of config.pbtxt for a foreign model, with the reason for each line."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from inspection.roles import START_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection.findings import Findings
    from inspection.reading import Value

HEAD = "# Written by `rnnserve add`"
DEFAULT_MAX_BATCH_SIZE = 64
DEFAULT_IDLE_SECONDS = 600.0
_WIDTH = 100
_TYPES = {
    np.dtype(kind): f"TYPE_{name}"
    for kind, name in (
        (np.bool_, "BOOL"),
        (np.float16, "FP16"),
        (np.float32, "FP32"),
        (np.float64, "FP64"),
        (np.int8, "INT8"),
        (np.int16, "INT16"),
        (np.int32, "INT32"),
        (np.int64, "INT64"),
        (np.uint8, "UINT8"),
        (np.uint16, "UINT16"),
        (np.uint32, "UINT32"),
        (np.uint64, "UINT64"),
    )
}


def config_text(findings: Findings, max_batch_size: int, idle_seconds: float) -> str:
    """Triton's schema as text; what it cannot say stands in `parameters`."""
    parts = [
        _head(findings),
        _batch(findings, max_batch_size),
        "".join(_inputs(findings)),
        "".join(_outputs(findings)),
        _states(findings, idle_seconds),
        "".join(_parameters(findings)),
        _warmup(findings),
    ]
    return "\n".join(part for part in parts if part)


def _head(findings: Findings) -> str:
    text = (
        f"from {findings.model.path.name}. What is said here was guessed from the file and tried:"
        " change what you know better."
    )
    return _comment(f"{HEAD[2:]} {text}")


def _batch(findings: Findings, max_batch_size: int) -> str:
    if findings.batched:
        why = (
            f"So many sessions may share a run of the model: {findings.batch.why}."
            " The batch axis is not counted in any dims below."
        )
    else:
        why = f"One request at a time: {findings.batch.why}. The dims below are whole shapes."
    return f"{_comment(why)}max_batch_size: {max_batch_size if findings.batched else 0}\n"


def _inputs(findings: Findings) -> Iterator[str]:
    yield _comment("What a request brings.")
    for value in findings.trial.data:
        yield _tensor("input", value, findings.input_dims(value))


def _outputs(findings: Findings) -> Iterator[str]:
    all_states = not findings.trial.served
    yield _comment("All outputs are states: it gets them." if all_states else "What it gets back.")
    for value in findings.served:
        yield _tensor("output", value, findings.output_dims(value))


def _tensor(kind: str, value: Value, dims: list[int]) -> str:
    return f"{kind} {{ name: {_quoted(value.name)} data_type: {_type(value)}{_dims(dims)} }}\n"


def _states(findings: Findings, idle_seconds: float) -> str:
    if not findings.pairs:
        return _comment(
            "No states were found: every request stands alone. If the model has some, add it again"
            " with --state INPUT=OUTPUT for each."
        )
    values = {value.name: value for value in findings.trial.states}
    signal = findings.trial.start
    lines = ["sequence_batching {\n"]
    lines.append(_comment("A session without a request for so long is closed.", "  "))
    lines.append(f"  max_sequence_idle_microseconds: {round(idle_seconds * 1e6)}\n")
    if signal is not None and signal.dtype is not None:
        lines += [
            _comment("Tells the model that a session begins; the server feeds it.", "  "),
            f"  control_input {{ name: {_quoted(signal.name)} control {{\n",
            f"    kind: CONTROL_SEQUENCE_START {START_TYPES[signal.dtype]}: [0, 1]\n",
            "  } }\n",
        ]
    for pair in findings.pairs:
        why = f"{pair.confidence}: {'; '.join(pair.reasons[:3])}."
        dims = _dims(findings.state_shape(pair.input))
        lines += [
            _comment(why, "  "),
            "  state {\n",
            f"    input_name: {_quoted(pair.input)}\n",
            f"    output_name: {_quoted(pair.output)}\n",
            f"    data_type: {_type(values[pair.input])}{dims}\n",
            "  }\n",
        ]
    return "".join([*lines, "}\n"])


def _parameters(findings: Findings) -> Iterator[str]:
    for constant in findings.constants:
        yield _comment(f"The same for every request. {constant.why[0].upper()}{constant.why[1:]}.")
        yield _parameter(f"rnnserve.constant.{constant.name}", constant.configured)
    tensors = {n: axis for n, axis in findings.batch.tensors.items() if axis != 0}
    if tensors:
        yield _comment(
            "Where the batch axis is not the first of an input or output in the file; requests and"
            " answers have it first all the same."
        )
    for name, axis in tensors.items():
        yield _parameter(f"rnnserve.batch_axis.{name}", str(axis))
    axes = {n: axis for n, axis in (findings.batch.axes or {}).items() if axis != 0}
    if axes:
        yield _comment("Where the batch axis of a state is not the first.")
    for name, axis in axes.items():
        yield _parameter(f"rnnserve.state.{name}.batch_axis", str(axis))
    time = findings.time
    if not time.inputs:
        return
    yield _comment(
        "Which axis of a request counts timesteps, the batch axis counted:"
        f" {time.variable}, tried with 1, 2 and 3 of them."
    )
    for name, axis in {**time.inputs, **time.outputs}.items():
        yield _parameter(f"rnnserve.time_axis.{name}", str(axis))
    can = "may" if time.may_be_cut else "may not"
    yield _comment(f"A long request {can} be run in pieces: {time.why}.")
    yield _parameter("rnnserve.may_be_cut", "true" if time.may_be_cut else "false")


def _warmup(findings: Findings) -> str:
    """Where a size of 1, which the server tries by itself, may not run."""
    larger = [value for value in findings.trial.data if _is_larger(findings, value)]
    if not larger:
        return ""
    lines = [_comment("Run once before the server takes requests: sizes that the model takes.")]
    lines.append('model_warmup { name: "tried" batch_size: 1\n')
    for value in larger:
        dims = _dims(findings.tried_dims(value))
        entry = f"value {{ data_type: {_type(value)}{dims} zero_data: true }}"
        lines.append(f"  inputs {{ key: {_quoted(value.name)} {entry} }}\n")
    return "".join([*lines, "}\n"])


def _is_larger(findings: Findings, value: Value) -> bool:
    """Whether an axis of any size was tried with more than 1."""
    both = zip(findings.input_dims(value), findings.tried_dims(value), strict=True)
    return any(said == -1 and tried > 1 for said, tried in both)


def _parameter(key: str, text: str) -> str:
    value = f"value {{ string_value: {_quoted(text)} }}"
    return f"parameters {{ key: {_quoted(key)} {value} }}\n"


def _comment(text: str, indent: str = "") -> str:
    lines = textwrap.wrap(" ".join(text.split()), _WIDTH - len(indent) - 2)
    return "".join(f"{indent}# {line}\n" for line in lines)


def _dims(dims: list[int]) -> str:
    return f" dims: [{', '.join(map(str, dims))}]" if dims else ""


def _type(value: Value) -> str:
    assert value.dtype is not None  # what has none is refused or left out
    return _TYPES[value.dtype]


def _quoted(text: str) -> str:
    return json.dumps(text)

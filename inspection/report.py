"""Findings for people (tables of rich) and for programs (a dict for JSON)."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from inspection.findings import Findings
    from inspection.placement import Placement
    from server.repository.spec import ModelSpec

_MOST_FALLBACKS = 20
_EXTRA = "while a step runs it takes twice that"


def show(findings: Findings, placement: Placement, detailed: bool) -> RenderableType:
    """Everything about a file, top to bottom: what it is, what was found, what to do next."""
    model = findings.model
    head = Text(
        f"{model.path}: ONNX opset {model.opset}, IR {model.proto.ir_version},"
        f" {placement.nodes} nodes"
        + (f", by {model.proto.producer_name}" if model.proto.producer_name else "")
    )
    lines = Text("\n".join(_lines(findings)))
    parts: list[RenderableType] = [head, _tensors(findings), _states(findings), lines]
    parts.append(_placement(placement, detailed))
    parts.append(Text(f"\nNext: {next_command(findings)}", style="bold"))
    return Group(*parts)


def as_dict(findings: Findings, placement: Placement) -> dict[str, Any]:
    """The same for programs."""
    model, axes = findings.model, findings.batch.axes
    return {
        "path": str(model.path),
        "opset": model.opset,
        "ir_version": model.proto.ir_version,
        "producer": model.proto.producer_name,
        "inputs": [
            {"name": v.name, "type": str(v), "time_axis": findings.time.inputs.get(v.name)}
            for v in findings.trial.data
        ],
        "outputs": [
            {"name": v.name, "type": str(v), "time_axis": findings.time.outputs.get(v.name)}
            for v in findings.served
        ],
        "states": [
            {
                "input": pair.input,
                "output": pair.output,
                "confidence": pair.confidence,
                "why": list(pair.reasons),
                "shape": findings.state_shape(pair.input),
                "batch_axis": None if axes is None else axes[pair.input],
            }
            for pair in findings.pairs
        ],
        "constants": [{"input": c.name, "value": c.text, "why": c.why} for c in findings.constants],
        "needs": list(findings.needs),
        "needs_sizes": list(findings.needs_sizes),
        "batch": {"found": findings.batched, "why": findings.batch.why},
        "time": {
            "found": bool(findings.time.inputs),
            "may_be_cut": findings.time.may_be_cut,
            "why": findings.time.why,
        },
        "session_bytes": findings.session_bytes(),
        "cuda": {
            "nodes": placement.nodes,
            "on_shapes": placement.on_shapes,
            "untyped": placement.untyped,
            "fallbacks": [
                {"node": f.node, "op": f.op_type, "why": f.reason} for f in placement.fallbacks
            ],
        },
        "next": next_command(findings),
    }


def show_entry(specs: Iterable[ModelSpec]) -> RenderableType:
    """What the configuration of a repository entry says, a table for each version."""
    return Group(*(_entry_table(spec) for spec in specs))


def entry_as_dict(spec: ModelSpec) -> dict[str, Any]:
    """The same of one version, for programs."""
    return {
        "name": spec.name,
        "version": spec.version,
        "path": str(spec.onnx_path),
        "max_batch_size": spec.max_batch_size,
        "inputs": [{"name": t.name, "type": t.datatype, "shape": t.shape} for t in spec.inputs],
        "outputs": [{"name": t.name, "type": t.datatype, "shape": t.shape} for t in spec.outputs],
        "states": [
            {
                "input": s.name,
                "output": s.output,
                "type": s.datatype,
                "shape": s.shape,
                "batch_axis": s.batch_axis,
            }
            for s in spec.states
        ],
        "may_be_cut": spec.may_be_cut,
        "idle_seconds": spec.idle_s,
        "session_bytes": spec.state_nbytes,
    }


def next_command(findings: Findings) -> str:
    """What to type to have the model served, with the values that are still missing."""
    command = f"rnnserve add {shlex.quote(str(findings.model.path))} --repository DIR"
    return f"{command} {findings.missing}".rstrip()


def _tensors(findings: Findings) -> Table:
    table = _table("tensor", "type and shape", "what it is")
    time = findings.time
    constants = {c.name: c for c in findings.constants}
    pairs = {pair.input: pair for pair in findings.pairs} | {
        pair.output: pair for pair in findings.pairs
    }
    for kind, values, axes in (
        ("input", findings.model.inputs, time.inputs),
        ("output", findings.model.outputs, time.outputs),
    ):
        for value in values:
            if value.name in pairs:
                role = "state" if kind == "input" else "next state"
            elif value.name in constants:
                role = f"constant {constants[value.name].text}: {constants[value.name].why}"
            elif findings.trial.start is not None and value.name == findings.trial.start.name:
                role = "that a session begins: the server feeds it"
            elif kind == "input" and value.name in findings.needs:
                role = f"one number for a whole batch: give --constant {value.name}=VALUE"
            else:
                role = "of each request" if kind == "input" else "of each answer"
                if value.name in axes:
                    role += f", timesteps on axis {axes[value.name]}"
            table.add_row(f"{kind} {value.name}", str(value), role)
    return table


def _states(findings: Findings) -> RenderableType:
    if not findings.pairs:
        return Text(
            "No states found: every request would stand alone. If the model has some, name each"
            " with --state INPUT=OUTPUT."
        )
    table = _table("state", "kept as", "how sure, and why")
    for pair in findings.pairs:
        shape = findings.state_shape(pair.input)
        axes = findings.batch.axes
        where = "" if axes is None else f"\nbatch axis {axes[pair.input]}"
        why = f"{pair.confidence}: {'; '.join(pair.reasons)}"
        table.add_row(f"{pair.input} → {pair.output}", f"{shape}{where}", why)
    return table


def _lines(findings: Findings) -> list[str]:
    time = findings.time
    batch = "yes" if findings.batched else "none, one request at a time"
    lines = [f"batch axis: {batch}: {findings.batch.why}"]
    if time.inputs:
        cut = "may be cut" if time.may_be_cut else "may not be cut"
        lines.append(f"time axis: {time.variable}; a request {cut} there: {time.why}")
    elif findings.pairs:
        lines.append(f"time axis: none: {time.why}")
    if findings.needs_sizes:
        lines.append(f"a state's size that nobody but you knows: {', '.join(findings.needs_sizes)}")
    elif findings.pairs:
        lines.append(
            f"state of a session: {_bytes(findings.session_bytes())} for each row; {_EXTRA}"
        )
    return lines


def _placement(placement: Placement, detailed: bool) -> RenderableType:
    count = len(placement.fallbacks)
    head = f"CUDA: all {placement.nodes} nodes have kernels there"
    if count:
        head = f"CUDA: {count} of {placement.nodes} nodes would run on the CPU"
    if placement.on_shapes:
        head += f"; {placement.on_shapes} compute with shapes and stay on the CPU by design"
    if placement.untyped:
        head += f"; of {placement.untyped} an element type is unknown and taken to be fine"
    if not count:
        return Text(head)
    shown = placement.fallbacks if detailed else placement.fallbacks[:_MOST_FALLBACKS]
    table = _table("node", "op", "why it leaves the GPU")
    for fallback in shown:
        table.add_row(fallback.node, fallback.op_type, fallback.reason)
    left = count - len(shown)
    parts: list[RenderableType] = [Text(head), table]
    if left:
        parts.append(Text(f"… and {left} more: --provider cuda shows all"))
    return Group(*parts)


def _entry_table(spec: ModelSpec) -> Table:
    table = _table("", "type and shape", "")
    table.title = f"{spec.name}, version {spec.version}"
    for kind, tensors in (("input", spec.inputs), ("output", spec.outputs)):
        for tensor in tensors:
            time = "" if tensor.time_axis is None else f"timesteps on axis {tensor.time_axis}"
            table.add_row(f"{kind} {tensor.name}", f"{tensor.datatype} {list(tensor.shape)}", time)
    for state in (*spec.states, *spec.constants):
        name = f"state {state.name} → {state.output}" if state.output else f"constant {state.name}"
        axis = "" if state.batch_axis is None else f"batch axis {state.batch_axis}"
        table.add_row(name, f"{state.datatype} {list(state.shape)}", axis)
    table.caption = (
        f"max_batch_size {spec.max_batch_size}; may be cut: {'yes' if spec.may_be_cut else 'no'};"
        f" idle {spec.idle_s:g} s; {_bytes(spec.state_nbytes)} of state for each row"
    )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _bytes(count: int) -> str:
    if count < 10_000:
        return f"{count} bytes"
    power = min(int(math.log(count, 1024)), 3)
    return f"{count / 1024**power:.1f} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"

"""Findings about a file for people: tables of rich."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inspection.findings import Findings
    from inspection.placement import Placement

_MOST_FALLBACKS = 20
_EXTRA = "while a step runs it takes twice that"


def show(findings: Findings, placement: Placement, detailed: bool) -> RenderableType:
    """Everything about a file, top to bottom: what it is, what was found."""
    model = findings.model
    head = Text(
        f"{model.path}: ONNX opset {model.opset}, IR {model.proto.ir_version},"
        f" {placement.nodes} nodes"
        + (f", by {model.proto.producer_name}" if model.proto.producer_name else "")
    )
    lines = Text("\n".join(_lines(findings)))
    parts: list[RenderableType] = [head, _tensors(findings), _states(findings), lines]
    parts.append(placed(placement, detailed))
    return Group(*parts)


def _tensors(findings: Findings) -> Table:
    table = table_of("tensor", "type and shape", "what it is")
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
                role += axes_told(findings.batch.tensors.get(value.name, 0), axes.get(value.name))
            table.add_row(f"{kind} {value.name}", str(value), role)
    return table


def _states(findings: Findings) -> RenderableType:
    if not findings.pairs:
        return Text(
            "No states found: every request would stand alone. If the model has some, name each"
            " with --state INPUT=OUTPUT."
        )
    table = table_of("state", "kept as", "how sure, and why")
    for pair in findings.pairs:
        shape = findings.state_shape(pair.input)
        axes = findings.batch.axes
        where = "" if axes is None else f"\nbatch axis {axes[pair.input]}"
        why = f"{pair.confidence}: {'; '.join(pair.reasons)}"
        table.add_row(f"{pair.input} → {pair.output}", f"{shape}{where}", why)
    return table


def _lines(findings: Findings) -> list[str]:
    time = findings.time
    lines = [f"note: {note}" for note in findings.notes]
    batch = "yes" if findings.batched else "none, one request at a time"
    lines.append(f"batch axis: {batch}: {findings.batch.why}")
    if time.inputs:
        cut = "may be cut" if time.may_be_cut else "may not be cut"
        lines.append(f"time axis: {time.variable}; a request {cut} there: {time.why}")
    elif findings.pairs:
        lines.append(f"time axis: none: {time.why}")
    if findings.needs_sizes:
        lines.append(f"a state's size that nobody but you knows: {', '.join(findings.needs_sizes)}")
    elif findings.pairs:
        lines.append(
            f"state of a session: {told_bytes(findings.session_bytes())} for each row; {_EXTRA}"
        )
    return lines


def placed(placement: Placement, detailed: bool) -> RenderableType:
    """Which nodes would leave the GPU; the first few of them unless `detailed`."""
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
    table = table_of("node", "op", "why it leaves the GPU")
    for fallback in shown:
        table.add_row(fallback.node, fallback.op_type, fallback.reason)
    left = count - len(shown)
    parts: list[RenderableType] = [Text(head), table]
    if left:
        parts.append(Text(f"… and {left} more: --provider cuda shows all"))
    return Group(*parts)


def axes_told(batch: int, time: int | None) -> str:
    """What is not as everywhere: a batch axis in the file's order, timesteps in a request's."""
    told = f", batch axis {batch} in the file: the first on the wire" if batch else ""
    return told if time is None else f"{told}, timesteps on axis {time}"


def table_of(*headings: str) -> Table:
    """An empty table without a frame."""
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def told_bytes(count: int) -> str:
    """In units that people read."""
    if count < 10_000:
        return f"{count} bytes"
    power = min(int(math.log(count, 1024)), 3)
    return f"{count / 1024**power:.1f} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"

"""A decomposed cell over time: as a Scan, or, for a single timestep, as the step itself.

Masks are Keras': at a timestep that does not count the states stay and the output is the one
before. Before the first that counts, the output is the initial state of a built-in cell, and zeros
for others, or for all with `zero_output`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from export.graph import GraphBuilder

if TYPE_CHECKING:
    from export.cells import Reads, Recurrence


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a recurrent layer.

    `reads` is what it reads, `mask` (time, batch) of bool or None; `finals` are the names that the
    new states get. `sequences`: whether the outputs of all timesteps are wanted, or the last one
    alone. `one_step`: the graph is for a single timestep.
    """

    name: str
    reads: Reads
    finals: tuple[str, ...]
    mask: str | None = None
    backwards: bool = False
    zero_output: bool = False
    sequences: bool = True
    one_step: bool = False


def emit_scan(graph: GraphBuilder, recurrence: Recurrence, call: Call) -> str:
    """Add the loop; returns the outputs, (time, batch, …), or the last one, (batch, …)."""
    name, reads = call.name, call.reads
    carries = _carries_output(recurrence, call)
    body = GraphBuilder(f"{name}/step", outer=graph)
    states = [
        body.input(f"{name}/before/{index}", ("batch", *shape))
        for index, shape in enumerate(reads.state_shapes)
    ]
    before = body.input(f"{name}/before/output", None) if carries else None
    slices = [body.input(f"{tensor}/t", None) for tensor in recurrence.hoisted]
    keep = body.input(f"{name}/keep", None, np.bool_) if call.mask else None
    output, after = _step(body, recurrence, call, slices, states, before, keep)
    for index, (state, shape) in enumerate(zip(after, reads.state_shapes, strict=True)):
        named = body.node("Identity", [state], f"{name}/after/{index}")
        body.output(named, ("batch", *shape))
    outputs = list(call.finals)
    initial = list(reads.states)
    if carries:
        body.output(body.node("Identity", [output], f"{name}/after/output"), None)
        outputs.append(f"{name}/last")
        initial.append(_initial_output(graph, recurrence, call))
    if call.sequences:
        body.output(body.node("Identity", [output], f"{name}/output/t"), None)
        outputs.append(f"{name}/output")
    scanned = [*recurrence.hoisted, *([call.mask] if call.mask else [])]
    directions = {"scan_input_directions": [1] * len(scanned)} if call.backwards else {}
    graph.nodes(
        "Scan",
        [*initial, *scanned],
        outputs,
        body=body.build(),
        num_scan_inputs=len(scanned),
        **directions,
    )
    if call.sequences:
        return f"{name}/output"
    if carries:
        return f"{name}/last"
    assert recurrence.output_is is not None
    return call.finals[recurrence.output_is]


def emit_one(graph: GraphBuilder, recurrence: Recurrence, call: Call) -> str:
    """As `emit_scan`, without a loop, for a graph of a single timestep."""
    name, front = call.name, graph.ints(0)
    slices = [graph.node("Squeeze", [x, front], f"{x}/t") for x in recurrence.hoisted]
    keep = call.mask and graph.node("Squeeze", [call.mask, front], f"{name}/keep")
    before = _initial_output(graph, recurrence, call) if _carries_output(recurrence, call) else None
    states = list(call.reads.states)
    output, after = _step(graph, recurrence, call, slices, states, before, keep)
    for state, final in zip(after, call.finals, strict=True):
        graph.node("Identity", [state], final)
    if not call.sequences:
        return output
    return graph.node("Unsqueeze", [output, front], f"{name}/output")


def _step(
    body: GraphBuilder,
    recurrence: Recurrence,
    call: Call,
    slices: list[str],
    states: list[str],
    before: str | None,
    keep: str | None,
) -> tuple[str, list[str]]:
    """One timestep in `body`, its mask obeyed: the output and the new states."""
    output, after = recurrence.step(body, slices, states)
    if keep is None:
        return output, after
    name, shapes = call.name, call.reads.state_shapes
    new = [
        _where(body, keep, pair, len(shape), f"{name}/kept_state_{index}")
        for index, (pair, shape) in enumerate(
            zip(zip(after, states, strict=True), shapes, strict=True)
        )
    ]
    if before is None:
        assert recurrence.output_is is not None
        return new[recurrence.output_is], new
    rank = len(recurrence.output_shape)
    return _where(body, keep, (output, before), rank, f"{name}/kept_output"), new


def _where(body: GraphBuilder, keep: str, pair: tuple[str, str], rank: int, output: str) -> str:
    """Row by row the first of `pair` where `keep` (batch,) is true, else the second."""
    if rank:
        axes = body.ints(*range(1, rank + 1))
        keep = body.node("Unsqueeze", [keep, axes], f"{output}/keep")
    return body.node("Where", [keep, *pair], output)


def _carries_output(recurrence: Recurrence, call: Call) -> bool:
    """Whether the loop must remember the last output beside the states."""
    if call.mask is not None:
        return call.zero_output or recurrence.output_is is None
    return not call.sequences and recurrence.output_is is None


def _initial_output(graph: GraphBuilder, recurrence: Recurrence, call: Call) -> str:
    """What stands for the output before the first step that counts, (batch, …)."""
    if recurrence.initial_output is not None and not call.zero_output:
        return recurrence.initial_output
    name = call.name
    batch = graph.node("Shape", [call.reads.x], f"{name}/batch", start=1, end=2)
    shape = graph.node(
        "Concat", [batch, graph.ints(*recurrence.output_shape)], f"{name}/output_shape", axis=0
    )
    zero = graph.constant("constants/zero", np.zeros((), np.float32))
    return graph.node("Expand", [zero, shape], f"{name}/zero_output")

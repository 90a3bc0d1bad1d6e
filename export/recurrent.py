"""A recurrent layer's call as ONNX nodes: a native node, a loop, or a stack of either."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from export.cells import recurrence_of
from export.forms import Form, Target, form_of
from export.loop import emit_one, emit_scan
from export.native import emit_native
from models.cells import StackedRNNCells
from models.cells.like import output_shape, takes_constants

if TYPE_CHECKING:
    from export.graph import GraphBuilder
    from export.loop import Call


def emit_cell(graph: GraphBuilder, cell: Any, call: Call, target: Target) -> str:
    """Add the call; returns its outputs, (time, batch, …), or its last output, (batch, …).

    Raises UnsupportedLayer where the cell has no ONNX form.
    """
    if type(cell) is StackedRNNCells:
        return _emit_stack(graph, cell, call, target)
    if form_of(cell, target, masked=call.mask is not None, one_step=call.one_step) is Form.NATIVE:
        return emit_native(
            graph,
            cell,
            call.name,
            call.reads,
            call.finals,
            backwards=call.backwards,
            sequences=call.sequences,
        )
    recurrence = recurrence_of(graph, cell, call.name, call.reads)
    return (emit_one if call.one_step else emit_scan)(graph, recurrence, call)


def _emit_stack(graph: GraphBuilder, stack: Any, call: Call, target: Target) -> str:
    """Cell by cell, each over all timesteps."""
    x, shape, mask = call.reads.x, call.reads.x_shape, call.mask
    if call.backwards:
        x = graph.flipped(x, f"{call.name}/backwards")
        mask = mask and graph.flipped(mask, f"{call.name}/mask_backwards")
    states, finals = (stack.split(names) for names in (call.reads.states, call.finals))
    shapes = stack.split(call.reads.state_shapes)
    for number, cell in enumerate(stack.cells):
        reads = replace(
            call.reads,
            x=x,
            x_shape=shape,
            states=states[number],
            state_shapes=shapes[number],
            **({} if takes_constants(cell) else {"constants": (), "constant_shapes": ()}),
        )
        own = replace(
            call,
            name=f"{call.name}/{number}",
            reads=reads,
            finals=finals[number],
            mask=mask,
            backwards=False,
            zero_output=True,
            sequences=call.sequences or number + 1 < len(stack.cells),
        )
        x, shape = emit_cell(graph, cell, own, target), output_shape(cell)
    return x

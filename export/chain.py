"""A Sequential, or a recurrent layer by itself, as a graph: layer behind layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import models
from export.carrier import MASK
from export.cells import Reads
from export.layers import Flow, emit_layer, has_form
from export.loop import Call
from export.recurrent import emit_cell

if TYPE_CHECKING:
    from torch import nn

    from export.forms import Target
    from export.graph import GraphBuilder
    from export.interception import RecurrentCall
    from export.plan import Plan


def is_chain(model: nn.Module) -> bool:
    """Whether every layer has a form here."""
    if isinstance(model, models.RNN):
        return type(model).forward is models.RNN.forward
    return type(model) is models.Sequential and all(
        is_chain(layer) if isinstance(layer, models.RNN) else has_form(layer)
        for layer in model.layers
    )


def emit_chain(graph: GraphBuilder, plan: Plan, target: Target, *, one_step: bool) -> None:
    """Add all layers, between the inputs and outputs of the signature, which `graph` has."""
    model, signature = plan.model, plan.signature
    first, *rest = (tensor for tensor in signature.inputs if tensor.name != MASK)
    flow = Flow(first.name, time=first.time_axis is not None)
    if flow.time:
        flow = replace(
            flow, x=graph.turned(first.name, f"{first.name}/time_major", len(first.shape))
        )
    if any(tensor.name == MASK for tensor in signature.inputs):
        flow = replace(flow, mask=graph.turned(MASK, f"{MASK}/time_major", 2))
    calls = iter(plan.calls)
    layers = model.layers if isinstance(model, models.Sequential) else [model]
    for layer in layers:
        if isinstance(layer, models.RNN):
            constants = tuple(tensor.name for tensor in rest)
            flow = _recurrent(graph, next(calls), flow, constants, target, one_step)
        else:
            assert isinstance(layer, models.Layer)
            flow = emit_layer(graph, layer, layer.name, flow)
    output, *states = signature.outputs
    if flow.time:
        graph.turned(flow.x, output.name, len(output.shape))
    else:
        graph.node("Identity", [flow.x], output.name)
    for tensor, state in zip(states, signature.states, strict=False):  # return_state=True
        graph.node("Identity", [state.output], tensor.name)


def _recurrent(
    graph: GraphBuilder,
    call: RecurrentCall,
    flow: Flow,
    constants: tuple[str, ...],
    target: Target,
    one_step: bool,
) -> Flow:
    layer = call.layer
    reads = Reads(
        flow.x,
        call.x_shape,
        call.states,
        call.state_shapes,
        constants,
        call.constant_shapes,
    )
    run = Call(
        call.name,
        reads,
        tuple(f"{state}_next" for state in call.states),
        mask=flow.mask,
        backwards=layer.go_backwards,
        zero_output=call.zero_output,
        sequences=layer.return_sequences,
        one_step=one_step,
    )
    x = emit_cell(graph, layer.cell, run, target)
    sequences = layer.return_sequences
    return Flow(x, time=sequences, mask=flow.mask if sequences else None)

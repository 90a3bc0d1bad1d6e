"""SimpleRNN: `h = act(x·W + b + h·U)`; state h."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.emitters.activations import emit_activation
from export.emitters.native import emit_native
from export.emitters.scan import emit_scan, project
from export.forms import Form, form_of

if TYPE_CHECKING:
    from export.description import Recurrent
    from export.graph import GraphBuilder


def emit_simple_rnn(graph: GraphBuilder, x: str, layer: Recurrent) -> str:
    """Add the layer; `x` is (time, batch, D). Returns its output."""
    if form_of(layer) is Form.NATIVE:
        return emit_native(graph, x, layer, "RNN", (0,))
    name = layer.name
    projection = project(graph, x, name, layer.kernel, layer.bias + layer.recurrent_bias)
    recurrent_kernel = graph.constant(f"{name}/recurrent_kernel", layer.recurrent_kernel)

    def step(body: GraphBuilder, states: list[str], slices: list[str]) -> list[str]:
        total = body.node("Gemm", [states[0], recurrent_kernel, slices[0]], f"{name}/sum")
        return [emit_activation(body, layer.activation, total, f"{name}/h")]

    return emit_scan(graph, layer, [(projection, layer.units)], step)

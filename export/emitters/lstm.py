"""LSTM: `c = f∘c + i∘act(z_c)`, `h = o∘act(c)`; gates i, f, c, o; states h, c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.emitters.activations import emit_activation
from export.emitters.gates import emit_gates
from export.emitters.native import emit_native, reorder_gates
from export.emitters.scan import emit_scan, project, split
from export.forms import Form, form_of

if TYPE_CHECKING:
    from export.description import Recurrent
    from export.graph import GraphBuilder

_ONNX_GATES = (0, 3, 1, 2)  # i, o, f, c
_GATES_TOGETHER = (0, 1, 3, 2)  # i, f, o, c: one activation for the three gates


def emit_lstm(graph: GraphBuilder, x: str, layer: Recurrent) -> str:
    """Add the layer; `x` is (time, batch, D). Returns its output."""
    if form_of(layer) is Form.NATIVE:
        return emit_native(graph, x, layer, "LSTM", _ONNX_GATES)
    return _emit_scan(graph, x, layer)


def _emit_scan(graph: GraphBuilder, x: str, layer: Recurrent) -> str:
    name, u = layer.name, layer.units
    bias = reorder_gates(layer.bias + layer.recurrent_bias, _GATES_TOGETHER)
    kernel = reorder_gates(layer.kernel, _GATES_TOGETHER)
    projection = project(graph, x, name, kernel, bias)
    recurrent_kernel = graph.constant(
        f"{name}/recurrent_kernel", reorder_gates(layer.recurrent_kernel, _GATES_TOGETHER)
    )

    def step(body: GraphBuilder, states: list[str], slices: list[str]) -> list[str]:
        h, c = states
        z = body.node("Gemm", [h, recurrent_kernel, slices[0]], f"{name}/z")
        z_ifo, z_c = split(body, z, [3 * u, u], [f"{name}/z_ifo", f"{name}/z_c"])
        i, f, o = emit_gates(body, layer, z_ifo, "ifo")
        candidate = emit_activation(body, layer.activation, z_c, f"{name}/candidate")
        kept = body.node("Mul", [f, c], f"{name}/kept")
        added = body.node("Mul", [i, candidate], f"{name}/added")
        c = body.node("Add", [kept, added], f"{name}/c")
        squashed = emit_activation(body, layer.activation, c, f"{name}/squashed")
        h = body.node("Mul", [o, squashed], f"{name}/h")
        return [h, c]

    return emit_scan(graph, layer, [(projection, 4 * u)], step)

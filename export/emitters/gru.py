"""GRU: `h = z∘h + (1-z)∘hh`; gates z, r, h; state h.

reset_after=False: `hh = act(x_h + (r∘h)·U_h)`; True: `hh = act(x_h + r∘(h·U_h + b_rh))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.emitters.activations import emit_activation
from export.emitters.gates import emit_gates
from export.emitters.native import emit_native
from export.emitters.scan import emit_scan, project, split
from export.forms import Form, form_of

if TYPE_CHECKING:
    from export.description import Recurrent
    from export.graph import GraphBuilder

_ONNX_GATES = (0, 1, 2)  # z, r, h: ONNX has Keras' order


def emit_gru(graph: GraphBuilder, x: str, layer: Recurrent) -> str:
    """Add the layer; `x` is (time, batch, D). Returns its output."""
    if form_of(layer) is Form.NATIVE:
        return emit_native(graph, x, layer, "GRU", _ONNX_GATES, {"linear_before_reset": 1})
    name, u = layer.name, layer.units
    projection = project(graph, x, name, layer.kernel, layer.bias)
    x_zr, x_h = split(graph, projection, [2 * u, u], [f"{name}/x_zr", f"{name}/x_h"])
    step = _step_reset_after if layer.reset_after else _step_reset_before

    def body_step(body: GraphBuilder, states: list[str], slices: list[str]) -> list[str]:
        z, candidate = step(graph, body, layer, states[0], slices)
        return [_mix(body, name, z, states[0], candidate)]

    return emit_scan(graph, layer, [(x_zr, 2 * u), (x_h, u)], body_step)


def _step_reset_before(
    graph: GraphBuilder, body: GraphBuilder, layer: Recurrent, h: str, slices: list[str]
) -> tuple[str, str]:
    name, u, (x_zr, x_h) = layer.name, layer.units, slices
    u_zr, u_h = np.split(layer.recurrent_kernel, [2 * u], axis=-1)
    u_zr_name = graph.constant(f"{name}/recurrent_kernel_zr", u_zr)
    u_h_name = graph.constant(f"{name}/recurrent_kernel_h", u_h)
    sum_zr = body.node("Gemm", [h, u_zr_name, x_zr], f"{name}/sum_zr")
    z, r = emit_gates(body, layer, sum_zr, "zr")
    reset = body.node("Mul", [r, h], f"{name}/reset")
    inner = body.node("Gemm", [reset, u_h_name, x_h], f"{name}/sum_h")
    return z, emit_activation(body, layer.activation, inner, f"{name}/candidate")


def _step_reset_after(
    graph: GraphBuilder, body: GraphBuilder, layer: Recurrent, h: str, slices: list[str]
) -> tuple[str, str]:
    name, u, (x_zr, x_h) = layer.name, layer.units, slices
    kernel = graph.constant(f"{name}/recurrent_kernel", layer.recurrent_kernel)
    bias = graph.constant(f"{name}/recurrent_bias", layer.recurrent_bias)
    inner = body.node("Gemm", [h, kernel, bias], f"{name}/inner")
    inner_zr, inner_h = split(body, inner, [2 * u, u], [f"{name}/inner_zr", f"{name}/inner_h"])
    sum_zr = body.node("Add", [x_zr, inner_zr], f"{name}/sum_zr")
    z, r = emit_gates(body, layer, sum_zr, "zr")
    reset = body.node("Mul", [r, inner_h], f"{name}/reset")
    total = body.node("Add", [x_h, reset], f"{name}/sum_h")
    return z, emit_activation(body, layer.activation, total, f"{name}/candidate")


def _mix(body: GraphBuilder, name: str, z: str, h: str, candidate: str) -> str:
    """z∘h + (1-z)∘hh, as hh + z∘(h - hh): one op less."""
    difference = body.node("Sub", [h, candidate], f"{name}/difference")
    kept = body.node("Mul", [z, difference], f"{name}/kept")
    return body.node("Add", [candidate, kept], f"{name}/h")

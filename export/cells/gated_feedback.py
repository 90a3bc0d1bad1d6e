"""GatedFeedbackRNN: every layer's candidate sees every layer's last state, through a scalar gate.

The equations are `models.cells.gated_feedback`'s (Chung et al. 2015, arXiv:1502.02367). Only the
first layer's products with the inputs can be hoisted; the other layers read what the layer below
has just computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.activations import emit_activation
from export.cells.parts import emit_gates, split
from export.cells.recurrence import Reads, Recurrence, array, check_named, named
from models.cells.gated_feedback import KINDS, FeedbackLayer

if TYPE_CHECKING:
    from export.graph import GraphBuilder
    from models import GatedFeedbackRNNCell


def gated_feedback(
    graph: GraphBuilder, cell: GatedFeedbackRNNCell, name: str, reads: Reads
) -> Recurrence:
    """States h1, h2, …, with kind "lstm" h1, c1, h2, c2, …; the output is the last h."""
    check_named(cell.activation, cell.recurrent_activation)
    layers = [layer for layer in cell.layers if isinstance(layer, FeedbackLayer)]
    per_layer = 2 if cell.kind == "lstm" else 1
    first = _sums(graph, layers[0], f"{name}/1", reads.x)

    def step(body: GraphBuilder, slices: list[str], states: list[str]) -> tuple[str, list[str]]:
        hs = states[::per_layer]
        before = hs[0] if len(hs) == 1 else body.node("Concat", hs, f"{name}/before", axis=-1)
        sums = slices
        after: list[str] = []
        for number, layer in enumerate(layers):
            prefix = f"{name}/{number + 1}"
            if number:
                sums = _sums(body, layer, prefix, after[-per_layer])
            own = states[number * per_layer : (number + 1) * per_layer]
            after += _layer(body, layer, prefix, sums, own, before, hs)
        return after[-per_layer], after

    return Recurrence(first, step, (cell.units[-1],), output_is=len(reads.states) - per_layer)


def _sums(graph: GraphBuilder, layer: FeedbackLayer, name: str, x: str) -> list[str]:
    """What a layer makes of its input alone: `x·W + b`, and the part of the scalar gates."""
    kernel = graph.constant(f"{name}/kernel", array(layer.kernel))
    product = graph.node("MatMul", [x, kernel], f"{name}/product")
    bias = graph.constant(f"{name}/bias", array(layer.bias))
    gate_kernel = graph.constant(f"{name}/gate_kernel", array(layer.gate_kernel))
    return [
        graph.node("Add", [product, bias], f"{name}/projection"),
        graph.node("MatMul", [x, gate_kernel], f"{name}/gate_product"),
    ]


def _layer(
    body: GraphBuilder,
    layer: FeedbackLayer,
    name: str,
    sums: list[str],
    own: list[str],
    before: str,
    hs: list[str],
) -> list[str]:
    """The new states of one layer."""
    projected, units, activation = sums[0], layer.units, named(layer.activation)
    feedback = _feedback(body, layer, name, sums[1], before, hs)
    if layer.kind == "tanh":
        total = body.node("Add", [projected, feedback], f"{name}/sum")
        return [emit_activation(body, activation, total, f"{name}/h")]
    width = (KINDS[layer.kind] - 1) * units
    of_gates, candidate = split(body, projected, [width, units], [f"{name}/x_g", f"{name}/x_c"])
    kernel = body.constant(f"{name}/recurrent_kernel", array(layer.recurrent_kernel))
    total = body.node("Gemm", [own[0], kernel, of_gates], f"{name}/gate_sums")
    letters = "ifo" if layer.kind == "lstm" else "zr"
    outputs = [f"{name}/{letter}" for letter in letters]
    gates = emit_gates(body, total, units, named(layer.recurrent_activation), outputs, -1)
    gated = _lstm if layer.kind == "lstm" else _gru
    return gated(body, name, activation, gates, candidate, feedback, own)


def _lstm(
    body: GraphBuilder,
    name: str,
    activation: str,
    gates: list[str],
    candidate: str,
    feedback: str,
    own: list[str],
) -> list[str]:
    i, f, o = gates
    total = body.node("Add", [candidate, feedback], f"{name}/sum")
    new = emit_activation(body, activation, total, f"{name}/candidate")
    kept = body.node("Mul", [f, own[1]], f"{name}/kept")
    added = body.node("Mul", [i, new], f"{name}/added")
    c = body.node("Add", [kept, added], f"{name}/c")
    squashed = emit_activation(body, activation, c, f"{name}/squashed")
    return [body.node("Mul", [o, squashed], f"{name}/h"), c]


def _gru(
    body: GraphBuilder,
    name: str,
    activation: str,
    gates: list[str],
    candidate: str,
    feedback: str,
    own: list[str],
) -> list[str]:
    z, r = gates
    reset = body.node("Mul", [r, feedback], f"{name}/reset")
    total = body.node("Add", [candidate, reset], f"{name}/sum")
    new = emit_activation(body, activation, total, f"{name}/candidate")
    difference = body.node("Sub", [own[0], new], f"{name}/difference")
    kept = body.node("Mul", [z, difference], f"{name}/mixed")
    return [body.node("Add", [new, kept], f"{name}/h")]


def _feedback(
    body: GraphBuilder,
    layer: FeedbackLayer,
    name: str,
    gate_product: str,
    before: str,
    hs: list[str],
) -> str:
    """`Σ_i g^{i→j} U^{i→j} h^i`, (batch, u): each h scaled by its gate, then one product."""
    recurrent = body.constant(f"{name}/gate_recurrent", array(layer.gate_recurrent_kernel))
    sums = body.node("Gemm", [before, recurrent, gate_product], f"{name}/feedback_sums")
    gates = body.node("Sigmoid", [sums], f"{name}/feedback_gates")
    if len(hs) == 1:
        scaled = body.node("Mul", [gates, hs[0]], f"{name}/scaled")
    else:
        names = [f"{name}/gate_{i}" for i, _ in enumerate(hs)]
        columns = split(body, gates, [1] * len(hs), names)
        pieces = [
            body.node("Mul", [g, h], f"{name}/scaled_{i}")
            for i, (g, h) in enumerate(zip(columns, hs, strict=True))
        ]
        scaled = body.node("Concat", pieces, f"{name}/scaled", axis=-1)
    kernel = body.constant(f"{name}/feedback_kernel", array(layer.feedback_kernel))
    return body.node("MatMul", [scaled, kernel], f"{name}/feedback")

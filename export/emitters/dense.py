"""Dense: `activation(x · kernel + bias)`, on any number of leading axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.emitters.activations import emit_activation

if TYPE_CHECKING:
    from export.description import Dense
    from export.graph import GraphBuilder


def emit_dense(graph: GraphBuilder, x: str, layer: Dense) -> str:
    """Add the layer; returns its output, `(…, units)` for `x` of `(…, D)`."""
    name = layer.name
    y = graph.node("MatMul", [x, graph.constant(f"{name}/kernel", layer.kernel)], f"{name}/product")
    if layer.bias is not None:
        y = graph.node("Add", [y, graph.constant(f"{name}/bias", layer.bias)], f"{name}/sum")
    return emit_activation(graph, layer.activation, y, f"{name}/{layer.activation}")

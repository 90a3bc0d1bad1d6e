"""Normalization: `(x - mean) / std` with the statistics of the training set."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.description import Normalization
    from export.graph import GraphBuilder


def emit_normalization(graph: GraphBuilder, x: str, layer: Normalization) -> str:
    """Add the layer; returns its output, of the shape of `x`, `(…, D)`."""
    name = layer.name
    mean = graph.constant(f"{name}/mean", layer.mean)
    centred = graph.node("Sub", [x, mean], f"{name}/centred")
    std = graph.constant(f"{name}/std", layer.std)
    return graph.node("Div", [centred, std], f"{name}/output")

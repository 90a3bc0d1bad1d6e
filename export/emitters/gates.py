"""The gates of a step, side by side in one tensor: one activation for all of them if it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.emitters.activations import emit_activation
from export.emitters.scan import split

if TYPE_CHECKING:
    from export.description import Recurrent
    from export.graph import GraphBuilder


def emit_gates(body: GraphBuilder, layer: Recurrent, total: str, gates: str) -> list[str]:
    """Apply the gates' activation to `total`, (batch, u) for each letter of `gates` in a row.

    Returns:
        The gates, (batch, u) each.
    """
    name, activation = layer.name, layer.recurrent_activation
    sizes, outputs = [layer.units] * len(gates), [f"{name}/{gate}" for gate in gates]
    if (
        activation == "softmax"
    ):  # the one that is not elementwise: it normalises each gate by itself
        pieces = split(body, total, sizes, [f"{output}/sum" for output in outputs])
        return [
            emit_activation(body, activation, *pair) for pair in zip(pieces, outputs, strict=True)
        ]
    together = emit_activation(body, activation, total, f"{name}/{gates}")
    return split(body, together, sizes, outputs)

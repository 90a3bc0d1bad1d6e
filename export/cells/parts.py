"""Pieces that several cells are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from export.activations import emit_activation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from export.graph import GraphBuilder

    Array = NDArray[Any]


def project(graph: GraphBuilder, x: str, name: str, kernel: Array, bias: Array | None) -> str:
    """`x · kernel + bias` for all timesteps at once, (time, batch, G·u)."""
    product = graph.node("MatMul", [x, graph.constant(f"{name}/kernel", kernel)], f"{name}/product")
    if bias is None:
        return product
    return graph.node("Add", [product, graph.constant(f"{name}/bias", bias)], f"{name}/projection")


def split(
    graph: GraphBuilder, x: str, sizes: Sequence[int], outputs: Sequence[str], axis: int = -1
) -> list[str]:
    """Cut an axis into pieces of the given sizes."""
    return graph.nodes("Split", [x, graph.ints(*sizes)], outputs, axis=axis)


def emit_gates(
    body: GraphBuilder, total: str, units: int, activation: str, outputs: Sequence[str], axis: int
) -> list[str]:
    """Apply one activation to gates that stand side by side along `axis`, `units` wide each.

    Returns the gates, by the names in `outputs`.
    """
    sizes = [units] * len(outputs)
    if activation == "softmax":  # the one that is not elementwise: each gate by itself
        pieces = split(body, total, sizes, [f"{output}/sum" for output in outputs], axis)
        return [
            emit_activation(body, activation, *pair) for pair in zip(pieces, outputs, strict=True)
        ]
    together = emit_activation(body, activation, total, f"{outputs[0]}/activated")
    return split(body, together, sizes, outputs, axis)


def reorder_gates(array: Array, order: Sequence[int]) -> Array:
    """Put the gates along the last axis of `array` into another order."""
    gates = np.split(array, len(order), axis=-1)
    return np.concatenate([gates[i] for i in order], axis=-1)


def reordered(array: Array | None, order: Sequence[int]) -> Array | None:
    """As `reorder_gates`, for a bias that may be missing."""
    return None if array is None else reorder_gates(array, order)


def lstm_gates(
    body: GraphBuilder,
    name: str,
    z: str,
    c: str,
    units: int,
    activation: str,
    recurrent_activation: str,
    axis: int = -1,
) -> list[str]:
    """`c = f∘c + i∘act(z_c)`, `h = o∘act(c)` from the gates' sums, i, f, o, c along `axis`.

    Returns h and c.
    """
    z_ifo, z_c = split(body, z, [3 * units, units], [f"{name}/z_ifo", f"{name}/z_c"], axis)
    outputs = [f"{name}/{gate}" for gate in "ifo"]
    i, f, o = emit_gates(body, z_ifo, units, recurrent_activation, outputs, axis)
    candidate = emit_activation(body, activation, z_c, f"{name}/candidate")
    kept = body.node("Mul", [f, c], f"{name}/kept")
    added = body.node("Mul", [i, candidate], f"{name}/added")
    c = body.node("Add", [kept, added], f"{name}/c")
    squashed = emit_activation(body, activation, c, f"{name}/squashed")
    return [body.node("Mul", [o, squashed], f"{name}/h"), c]


IFOC = (0, 1, 3, 2)  # Keras' i, f, c, o with the three gates together: one activation for all

"""A recurrent layer as one LSTM, GRU or RNN node, which cuDNN runs on the GPU.

No activations, no activation_alpha or _beta and no clip: the ops' defaults are what cuDNN does,
and the mere presence of some of these attributes sends the node to the CPU (forms.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from export.description import Array, Recurrent
    from export.graph import GraphBuilder


def emit_native(
    graph: GraphBuilder,
    x: str,
    layer: Recurrent,
    op_type: str,
    gate_order: Sequence[int],
    attributes: Mapping[str, Any] | None = None,
) -> str:
    """Add the layer as one node and the reshaping around it.

    Args:
        graph: where to.
        x: the input, (time, batch, D).
        layer: weights in Keras' layout and order of gates.
        op_type: "LSTM", "GRU" or "RNN".
        gate_order: for each of ONNX' gates the place of that gate in Keras' order.
        attributes: what the op needs besides hidden_size.

    Returns:
        The output, (time, batch, u). The new states are called `<state>_next`, (batch, u) each.
    """
    name = layer.name
    weights = _weights(graph, layer, gate_order)
    front = graph.constant("axes/0", np.array([0], np.int64))
    direction = graph.constant("axes/1", np.array([1], np.int64))
    # ONNX puts a direction in front of a state, (1, batch, u), and behind time in the output.
    initial = [graph.node("Unsqueeze", [s, front], f"{s}/initial") for s in layer.states]
    finals = [f"{s}/final" for s in layer.states]
    sequence, sequence_lens = f"{name}/sequence", ""  # "" is an input that is not there
    graph.nodes(
        op_type,
        [x, *weights, sequence_lens, *initial],
        [sequence, *finals],
        hidden_size=layer.units,
        **(attributes or {}),
    )
    for state, final in zip(layer.states, finals, strict=True):
        graph.node("Squeeze", [final, front], f"{state}_next")
    return graph.node("Squeeze", [sequence, direction], f"{name}/output")


def _weights(graph: GraphBuilder, layer: Recurrent, gate_order: Sequence[int]) -> list[str]:
    """W (1, G·u, D), R (1, G·u, u) and B (1, 2·G·u), as initialisers: cuDNN caches only those."""
    name = layer.name
    w = reorder_gates(layer.kernel, gate_order).T[np.newaxis]
    r = reorder_gates(layer.recurrent_kernel, gate_order).T[np.newaxis]
    biases = [reorder_gates(b, gate_order) for b in (layer.bias, layer.recurrent_bias)]
    return [
        graph.constant(f"{name}/W", w),
        graph.constant(f"{name}/R", r),
        graph.constant(f"{name}/B", np.concatenate(biases)[np.newaxis]),
    ]


def reorder_gates(array: Array, order: Sequence[int]) -> Array:
    """Put the gates along the last axis of `array` into another order."""
    gates = np.split(array, len(order), axis=-1)
    return np.concatenate([gates[i] for i in order], axis=-1)

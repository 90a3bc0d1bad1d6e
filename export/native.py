"""A recurrent layer as one LSTM, GRU or RNN node, which cuDNN runs on the GPU.

For cuDNN there are no activations, no activation_alpha or _beta and no clip: the ops' defaults are
what it does, and the mere presence of some of these attributes sends the node to the CPU
(forms.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from export.cells.parts import reorder_gates
from export.cells.plain import input_bias, recurrent_bias
from export.cells.recurrence import array, named
from export.forms import op_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from export.cells import Reads
    from export.graph import GraphBuilder

# For each of ONNX' gates the place of that gate in Keras' order.
_GATES = {"RNN": (0,), "GRU": (0, 1, 2), "LSTM": (0, 3, 1, 2)}
_DEFAULTS = {"RNN": ("tanh",), "GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
_ONNX = {
    "tanh": ("Tanh", None),
    "sigmoid": ("Sigmoid", None),
    "relu": ("Relu", None),
    "hard_sigmoid": ("HardSigmoid", (0.2, 0.5)),
    "hard_sigmoid_keras3": ("HardSigmoid", (1 / 6, 0.5)),
}


def emit_native(
    graph: GraphBuilder,
    cell: Any,
    name: str,
    reads: Reads,
    finals: Sequence[str],
    *,
    backwards: bool,
    sequences: bool,
) -> str:
    """Add the cell over time as one node and the reshaping around it.

    Returns the outputs, (time, batch, u) in the order in which they are computed, or the last one,
    (batch, u). The new states are called `finals`, (batch, u) each.
    """
    op, front = op_of(cell), graph.ints(0)
    # ONNX puts a direction in front of a state, (1, batch, u), and behind time in the output.
    initial = [
        graph.node("Unsqueeze", [state, front], f"{name}/initial/{index}")
        for index, state in enumerate(reads.states)
    ]
    last = [f"{name}/final/{index}" for index, _ in enumerate(finals)]
    sequence, sequence_lens = f"{name}/sequence", ""  # "" is an input that is not there
    graph.nodes(
        op,
        [reads.x, *_weights(graph, cell, name, op), sequence_lens, *initial],
        [sequence if sequences else "", *last],
        hidden_size=cell.units,
        **({"direction": "reverse"} if backwards else {}),
        **({"linear_before_reset": int(cell.reset_after)} if op == "GRU" else {}),
        **_activations(cell, op),
    )
    for state, final in zip(last, finals, strict=True):
        graph.node("Squeeze", [state, front], final)
    if not sequences:
        return finals[0]
    output = graph.node("Squeeze", [sequence, graph.ints(1)], f"{name}/output")
    if not backwards:
        return output
    return graph.flipped(output, f"{name}/processed")  # the last timestep first


def _weights(graph: GraphBuilder, cell: Any, name: str, op: str) -> list[str]:
    """W (1, G·u, D), R (1, G·u, u) and B (1, 2·G·u), as initialisers: cuDNN caches only those."""
    order = _GATES[op]
    w, r = (reorder_gates(array(k), order).T[np.newaxis] for k in cell.kernels())
    bias, zeros = input_bias(cell), np.zeros(len(order) * cell.units, np.float32)
    biases = [zeros if bias is None else bias, recurrent_bias(cell) if op == "GRU" else zeros]
    both = np.concatenate([reorder_gates(b, order) for b in biases])
    return [
        graph.constant(f"{name}/W", w),
        graph.constant(f"{name}/R", r),
        graph.constant(f"{name}/B", both[np.newaxis]),
    ]


def _activations(cell: Any, op: str) -> dict[str, Any]:
    """Nothing where they are the op's own."""
    activation = named(cell.activation)
    gates = () if op == "RNN" else (named(cell.recurrent_activation),)
    wanted = (*gates, activation, *((activation,) if op == "LSTM" else ()))
    if wanted == _DEFAULTS[op]:
        return {}
    known = [_ONNX[each] for each in wanted]
    slopes = [slope for _, slope in known if slope is not None]
    attributes: dict[str, Any] = {"activations": [each for each, _ in known]}
    if slopes:
        attributes["activation_alpha"] = [alpha for alpha, _ in slopes]
        attributes["activation_beta"] = [beta for _, beta in slopes]
    return attributes

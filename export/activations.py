"""Keras' activations as ONNX nodes, all of them ops that have a CUDA kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from export.errors import UnsupportedLayer

if TYPE_CHECKING:
    from export.graph import GraphBuilder

_OPS: dict[str, tuple[str, dict[str, Any]]] = {
    "elu": ("Elu", {"alpha": 1.0}),
    "exponential": ("Exp", {}),
    # Keras 2: clip(0.2 x + 0.5, 0, 1). The attributes are ONNX' defaults, written for the reader.
    "hard_sigmoid": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    "hard_sigmoid_keras3": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "relu": ("Relu", {}),
    "selu": ("Selu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
}


def emit_activation(graph: GraphBuilder, activation: str, x: str, output: str) -> str:
    """Apply an activation by its Keras name; returns the tensor that holds the result.

    "linear" adds no node and returns `x`.

    Raises:
        UnsupportedLayer: there is no such activation.
    """
    if activation == "linear":
        return x
    if activation not in _OPS:
        known = ", ".join(sorted([*_OPS, "linear"]))
        raise UnsupportedLayer(f"activation {activation!r} has no ONNX form here; known: {known}")
    op_type, attributes = _OPS[activation]
    return graph.node(op_type, [x], output, **attributes)

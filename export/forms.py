"""Which ONNX form each recurrent layer takes: the one place that decides.

ONNX Runtime's CUDA provider runs LSTM, GRU and RNN through cuDNN only as follows; anything else
it hands to the CPU, silently, in the middle of a graph that is otherwise on the GPU
(`RNNNeedFallbackToCPU` in its cuda_execution_provider.cc):

| op   | activations            | further                                        |
|------|------------------------|------------------------------------------------|
| LSTM | sigmoid, tanh, tanh    | no peepholes, no input_forget                  |
| GRU  | sigmoid, tanh          | linear_before_reset=1 (Keras: reset_after)     |
| RNN  | tanh                   |                                                |
| all  |                        | no clip, activation_alpha or activation_beta   |

So the family's default, hard_sigmoid gates, takes the other form: a Scan over time whose input
projection is hoisted out as one MatMul, its step decomposed into ops that have CUDA kernels.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from export.description import Kind

if TYPE_CHECKING:
    from export.description import Recurrent


class Form(Enum):
    """How a recurrent layer is written in ONNX."""

    NATIVE = "one LSTM, GRU or RNN node"
    SCAN = "Scan over a decomposed step"


def form_of(layer: Recurrent) -> Form:
    """The form that stays on the CUDA provider, the fused one where there is a choice."""
    match layer.kind:
        case Kind.LSTM:
            fused = _gates_are(layer, "sigmoid", "tanh")
        case Kind.GRU:
            fused = _gates_are(layer, "sigmoid", "tanh") and layer.reset_after
        case Kind.SIMPLE_RNN:
            fused = layer.activation == "tanh"
    return Form.NATIVE if fused else Form.SCAN


def _gates_are(layer: Recurrent, recurrent_activation: str, activation: str) -> bool:
    return (layer.recurrent_activation, layer.activation) == (recurrent_activation, activation)

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

So for CUDA the family's default, hard_sigmoid gates, takes the other form: a Scan over time whose
input projection is hoisted out as one MatMul, its step decomposed into ops that have CUDA kernels.
On the CPU the native node does hard_sigmoid as well; how the two compare there is in
docs/decisions/0008-onnx-forms.md.

Masks need a step that can be stopped row by row (`sequence_lens` knows padding on the right only,
and wipes the state of a row of length 0), so a masked layer is always a loop.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import models
from export.cells.recurrence import Unnamed, named
from models.cells import CuDNNGRUCell, CuDNNLSTMCell

Target = Literal["cuda", "cpu"]

_OPS: dict[type, str] = {
    models.SimpleRNNCell: "RNN",
    models.LSTMCell: "LSTM",
    CuDNNLSTMCell: "LSTM",
    models.GRUCell: "GRU",
    CuDNNGRUCell: "GRU",
}
_ON_CPU = ("sigmoid", "hard_sigmoid", "hard_sigmoid_keras3", "tanh", "relu")


class Form(Enum):
    """How a recurrent layer is written in ONNX."""

    NATIVE = "one LSTM, GRU or RNN node"
    LOOP = "a decomposed step, in a Scan over time"


def form_of(cell: Any, target: Target, *, masked: bool = False, one_step: bool = False) -> Form:
    """The fused form where the target has it and nothing else forbids it."""
    op = _OPS.get(type(cell))
    if op is None or masked:
        return Form.LOOP
    try:
        activation = named(cell.activation)
        gates = None if op == "RNN" else named(cell.recurrent_activation)
    except Unnamed:
        return Form.LOOP
    if _fused_by_cudnn(cell, op, gates, activation):
        return Form.NATIVE
    native = target == "cpu" and not one_step
    fits = activation in _ON_CPU and (gates is None or gates in _ON_CPU)
    return Form.NATIVE if native and fits else Form.LOOP


def op_of(cell: Any) -> str:
    """The native op for a cell that `form_of` gives one."""
    return _OPS[type(cell)]


def _fused_by_cudnn(cell: Any, op: str, gates: str | None, activation: str) -> bool:
    if activation != "tanh" or gates not in (None, "sigmoid"):
        return False
    return op != "GRU" or bool(cell.reset_after)

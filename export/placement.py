"""Which nodes ONNX Runtime's CUDA provider would run, told from the graph alone.

Two sources: for ordinary ops the table "Operators implemented by CUDAExecutionProvider" in ONNX
Runtime's docs/OperatorKernels.md, of which `CUDA_OPS` lists what our emitters use, for float32 at
opset 18; for the recurrent ops the conditions under which the provider accepts them (forms.py).
A node that this file does not know counts as one that falls back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Iterator

# The last opset whose LSTM, GRU and RNN are those of opset 14, for which the provider has kernels.
LAST_OPSET = 21
_ARITHMETIC = {"Add", "Div", "Gemm", "MatMul", "Mul", "Sub"}
_SHAPES = {"Identity", "Split", "Squeeze", "Transpose", "Unsqueeze"}
_SMOOTH = {"Exp", "Selu", "Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh"}
_PIECEWISE = {"Elu", "HardSigmoid", "Relu"}
CUDA_OPS = frozenset(_ARITHMETIC | _SHAPES | _SMOOTH | _PIECEWISE | {"Scan"})
_CUDNN_ACTIVATIONS = {
    "LSTM": ["sigmoid", "tanh", "tanh"],
    "GRU": ["sigmoid", "tanh"],
    "RNN": ["tanh"],
}
_REFUSED_ATTRIBUTES = ("activation_alpha", "activation_beta", "clip", "layout")
_WEIGHTS = {1: "W", 2: "R", 3: "B"}
_PEEPHOLES = 7


@dataclass(frozen=True, slots=True)
class Fallback:
    """A node that would run on the CPU, or not through cuDNN's cache of weights."""

    node: str
    op_type: str
    reason: str


@dataclass(frozen=True, slots=True)
class Placement:
    """How many nodes a model has, those inside loops included, and which leave the GPU."""

    nodes: int
    fallbacks: tuple[Fallback, ...]

    def __str__(self) -> str:
        if not self.fallbacks:
            return f"all {self.nodes} nodes stay on the CUDA provider"
        named = "; ".join(f"{f.node} ({f.op_type}): {f.reason}" for f in self.fallbacks)
        return f"{len(self.fallbacks)} of {self.nodes} nodes leave the CUDA provider: {named}"


def placement_of(model: onnx.ModelProto) -> Placement:
    """Look at every node of a float32 model, inside loops too."""
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = list(_all_nodes(model.graph))
    reasons = ((node, _reason(node, opset, constants)) for node in nodes)
    fallbacks = (Fallback(n.name, n.op_type, reason) for n, reason in reasons if reason)
    return Placement(len(nodes), tuple(fallbacks))


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attribute.g)


def _reason(node: onnx.NodeProto, opset: int, constants: set[str]) -> str | None:
    """Why the node falls back; None if it does not."""
    if node.op_type in _CUDNN_ACTIVATIONS and not node.domain:
        return _recurrent_reason(node, opset, constants)
    if node.op_type in CUDA_OPS and not node.domain:
        return None
    return "not in the list of ops with a CUDA kernel"


def _recurrent_reason(node: onnx.NodeProto, opset: int, constants: set[str]) -> str | None:
    if opset > LAST_OPSET:
        return f"opset {opset} has no CUDA kernel for it, {LAST_OPSET} has"
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    refused = [name for name in _REFUSED_ATTRIBUTES if name in given]
    if refused:
        return f"cuDNN takes no {', '.join(refused)}"
    activations = [name.decode().lower() for name in given.get("activations", [])]
    fused = _CUDNN_ACTIVATIONS[node.op_type]
    if any(name != fused[i % len(fused)] for i, name in enumerate(activations)):
        return f"cuDNN has {', '.join(fused)} only"
    if node.op_type == "GRU" and given.get("linear_before_reset", 0) != 1:
        return "cuDNN's GRU has linear_before_reset=1 only"
    if given.get("input_forget", 0) != 0:
        return "cuDNN takes no input_forget"
    if len(node.input) > _PEEPHOLES and node.input[_PEEPHOLES]:
        return "cuDNN takes no peepholes"
    variable = [
        w
        for i, w in _WEIGHTS.items()
        if node.input[i : i + 1] not in ([], [""]) and node.input[i] not in constants
    ]
    return f"{', '.join(variable)} must be initialisers" if variable else None

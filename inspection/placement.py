"""Which nodes ONNX Runtime's CUDA provider would run, told from the graph alone.

A node runs on CUDA if the provider has a kernel for its op, version and element types (kernels.py),
with three exceptions of ONNX Runtime's own:

- LSTM, GRU and RNN go through cuDNN under conditions only (`RNNNeedFallbackToCPU` in its
  cuda_execution_provider.cc), else to the CPU, in the middle of a graph that is on the GPU:

      | op   | activations          | further                           |
      |------|----------------------|-----------------------------------|
      | LSTM | sigmoid, tanh, tanh  | no peepholes, no input_forget     |
      | GRU  | sigmoid, tanh        | linear_before_reset=1             |
      | RNN  | tanh                 |                                   |
      | all  |                      | no clip, no activation_alpha/beta |

- Casts from and to strings stay on the CPU.
- What computes with shapes stays on the CPU by design (`GetCpuPreferredNodes`): a few integers that
  the CPU has anyway. Such nodes are counted, and are no fallbacks.

An element type that shape inference cannot tell is taken to be one that the kernel has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper, inliner

from inspection.kernels import cuda_kernels
from inspection.reading import inferred
from inspection.schemas import schema_of
from inspection.shape_arithmetic import constants_of, shape_arithmetic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from inspection.kernels import Kernel

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
    """How many nodes a model has, those inside loops and functions included, and which leave the
    GPU. `on_shapes` of the nodes stay on the CPU by design; of `untyped` an element type is unknown
    and taken to be fine.
    """

    nodes: int
    fallbacks: tuple[Fallback, ...]
    on_shapes: int = 0
    untyped: int = 0

    def __str__(self) -> str:
        by_design = ""
        if self.on_shapes:
            by_design = f" ({self.on_shapes} that compute with shapes stay on the CPU by design)"
        if not self.fallbacks:
            return f"all {self.nodes} nodes stay on the CUDA provider{by_design}"
        named = "; ".join(f"{f.node} ({f.op_type}): {f.reason}" for f in self.fallbacks)
        return (
            f"{len(self.fallbacks)} of {self.nodes} nodes leave the CUDA provider{by_design}:"
            f" {named}"
        )


def placement_of(model: onnx.ModelProto) -> Placement:
    """Look at every node of a model: main graph, bodies of Scan, Loop and If, functions."""
    model = inliner.inline_local_functions(model) if model.functions else model
    opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
    by_design = shape_arithmetic(model.graph)
    fallbacks: list[Fallback] = []
    count = untyped = 0
    for node, types, constants in _all_nodes(inferred(model).graph, {}, frozenset()):
        count += 1
        if by_design.isdisjoint(node.output):
            reason = _reason(node, opsets, types, constants)
            if reason:
                fallbacks.append(Fallback(node.name or node.output[0], node.op_type, reason))
            untyped += any(not types.get(name) for name in (*node.input, *node.output) if name)
    return Placement(count, tuple(fallbacks), _count(model.graph, by_design), untyped)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _all_nodes(
    graph: onnx.GraphProto, outer: Mapping[str, str], outer_constants: frozenset[str]
) -> Iterator[tuple[onnx.NodeProto, Mapping[str, str], frozenset[str]]]:
    """Each node with the element types of all values it can see, and the names of constants."""
    types = {**outer, **dict(_types(graph))}
    constants = outer_constants | constants_of(graph, outer_constants)
    for node in graph.node:
        yield node, types, constants
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _all_nodes(inner, types, constants)


def _types(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type:
            yield value.name, _type_name(value.type.tensor_type.elem_type)
    for tensor in graph.initializer:
        yield tensor.name, _type_name(tensor.data_type)


def _type_name(elem_type: int) -> str:
    """As kernels are registered: "float", "int64", "float8e4m3fn"."""
    return onnx.TensorProto.DataType.Name(elem_type).lower()


def _reason(
    node: onnx.NodeProto,
    opsets: Mapping[str, int],
    types: Mapping[str, str],
    constants: frozenset[str],
) -> str | None:
    """Why the node falls back; None if it does not."""
    domain = _domain(node.domain)
    opset = opsets.get(domain, 1)
    kernels = cuda_kernels().get((domain, node.op_type))
    if kernels is None:
        if (domain, node.op_type) == ("", "Constant"):  # becomes an initialiser at load
            return None
        return "CUDA has no kernel for this op"
    schema = schema_of(node.op_type, domain, opset)
    if schema is None:
        return f"opset {opset} has no such op"
    fitting = [kernel for kernel in kernels if kernel.takes_version(schema.since)]
    if not fitting:
        return f"CUDA has no kernel for its definition of opset {schema.since}"
    given = [
        (key, types[value])
        for keys, value in schema.name_types(node)
        for key in keys
        if types.get(value)
    ]
    wrong = min((_refused_types(kernel, given) for kernel in fitting), key=len)
    if wrong:
        return f"CUDA has no kernel for it with {', '.join(sorted(wrong))}"
    return _recurrent_reason(node, constants) if node.op_type in _CUDNN_ACTIVATIONS else None


def _refused_types(kernel: Kernel, given: list[tuple[str, str]]) -> set[str]:
    """The element types of a node that a kernel does not take."""
    return {found for key, found in given if found not in kernel.types.get(key, {found})}


def _recurrent_reason(node: onnx.NodeProto, constants: frozenset[str]) -> str | None:
    given: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    refused = [name for name in _REFUSED_ATTRIBUTES if name in given and name != "layout"]
    if given.get("layout", 0) != 0:
        refused.append("layout")
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


def _count(graph: onnx.GraphProto, outputs: set[str]) -> int:
    own = sum(not outputs.isdisjoint(node.output) for node in graph.node)
    return own + sum(
        _count(inner, outputs)
        for node in graph.node
        for attribute in node.attribute
        for inner in (attribute.g, *attribute.graphs)
    )

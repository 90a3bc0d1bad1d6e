"""The nodes that compute with shapes: they stay on the CPU by ONNX Runtime's own design.

Its rule (`GetCpuPreferredNodes`): the provider's Shape and Size leave their result in CPU memory; a
node all of whose inputs come from there, or are small constants, follows them, unless its kernel
takes that input from the CPU anyway, as Reshape takes the new shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

_SOURCES = {"Shape", "Size"}
_RANDOM = {
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"),
    *("RandomUniform", "RandomUniformLike"),
}
# Positions of inputs that CUDA kernels read in CPU memory.
_CPU_INPUTS = {
    "ConstantOfShape": {0},
    "Expand": {1},
    "If": {0},
    "Loop": {0, 1},
    "OneHot": {1},
    "Pad": {1},
    "Range": {0, 1, 2},
    "Reshape": {1},
    "Resize": {1, 2, 3},
    "Slice": {1, 2, 3, 4},
    "Split": {1},
    "Tile": {1},
    "TopK": {1},
}


def shape_arithmetic(graph: onnx.GraphProto) -> set[str]:
    """The outputs of all nodes that stay on the CPU so, those in inner graphs included."""
    on_cpu: set[str] = set()
    results: set[str] = set()
    for node, constants in _in_order(graph, frozenset()):
        if node.op_type in _SOURCES:
            on_cpu.update(node.output)  # the node itself is the provider's
        elif _follows(node, on_cpu, constants):
            on_cpu.update(node.output)
            results.update(node.output)
    return results


def constants_of(graph: onnx.GraphProto, outer: frozenset[str]) -> frozenset[str]:
    """The values that are always the same: initialisers, and what is computed from such alone,
    which ONNX Runtime does once, at load. `outer` are those of the graphs around.
    """
    known = set(outer) | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        fixed = node.op_type not in _RANDOM and all(name in known for name in node.input if name)
        if fixed and not any(attribute.HasField("g") for attribute in node.attribute):
            known.update(node.output)
    return frozenset(known)


def _follows(node: onnx.NodeProto, on_cpu: set[str], constants: frozenset[str]) -> bool:
    if any(attribute.HasField("g") for attribute in node.attribute):
        return False
    read_there = _CPU_INPUTS.get(node.op_type, set())
    variable = [(i, name) for i, name in enumerate(node.input) if name and name not in constants]
    return bool(variable) and all(
        name in on_cpu and position not in read_there for position, name in variable
    )


def _in_order(
    graph: onnx.GraphProto, outer: frozenset[str]
) -> Iterator[tuple[onnx.NodeProto, frozenset[str]]]:
    """The nodes of a graph as they stand, each followed by those of its inner graphs, with the
    constants that it sees.
    """
    constants = constants_of(graph, outer)
    for node in graph.node:
        yield node, constants
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _in_order(inner, constants)

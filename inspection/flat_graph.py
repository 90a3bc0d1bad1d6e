"""A model's graph laid flat: functions inlined, the bodies of If, Loop and Scan part of the whole.

Nodes that keep a state say so: an LSTM's `initial_h` enters a **slot** of it, and what the slot
holds at the end leaves at `Y_h`; likewise the values that a Loop or Scan carries from turn to turn.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnx import inliner

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

Key = tuple[int, str]  # the scope that defines a value, and its name there
Slot = tuple[int, int]  # a node, and which of its states

# The states of an op: the position of the initial one among its inputs, and of the last one among
# its outputs.
RECURRENT = {
    "LSTM": {5: 1, 6: 2},
    "GRU": {5: 1},
    "RNN": {5: 1},
    "DynamicQuantizeLSTM": {5: 1, 6: 2},
}


@dataclass(slots=True)
class Node:
    """`enters` are slots that an input enters, `leaves` the slot that an output comes from."""

    op_type: str
    inputs: list[Key]
    outputs: list[Key]
    enters: dict[Key, list[Slot]] = field(default_factory=dict)
    leaves: dict[Key, Slot] = field(default_factory=dict)


class FlatGraph:
    """`nodes` stand in an order in which values are made before they are used; `producers` has
    those that make a value, of an If one for each branch.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        model = inliner.inline_local_functions(model) if model.functions else model
        self.nodes: list[Node] = []
        self._scopes = 0
        scope = self._flatten(model.graph, {})
        self.inputs = {value.name: scope[value.name] for value in model.graph.input}
        self.outputs = {v.name: scope[v.name] for v in model.graph.output if v.name in scope}
        self.producers: dict[Key, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for key in node.outputs:
                self.producers[key].append(node)

    def _flatten(self, graph: onnx.GraphProto, outer: Mapping[str, Key]) -> dict[str, Key]:
        """Append the nodes of a graph; returns the names that are known in it at its end."""
        number, self._scopes = self._scopes, self._scopes + 1
        scope = dict(outer)
        own = [value.name for value in graph.input] + [tensor.name for tensor in graph.initializer]
        scope.update((name, (number, name)) for name in own)
        for node in graph.node:
            inputs = [scope[name] for name in node.input if name in scope]
            outputs = [(number, name) for name in node.output]
            for attribute in node.attribute:
                for body in (attribute.g, *attribute.graphs):
                    if body.output:
                        self._flatten_body(node, body, scope, outputs)
            if node.op_type not in ("If", "Loop", "Scan"):
                self.nodes.append(_node(node, inputs, outputs, scope, len(self.nodes)))
            scope.update((name, (number, name)) for name in node.output)
        return scope

    def _flatten_body(
        self,
        node: onnx.NodeProto,
        body: onnx.GraphProto,
        scope: Mapping[str, Key],
        outputs: list[Key],
    ) -> None:
        """A body's inputs come from the node's, its outputs go to the node's."""
        skipped = 1 if node.op_type == "Loop" else 0  # of the body's outputs: the condition
        carried = _carried(node, body)
        entry = len(self.nodes)
        body_scope = self._scopes  # the number that _flatten will give it
        given = [scope.get(name) for name in node.input]
        given = given[len(given) - len(body.input) :]  # before opset 9 a Scan has lengths in front
        for position, (source, value) in enumerate(zip(given, body.input, strict=False)):
            if source is None:
                continue
            copy = Node("Identity", [source], [(body_scope, value.name)])
            index = position - 2 * skipped  # a Loop's first two are its count and condition
            if index in range(carried):
                copy.enters = {source: [(entry, index)]}
            self.nodes.append(copy)
        inner = self._flatten(body, scope)
        for index, (value, output) in enumerate(
            zip(list(body.output)[skipped:], outputs, strict=False)
        ):
            if value.name in inner:
                copy = Node("Identity", [inner[value.name]], [output])
                if index < carried:
                    copy.leaves = {output: (entry, index)}
                self.nodes.append(copy)


def _carried(node: onnx.NodeProto, body: onnx.GraphProto) -> int:
    """How many values a Loop or Scan hands from turn to turn."""
    if node.op_type == "Loop":
        return len(body.input) - 2
    if node.op_type == "Scan":
        scanned = next(a.i for a in node.attribute if a.name == "num_scan_inputs")
        return len(body.input) - scanned
    return 0


def _node(
    node: onnx.NodeProto,
    inputs: list[Key],
    outputs: list[Key],
    scope: Mapping[str, Key],
    number: int,
) -> Node:
    flat = Node(node.op_type, inputs, outputs)
    for position, output in RECURRENT.get(node.op_type, {}).items():
        if len(node.input) > position and node.input[position] in scope:
            flat.enters.setdefault(scope[node.input[position]], []).append((number, position))
        if len(outputs) > output:
            flat.leaves[outputs[output]] = (number, position)
    return flat

"""How data runs from a graph's inputs to its outputs: evidence for which output continues which
input.

The graph is laid flat first: bodies of If, Loop and Scan become part of it, local functions are
inlined. Then each input is asked how it reaches each output:

- **slots**: places where an op itself keeps a state, such as `initial_h` of an LSTM, whose value
  leaves again at `Y_h`; likewise the carried values of Loop and Scan;
- **moves**: through ops alone that only rearrange elements (a buffer that is shifted);
- **carries**: through sums and products alone, at least one sum among them (`z * h + (1 - z) * n`);
- **depends**: at all.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from onnx import inliner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

Key = tuple[int, str]  # the scope that defines a value, and its name there
Slot = tuple[int, int]  # a node, and which of its states

# The position of the elements that these ops rearrange; Concat takes them from all its inputs.
_MOVING = {
    *("Cast", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Pad", "Reshape"),
    *("Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Tile", "ScatterND"),
}
_SUMS = {"Add", "Sub", "Sum", "Where", "Mean"}
_PRODUCTS = {"Mul", "Div", "Clip", "Min", "Max", "Neg"}
_RECURRENT = {"LSTM": {5: 1, 6: 2}, "GRU": {5: 1}, "RNN": {5: 1}}  # initial state → its output


class Reach(IntEnum):
    """How an input reaches an output; the greater, the better evidence of a state."""

    NOT = 0
    DEPENDS = 1
    CARRIES = 2
    MOVES = 3
    SLOT = 4


@dataclass(slots=True)
class _Node:
    op_type: str
    inputs: list[Key]
    outputs: list[Key]
    enters: dict[Key, list[Slot]] = field(default_factory=dict)
    leaves: dict[Key, Slot] = field(default_factory=dict)


class Flow:
    """The flat graph of a model, and what its inputs reach."""

    def __init__(self, model: onnx.ModelProto) -> None:
        model = inliner.inline_local_functions(model) if model.functions else model
        self._nodes: list[_Node] = []
        self._scopes = 0
        scope = self._flatten(model.graph, {})
        self._producers: dict[Key, list[_Node]] = defaultdict(list)  # of an If: one per branch
        for node in self._nodes:
            for key in node.outputs:
                self._producers[key].append(node)
        self._inputs = {value.name: scope[value.name] for value in model.graph.input}
        self._entered = {name: self._slots_entered(key) for name, key in self._inputs.items()}
        self._reached = {
            value.name: self._reach_backwards(scope[value.name])
            for value in model.graph.output
            if value.name in scope
        }

    def reach(self, input_name: str, output_name: str) -> Reach:
        """How the output follows from the input."""
        return self._reached.get(output_name, {}).get(self._inputs[input_name], Reach.NOT)

    def _reach_backwards(self, output: Key) -> dict[Key, Reach]:
        """For every value before `output`: the best way in which it gets there."""
        found: dict[Key, Reach] = {}
        moved_slots: set[Slot] = set()
        carried_slots: set[Slot] = set()
        # (value, all so far moved elements only, all so far sums and products, a sum among them)
        queue = deque([(output, True, True, False)])
        seen = set(queue)
        while queue:
            key, moves, carries, summed = queue.popleft()
            reach = Reach.DEPENDS
            if moves:
                reach = Reach.MOVES
            elif carries and summed:
                reach = Reach.CARRIES
            found[key] = max(found.get(key, Reach.NOT), reach)
            for node in self._producers[key]:
                if carries and key in node.leaves:
                    (moved_slots if moves else carried_slots).add(node.leaves[key])
                is_sum = node.op_type in _SUMS
                of_sums = is_sum or node.op_type in _PRODUCTS
                for source, moved in _sources(node):
                    step = (
                        source,
                        moves and moved,
                        carries and (moved or of_sums),
                        summed or is_sum,
                    )
                    if step not in seen:
                        seen.add(step)
                        queue.append(step)
        for name, key in self._inputs.items():
            if moved_slots & self._entered[name]:
                found[key] = Reach.SLOT
            elif carried_slots & self._entered[name]:
                found[key] = max(found.get(key, Reach.NOT), Reach.CARRIES)
        return found

    def _slots_entered(self, start: Key) -> set[Slot]:
        """The slots into which a value goes, moved at most."""
        entered: set[Slot] = set()
        reached = {start}
        for node in self._nodes:  # in an order in which values are made before they are used
            for key in reached & node.enters.keys():
                entered.update(node.enters[key])
            if any(source in reached and moved for source, moved in _sources(node)):
                reached.update(node.outputs)
        return entered

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
                self._nodes.append(_node(node, inputs, outputs, scope, len(self._nodes)))
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
        entry = len(self._nodes)
        body_scope = self._scopes  # the number that _flatten will give it
        given = [scope.get(name) for name in node.input]
        for position, (source, value) in enumerate(zip(given, body.input, strict=False)):
            if source is None:
                continue
            copy = _Node("Identity", [source], [(body_scope, value.name)])
            index = position - 2 * skipped  # a Loop's first two are its count and condition
            if index in range(carried):
                copy.enters = {source: [(entry, index)]}
            self._nodes.append(copy)
        inner = self._flatten(body, scope)
        for index, (value, output) in enumerate(
            zip(list(body.output)[skipped:], outputs, strict=False)
        ):
            if value.name in inner:
                copy = _Node("Identity", [inner[value.name]], [output])
                if index < carried:
                    copy.leaves = {output: (entry, index)}
                self._nodes.append(copy)


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
) -> _Node:
    flat = _Node(node.op_type, inputs, outputs)
    for position, output in _RECURRENT.get(node.op_type, {}).items():
        if len(node.input) > position and node.input[position] in scope:
            flat.enters.setdefault(scope[node.input[position]], []).append((number, position))
        if len(outputs) > output:
            flat.leaves[outputs[output]] = (number, position)
    return flat


def _sources(node: _Node) -> Iterator[tuple[Key, bool]]:
    """The inputs of a node, each with whether it is its elements that are rearranged."""
    for index, source in enumerate(node.inputs):
        first = index == 0 and node.op_type in _MOVING
        yield source, first or node.op_type == "Concat"

"""How data runs from a graph's inputs to its outputs: evidence for which output continues which
input. Each input of the flat graph (flat_graph.py) is asked how it reaches each output:

- **slots**: places where an op itself keeps a state, such as `initial_h` of an LSTM, whose value
  leaves again at `Y_h`; likewise the carried values of Loop and Scan;
- **moves**: through ops alone that only rearrange elements (a buffer that is shifted);
- **carries**: through sums and products alone, at least one sum among them (`z * h + (1 - z) * n`);
- **depends**: at all.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

from inspection.flat_graph import RECURRENT, FlatGraph

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from inspection.flat_graph import Key, Node, Slot

# The position of the elements that these ops rearrange; Concat takes them from all its inputs.
_MOVING = {
    *("Cast", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Pad", "Reshape"),
    *("Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Tile", "ScatterND"),
}
_SUMS = {"Add", "Sub", "Sum", "Where", "Mean"}
_PRODUCTS = {"Mul", "Div", "Clip", "Min", "Max", "Neg"}


class Reach(IntEnum):
    """How an input reaches an output; the greater, the better evidence of a state."""

    NOT = 0
    DEPENDS = 1
    CARRIES = 2
    MOVES = 3
    SLOT = 4


class Flow:
    """The flat graph of a model, and what its inputs reach."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = FlatGraph(model)
        inputs, outputs = self._graph.inputs, self._graph.outputs
        self._entered = {name: self._slots_entered(key) for name, key in inputs.items()}
        self._reached = {name: self._reach_backwards(key) for name, key in outputs.items()}

    def reach(self, input_name: str, output_name: str) -> Reach:
        """How the output follows from the input."""
        return self._reached.get(output_name, {}).get(self._graph.inputs[input_name], Reach.NOT)

    def reached_by(self, output_name: str) -> set[str]:
        """The inputs that an output depends on."""
        found = self._reached.get(output_name, {})
        return {name for name, key in self._graph.inputs.items() if key in found}

    @property
    def recurrent_ops(self) -> list[str]:
        """The kinds of nodes that keep a state: LSTM, GRU."""
        return sorted({node.op_type for node in self._graph.nodes} & RECURRENT.keys())

    def feeds_a_state(self, input_name: str) -> bool:
        """Whether an op keeps it as a state, wherever that ends."""
        return bool(self._entered[input_name])

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
            for node in self._graph.producers[key]:
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
        for name, key in self._graph.inputs.items():
            if moved_slots & self._entered[name]:
                found[key] = Reach.SLOT
            elif carried_slots & self._entered[name]:
                found[key] = max(found.get(key, Reach.NOT), Reach.CARRIES)
        return found

    def _slots_entered(self, start: Key) -> set[Slot]:
        """The slots into which a value goes, moved at most."""
        entered: set[Slot] = set()
        reached = {start}
        for node in self._graph.nodes:
            for key in reached & node.enters.keys():
                entered.update(node.enters[key])
            if any(source in reached and moved for source, moved in _sources(node)):
                reached.update(node.outputs)
        return entered


def _sources(node: Node) -> Iterator[tuple[Key, bool]]:
    """The inputs of a node, each with whether it is its elements that are rearranged."""
    for index, source in enumerate(node.inputs):
        first = index == 0 and node.op_type in _MOVING
        yield source, first or node.op_type == "Concat"

"""Any other cell: its `call`, translated by torch's exporter, as the step of the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from export.cells.recurrence import Reads, Recurrence
from export.torch_exporter import BATCH, exported
from models.cells.like import accepted, output_shape

if TYPE_CHECKING:
    from export.graph import GraphBuilder

_ROWS = 3  # any number but 0 and 1, which the exporter takes for constants


class _Step(nn.Module):
    """`(x, *states, *constants) → (output, *new states)` of a cell, which may be any object."""

    def __init__(self, cell: Any, states: int) -> None:
        super().__init__()
        self.cell, self.states = cell, states

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        x, rest = tensors[0], tensors[1:]
        states, constants = rest[: self.states], list(rest[self.states :])
        keywords = accepted(self.cell, constants=constants or None, training=False)
        output, new = self.cell.call(x, tuple(states), **keywords)
        # Copies: a graph may not give the same value twice, nor one of its inputs.
        return tuple(tensor.clone() for tensor in (output, *new))


class _InitialOutput(nn.Module):
    """`(*states) → output` of a cell that says what stands before its first step."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, *states: Tensor) -> Tensor:
        initial: Tensor = self.cell.get_initial_output(states)
        return initial.clone()


def custom(graph: GraphBuilder, cell: Any, name: str, reads: Reads) -> Recurrence:
    """Raises UnsupportedLayer where torch cannot export the cell."""
    shapes = [reads.x_shape, *reads.state_shapes, *reads.constant_shapes]
    tensors = [torch.zeros(_ROWS, *shape) for shape in shapes]
    inputs = ["x", *_numbered("state", reads.states), *_numbered("constant", reads.constants)]
    outputs = ["output", *_numbered("new", reads.states)]
    axes = [{0: BATCH}] * len(inputs)
    what = f"layer {name!r}: {type(cell).__name__}"
    step_graph = exported(_Step(cell, len(reads.states)), tensors, axes, inputs, outputs, what)

    def step(body: GraphBuilder, slices: list[str], states: list[str]) -> tuple[str, list[str]]:
        known = dict(zip(inputs, (*slices, *states, *reads.constants), strict=True))
        body.absorb(step_graph, f"{name}/", known)
        output, *new = (f"{name}/{output}" for output in outputs)
        return output, new

    return Recurrence(
        [reads.x],
        step,
        output_shape(cell),
        initial_output=_initial_output(graph, cell, name, reads, what),
    )


def _initial_output(
    graph: GraphBuilder, cell: Any, name: str, reads: Reads, what: str
) -> str | None:
    if not hasattr(cell, "get_initial_output"):
        return None
    tensors = [torch.zeros(_ROWS, *shape) for shape in reads.state_shapes]
    inputs = _numbered("state", reads.states)
    axes = [{0: BATCH}] * len(inputs)
    initial = exported(_InitialOutput(cell), tensors, axes, inputs, ["output"], what)
    known = dict(zip(inputs, reads.states, strict=True))
    graph.absorb(initial, f"{name}/initial/", known)
    return f"{name}/initial/output"


def _numbered(name: str, items: tuple[str, ...]) -> list[str]:
    return [f"{name}_{index}" for index, _ in enumerate(items)]

"""SimpleRNN, GRU and LSTM cells, cuDNN's included: one product with the states per step.

SimpleRNN   h = act(x·W + b + h·U)
LSTM        c = f∘c + i∘act(z_c),  h = o∘act(c)
GRU         h = z∘h + (1-z)∘hh
            hh = act(x_h + (r∘h)·U_h)              reset_after=False
            hh = act(x_h + r∘(h·U_h + b_rh))       reset_after=True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from export.activations import emit_activation
from export.cells.parts import (
    IFOC,
    emit_gates,
    lstm_gates,
    project,
    reorder_gates,
    reordered,
    split,
)
from export.cells.recurrence import Reads, Recurrence, array, check_named, named

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.graph import GraphBuilder
    from models import Cell, GRUCell, LSTMCell, SimpleRNNCell


def input_bias(cell: Cell) -> NDArray[Any] | None:
    """The bias on the side of the inputs, (G·u,), None where the cell has none."""
    bias = cell.input_bias()
    return None if bias is None else array(bias)


def recurrent_bias(cell: GRUCell) -> NDArray[Any]:
    """The bias on the side of the states, (3·u,)."""
    bias = cell.recurrent_bias()
    return np.zeros(3 * cell.units, np.float32) if bias is None else array(bias)


def simple_rnn(graph: GraphBuilder, cell: SimpleRNNCell, name: str, reads: Reads) -> Recurrence:
    """State h."""
    kernel, recurrent = map(array, cell.kernels())
    activation = named(cell.activation)
    projection = project(graph, reads.x, name, kernel, input_bias(cell))
    u = graph.constant(f"{name}/recurrent_kernel", recurrent)

    def step(body: GraphBuilder, slices: list[str], states: list[str]) -> tuple[str, list[str]]:
        total = body.node("Gemm", [states[0], u, slices[0]], f"{name}/sum")
        h = emit_activation(body, activation, total, f"{name}/h")
        return h, [h]

    return Recurrence([projection], step, (cell.units,), output_is=0)


def lstm(graph: GraphBuilder, cell: LSTMCell, name: str, reads: Reads) -> Recurrence:
    """States h, c."""
    kernel, recurrent = map(array, cell.kernels())
    activations = (named(cell.activation), named(cell.recurrent_activation))
    bias = reordered(input_bias(cell), IFOC)
    projection = project(graph, reads.x, name, reorder_gates(kernel, IFOC), bias)
    u = graph.constant(f"{name}/recurrent_kernel", reorder_gates(recurrent, IFOC))

    def step(body: GraphBuilder, slices: list[str], states: list[str]) -> tuple[str, list[str]]:
        z = body.node("Gemm", [states[0], u, slices[0]], f"{name}/z")
        after = lstm_gates(body, name, z, states[1], cell.units, *activations)
        return after[0], after

    return Recurrence([projection], step, (cell.units,), output_is=0)


def gru(graph: GraphBuilder, cell: GRUCell, name: str, reads: Reads) -> Recurrence:
    """State h."""
    kernel, _ = map(array, cell.kernels())
    check_named(cell.activation, cell.recurrent_activation)
    u = cell.units
    projection = project(graph, reads.x, name, kernel, input_bias(cell))
    hoisted = split(graph, projection, [2 * u, u], [f"{name}/x_zr", f"{name}/x_h"])
    inner = _after if cell.reset_after else _before

    def step(body: GraphBuilder, slices: list[str], states: list[str]) -> tuple[str, list[str]]:
        (h,) = states
        z, candidate = inner(body, cell, name, slices, h)
        difference = body.node("Sub", [h, candidate], f"{name}/difference")
        kept = body.node("Mul", [z, difference], f"{name}/mixed")
        h = body.node("Add", [candidate, kept], f"{name}/h")  # as hh + z∘(h - hh): one op less
        return h, [h]

    return Recurrence(hoisted, step, (u,), output_is=0)


def _before(
    body: GraphBuilder, cell: GRUCell, name: str, slices: list[str], h: str
) -> tuple[str, str]:
    x_zr, x_h = slices
    u_zr, u_h = np.split(array(cell.kernels()[1]), [2 * cell.units], axis=-1)
    kernel_zr = body.constant(f"{name}/recurrent_kernel_zr", u_zr)
    kernel_h = body.constant(f"{name}/recurrent_kernel_h", u_h)
    z, r = _gates(body, cell, name, body.node("Gemm", [h, kernel_zr, x_zr], f"{name}/sum_zr"))
    reset = body.node("Mul", [r, h], f"{name}/reset")
    total = body.node("Gemm", [reset, kernel_h, x_h], f"{name}/sum_h")
    return z, emit_activation(body, named(cell.activation), total, f"{name}/candidate")


def _after(
    body: GraphBuilder, cell: GRUCell, name: str, slices: list[str], h: str
) -> tuple[str, str]:
    x_zr, x_h = slices
    kernel = body.constant(f"{name}/recurrent_kernel", array(cell.kernels()[1]))
    bias = body.constant(f"{name}/recurrent_bias", recurrent_bias(cell))
    inner = body.node("Gemm", [h, kernel, bias], f"{name}/inner")
    sizes = [2 * cell.units, cell.units]
    inner_zr, inner_h = split(body, inner, sizes, [f"{name}/inner_zr", f"{name}/inner_h"])
    z, r = _gates(body, cell, name, body.node("Add", [x_zr, inner_zr], f"{name}/sum_zr"))
    reset = body.node("Mul", [r, inner_h], f"{name}/reset")
    total = body.node("Add", [x_h, reset], f"{name}/sum_h")
    return z, emit_activation(body, named(cell.activation), total, f"{name}/candidate")


def _gates(body: GraphBuilder, cell: GRUCell, name: str, total: str) -> list[str]:
    outputs = [f"{name}/z", f"{name}/r"]
    return emit_gates(body, total, cell.units, named(cell.recurrent_activation), outputs, -1)

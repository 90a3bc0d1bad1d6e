"""ConvLSTM2D: the LSTM's equations with convolutions in place of the products (Shi et al. 2015).

Gates and states have the cell's data format, as in torch; ONNX' Conv is channels first, so that
channels_last costs a Transpose on its way in and out. The convolution of the inputs is one Conv
over all timesteps, as if they were a larger batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from export.cells.parts import IFOC, lstm_gates, reorder_gates, reordered
from export.cells.plain import input_bias
from export.cells.recurrence import Reads, Recurrence, array, named
from models.cells.convolution import output_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.graph import GraphBuilder
    from models import ConvLSTM2DCell

_TO_FIRST, _TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
_ROWS_AND_COLS = (2, 3)


def conv_lstm_2d(graph: GraphBuilder, cell: ConvLSTM2DCell, name: str, reads: Reads) -> Recurrence:
    """States h, c, `(batch, rows, cols, filters)` or `(batch, filters, rows, cols)`."""
    kernel, recurrent = (_onnx_kernel(array(k)) for k in cell.kernels())
    activations = (named(cell.activation), named(cell.recurrent_activation))
    last = cell.data_format == "channels_last"
    u = graph.constant(f"{name}/recurrent_kernel", recurrent)
    same = [(size - 1) // 2 for size in cell.kernel_size]
    pads = [
        *same,
        *(size - 1 - before for size, before in zip(cell.kernel_size, same, strict=True)),
    ]

    def step(body: GraphBuilder, slices: list[str], states: list[str]) -> tuple[str, list[str]]:
        h = states[0]
        h = body.node("Transpose", [h], f"{name}/h_first", perm=_TO_FIRST) if last else h
        inner = _conv(body, [h, u], f"{name}/inner", pads, {})
        if last:
            inner = body.node("Transpose", [inner], f"{name}/inner_last", perm=_TO_LAST)
        z = body.node("Add", [slices[0], inner], f"{name}/z")
        after = lstm_gates(
            body, name, z, states[1], cell.filters, *activations, axis=-1 if last else 1
        )
        return after[0], after

    projection = _project(graph, cell, name, reads, kernel)
    return Recurrence([projection], step, reads.state_shapes[0], output_is=0)


def _project(
    graph: GraphBuilder, cell: ConvLSTM2DCell, name: str, reads: Reads, kernel: NDArray[Any]
) -> str:
    """The convolution of the inputs, (time, batch, …) in the data format, for all timesteps."""
    last = cell.data_format == "channels_last"
    shape = graph.constant(f"{name}/image", np.array([-1, *reads.x_shape], np.int64))
    images = graph.node("Reshape", [reads.x, shape], f"{name}/images")
    if last:
        images = graph.node("Transpose", [images], f"{name}/images_first", perm=_TO_FIRST)
    inputs = [images, graph.constant(f"{name}/kernel", kernel)]
    bias = reordered(input_bias(cell), IFOC)
    if bias is not None:
        inputs.append(graph.constant(f"{name}/bias", bias))
    attributes = {"strides": list(cell.strides), "dilations": list(cell.dilation_rate)}
    sizes = reads.x_shape[:2] if last else reads.x_shape[1:]
    y = _conv(graph, inputs, f"{name}/convolved", _pads(cell, sizes), attributes)
    if last:
        y = graph.node("Transpose", [y], f"{name}/convolved_last", perm=_TO_LAST)
    h, axis = reads.state_shapes[0], 2 if last else 0
    image = [*h[:axis], 4 * cell.filters, *h[axis + 1 :]]
    leading = graph.node("Shape", [reads.x], f"{name}/time_and_batch", start=0, end=2)
    after = graph.node("Concat", [leading, graph.ints(*image)], f"{name}/unfolded", axis=0)
    return graph.node("Reshape", [y, after], f"{name}/projection")


def _conv(
    body: GraphBuilder,
    inputs: list[str],
    output: str,
    pads: list[int],
    attributes: dict[str, Any],
) -> str:
    """A convolution; unequal pads as a node of their own, since cuDNN pads both sides alike."""
    if pads[:2] != pads[2:]:
        axes = body.ints(*_ROWS_AND_COLS)
        padded = [inputs[0], body.ints(*pads), "", axes]
        inputs = [body.node("Pad", padded, f"{output}/padded"), *inputs[1:]]
        pads = [0, 0, 0, 0]
    return body.node("Conv", inputs, output, pads=pads, **attributes)


def _pads(cell: ConvLSTM2DCell, sizes: tuple[int, ...]) -> list[int]:
    """Rows and columns in front, then behind: TensorFlow's SAME, the smaller half in front."""
    if cell.padding == "valid":
        return [0, 0, 0, 0]
    before, after = [], []
    for n, k, s, d in zip(sizes, cell.kernel_size, cell.strides, cell.dilation_rate, strict=True):
        steps = output_length(n, k, "same", s, d)
        assert steps is not None
        total = max((steps - 1) * s + d * (k - 1) + 1 - n, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return [*before, *after]


def _onnx_kernel(kernel: NDArray[Any]) -> NDArray[Any]:
    """`(kh, kw, C, 4·filters)`, gates i, f, c, o → `(4·filters, C, kh, kw)`, gates i, f, o, c."""
    return np.ascontiguousarray(reorder_gates(kernel, IFOC).transpose(3, 2, 0, 1))

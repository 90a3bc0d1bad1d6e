"""Cells as ONNX nodes: those of the family directly, any other through torch's exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import models
from export.cells.conv_lstm_2d import conv_lstm_2d
from export.cells.custom import custom
from export.cells.gated_feedback import gated_feedback
from export.cells.plain import gru, lstm, simple_rnn
from export.cells.recurrence import Reads, Recurrence, Unnamed
from models.cells import CuDNNGRUCell, CuDNNLSTMCell

if TYPE_CHECKING:
    from export.graph import GraphBuilder

# Exact types: a subclass may compute anything.
_DIRECT: dict[type, Any] = {
    models.SimpleRNNCell: simple_rnn,
    models.LSTMCell: lstm,
    CuDNNLSTMCell: lstm,
    models.GRUCell: gru,
    CuDNNGRUCell: gru,
    models.ConvLSTM2DCell: conv_lstm_2d,
    models.GatedFeedbackRNNCell: gated_feedback,
}
FAMILY = frozenset(_DIRECT)  # whose output is one of their states


def recurrence_of(graph: GraphBuilder, cell: Any, name: str, reads: Reads) -> Recurrence:
    """Add to `graph` what can be done for all timesteps, and say how a step goes.

    Raises UnsupportedLayer where even torch cannot export the cell.
    """
    direct = _DIRECT.get(type(cell))
    if direct is not None:
        try:
            recurrence: Recurrence = direct(graph, cell, name, reads)
            return recurrence
        except Unnamed:  # an activation of one's own
            pass
    return custom(graph, cell, name, reads)


__all__ = ["FAMILY", "Reads", "Recurrence", "recurrence_of"]

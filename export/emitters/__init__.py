"""Layers as ONNX nodes, one file per kind.

An emitter takes the builder, the name of its input, time-major, and the layer's description; it
adds nodes and returns the name of its output. All of them work on the last axis, so that a stack
transposes only at its two ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.description import Dense, Kind, Normalization, Recurrent
from export.emitters.dense import emit_dense
from export.emitters.gru import emit_gru
from export.emitters.lstm import emit_lstm
from export.emitters.normalization import emit_normalization
from export.emitters.simple_rnn import emit_simple_rnn

if TYPE_CHECKING:
    from export.description import Layer
    from export.graph import GraphBuilder

_RECURRENT = {Kind.SIMPLE_RNN: emit_simple_rnn, Kind.GRU: emit_gru, Kind.LSTM: emit_lstm}


def emit(graph: GraphBuilder, x: str, layer: Layer) -> str:
    """Add `layer` behind tensor `x`; returns the name of its output."""
    match layer:
        case Recurrent():
            return _RECURRENT[layer.kind](graph, x, layer)
        case Dense():
            return emit_dense(graph, x, layer)
        case Normalization():
            return emit_normalization(graph, x, layer)


__all__ = ["emit"]

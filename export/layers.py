"""The layers around the recurrent ones as ONNX nodes.

Inside, time is in front: ONNX' recurrent ops and Scan want it so (layout=1 is not implemented in
ONNX Runtime), and the other layers do not care.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import models
from export.activations import emit_activation
from export.cells.recurrence import Unnamed, array, named
from export.errors import UnsupportedLayer

if TYPE_CHECKING:
    from collections.abc import Callable

    from export.graph import GraphBuilder


@dataclass(frozen=True, slots=True)
class Flow:
    """What goes from layer to layer: `x` (time, batch, …), or (batch, …) where `time` is false,
    and `mask` (time, batch) of bool, true where a timestep counts.
    """

    x: str
    time: bool
    mask: str | None = None


def emit_layer(graph: GraphBuilder, layer: models.Layer, name: str, flow: Flow) -> Flow:
    """Add a layer without states. Raises UnsupportedLayer where it has no form here."""
    # Exact types: a subclass may compute anything.
    emit = _EMITTERS.get(type(layer))
    if emit is None:
        raise UnsupportedLayer(f"layer {name!r}: {type(layer).__name__} has no ONNX form here")
    return emit(graph, layer, name, flow)


def has_form(layer: models.Layer) -> bool:
    """Whether `emit_layer` knows the layer."""
    try:
        return type(layer) in _EMITTERS and bool(
            named(getattr(layer, "activation", None) or _LINEAR)
        )
    except Unnamed:
        return False


def _dense(graph: GraphBuilder, layer: models.Dense, name: str, flow: Flow) -> Flow:
    """`activation(x · kernel + bias)` on the last axis."""
    kernel = graph.constant(f"{name}/kernel", array(layer.kernel))
    y = graph.node("MatMul", [flow.x, kernel], f"{name}/product")
    if layer.use_bias:
        bias = graph.constant(f"{name}/bias", array(layer.bias))
        y = graph.node("Add", [y, bias], f"{name}/sum")
    activation = named(layer.activation)
    return replace(flow, x=emit_activation(graph, activation, y, f"{name}/{activation}"))


def _normalization(graph: GraphBuilder, layer: models.Normalization, name: str, flow: Flow) -> Flow:
    """`(x - mean) / std` with the statistics of the training set."""
    mean = graph.constant(f"{name}/mean", array(layer.mean))
    centred = graph.node("Sub", [flow.x, mean], f"{name}/centred")
    std = graph.constant(f"{name}/std", array(layer.std))
    return replace(flow, x=graph.node("Div", [centred, std], f"{name}/output"))


def _embedding(graph: GraphBuilder, layer: models.Embedding, name: str, flow: Flow) -> Flow:
    """The rows of a table; with `mask_zero` the symbol 0 is padding."""
    table = graph.constant(f"{name}/embeddings", array(layer.embeddings))
    mask = None
    if layer.mask_zero:
        zero = graph.constant(f"{name}/padding", np.zeros((), np.int64))
        padding = graph.node("Equal", [flow.x, zero], f"{name}/is_padding")
        mask = graph.node("Not", [padding], f"{name}/mask")
    return replace(flow, x=graph.node("Gather", [table, flow.x], f"{name}/vectors"), mask=mask)


def _masking(graph: GraphBuilder, layer: models.Masking, name: str, flow: Flow) -> Flow:
    """Zeros where all features are `mask_value`, and the mask that says where."""
    value = graph.constant(f"{name}/mask_value", np.array(layer.mask_value, np.float32))
    equal = graph.node("Equal", [flow.x, value], f"{name}/is_mask_value")
    other = graph.node("Not", [equal], f"{name}/differs")
    numbers = graph.node("Cast", [other], f"{name}/differs_as_number", to=1)
    last = graph.ints(-1)
    any_other = graph.node("ReduceMax", [numbers, last], f"{name}/counts", keepdims=1)
    x = graph.node("Mul", [flow.x, any_other], f"{name}/output")
    flat = graph.node("Squeeze", [any_other, last], f"{name}/counts_as_number")
    return replace(flow, x=x, mask=graph.node("Cast", [flat], f"{name}/mask", to=9))


_LINEAR = models.activations.linear
_EMITTERS: dict[type, Callable[[GraphBuilder, Any, str, Flow], Flow]] = {
    models.Dense: _dense,
    models.Normalization: _normalization,
    models.Embedding: _embedding,
    models.Masking: _masking,
}

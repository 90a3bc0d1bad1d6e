"""Description → ONNX model: inputs, the layers one after the other, outputs, metadata."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from export.config import config_text
from export.emitters import emit
from export.graph import GraphBuilder, to_model
from export.signature import signature_of

if TYPE_CHECKING:
    import onnx

    from export.config import Serving
    from export.description import Description

CONFIG_KEY = "rnnserve.config"
PRODUCER = "rnnserve"


def assemble(description: Description, serving: Serving) -> onnx.ModelProto:
    """The model; its graph has the served name, its metadata the text of config.pbtxt.

    Raises:
        UnsupportedLayer: a layer uses an activation that has no ONNX form here.
    """
    signature = signature_of(description)
    graph = GraphBuilder(serving.name)
    graph.input(signature.input.name, signature.input.shape)
    for state in signature.states:
        graph.input(state.name, state.shape)
    # ONNX' recurrent ops and Scan have time in front (layout=1 is not implemented in ONNX
    # Runtime); Dense and Normalization do not care.
    x = signature.input.name
    if description.time:
        x = graph.node("Transpose", [x], f"{x}/time_major", perm=[1, 0, 2])
    for layer in description.layers:
        x = emit(graph, x, layer)
    if description.time:
        graph.node("Transpose", [x], signature.output.name, perm=[1, 0, 2])
    else:
        graph.node("Identity", [x], signature.output.name)
    graph.output(signature.output.name, signature.output.shape)
    for state in signature.states:
        graph.output(state.output, state.shape)
    return to_model(
        graph,
        producer=(PRODUCER, metadata.version("rnnserve")),
        metadata={CONFIG_KEY: config_text(signature, serving)},
    )

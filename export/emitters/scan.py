"""A recurrent layer as a Scan over time, for what cuDNN does not do.

The input projection of all timesteps is one MatMul before the loop; the step inside the loop is a
product with the recurrent kernel and element-wise ops. The recurrent kernel stays outside the
body, so that a graph viewer shows it beside the layer's other weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.graph import GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from export.description import Array, Recurrent

    Step = Callable[[GraphBuilder, list[str], list[str]], list[str]]


def project(graph: GraphBuilder, x: str, name: str, kernel: Array, bias: Array) -> str:
    """`x · kernel + bias` for all timesteps at once, (time, batch, G·u)."""
    product = graph.node("MatMul", [x, graph.constant(f"{name}/kernel", kernel)], f"{name}/product")
    if not bias.any():
        return product
    return graph.node("Add", [product, graph.constant(f"{name}/bias", bias)], f"{name}/projection")


def split(graph: GraphBuilder, x: str, sizes: Sequence[int], outputs: Sequence[str]) -> list[str]:
    """Cut the last axis into pieces of the given sizes."""
    lengths = graph.constant(f"{outputs[0]}/sizes", np.array(sizes, np.int64))
    return graph.nodes("Split", [x, lengths], outputs, axis=-1)


def emit_scan(
    graph: GraphBuilder,
    layer: Recurrent,
    projections: Sequence[tuple[str, int]],
    step: Step,
) -> str:
    """Add the loop.

    Args:
        graph: where to.
        layer: names, units and states.
        projections: tensors (time, batch, width) that the loop reads a timestep at a time, with
            their width.
        step: `step(body, states, slices) -> new states` adds one timestep to the body, states and
            slices being (batch, u) and (batch, width). The first new state is the output.

    Returns:
        The output, (time, batch, u). The new states are called `<state>_next`, (batch, u) each.
    """
    name, state_shape = layer.name, ("batch", layer.units)
    body = GraphBuilder(f"{name}/step")
    states = [body.input(f"{state}/before", state_shape) for state in layer.states]
    slices = [body.input(f"{tensor}/t", ("batch", width)) for tensor, width in projections]
    after = step(body, states, slices)
    for state in after:
        body.output(state, state_shape)
    # A graph's outputs have different names, so the h that is also a scan output needs a copy.
    body.output(body.node("Identity", [after[0]], f"{name}/output/t"), state_shape)
    outputs = [*(f"{state}_next" for state in layer.states), f"{name}/output"]
    graph.nodes(
        "Scan",
        [*layer.states, *(tensor for tensor, _ in projections)],
        outputs,
        body=body.build(),
        num_scan_inputs=len(projections),
    )
    return outputs[-1]

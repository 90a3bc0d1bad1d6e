"""Any other torch model as a graph: torch's exporter for the model, ours for its recurrent layers.

While the exporter traces, a call of a recurrent layer is one opaque node. Afterwards each of those
gives way to the nodes of the layer's own form. (Traced, a loop over time would be frozen at the
number of timesteps of the example.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from export.cells import Reads
from export.loop import Call
from export.recurrent import emit_cell
from export.torch_exporter import BATCH, TIME, exported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from export.carrier import Carrier
    from export.forms import Target
    from export.graph import GraphBuilder
    from export.interception import RecurrentCall
    from export.plan import Plan
    from export.signature import State
    from export.signature import Tensor as Described
    from models.cells import States

_DOMAIN, _OP = "rnnserve", "Loop"
_SIZES = (3, 5)  # batch and time of the example, neither of which the exporter takes for constant


class _Opaque:
    """A node in place of the loop; remembers the calls by number."""

    def __init__(self) -> None:
        self.calls: list[RecurrentCall] = []

    def __call__(
        self,
        call: RecurrentCall,
        x: Tensor,
        states: States,
        mask: Tensor | None,
        constants: Sequence[Tensor],
    ) -> tuple[Tensor, States]:
        tensors = [x, *states, *([] if mask is None else [mask.bool()]), *constants]
        width = call.layer.shape_of_output((None, None, *call.x_shape))
        output, *final = torch.onnx.ops.symbolic_multi_out(
            f"{_DOMAIN}::{_OP}",
            tensors,
            {"call": len(self.calls)},
            dtypes=[x.dtype, *(state.dtype for state in states)],
            shapes=[(*x.shape[:2], *width), *(tuple(state.shape) for state in states)],
            version=1,
        )
        self.calls.append(call)
        return output, tuple(final)


class _Traceable(nn.Module):
    """`(*inputs, *states) → (*outputs, *new states)`."""

    def __init__(self, carrier: Carrier, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model = carrier.model
        self._carrier, self._inputs, self._outputs = carrier, inputs, outputs
        self.opaque = _Opaque()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = dict(zip(self._inputs, tensors, strict=False))
        self.opaque.calls.clear()
        outputs, states = self._carrier.trace(inputs, tensors[len(inputs) :], self.opaque)
        written = [outputs[name] for name in self._outputs]
        return tuple(tensor.clone() for tensor in (*written, *states))


def emit_traced(graph: GraphBuilder, plan: Plan, target: Target, *, one_step: bool) -> None:
    """Add the model, between the inputs and outputs of the signature, which `graph` has.

    Raises UnsupportedLayer where torch cannot export the model.
    """
    signature, carrier = plan.signature, plan.carrier
    read = [state for state in signature.states if _is_read(plan, state.name)]
    written = [state for state in signature.states if state not in read]
    tensors: list[Described | State] = [*signature.inputs, *read]
    inputs = [tensor.name for tensor in signature.inputs]
    results = [*(t.name for t in signature.outputs), *(s.name for s in written)]
    module = _Traceable(carrier, inputs, results)
    names = [*(t.name for t in signature.outputs), *(s.output for s in (*written, *read))]
    traced = exported(
        module,
        [_example(tensor.shape, tensor.dtype) for tensor in tensors],
        [_axes(tensor.shape) for tensor in tensors],
        [tensor.name for tensor in tensors],
        names,
        type(carrier.model).__name__,
    )
    graph.keep_weights(traced)
    for node in traced.node:
        if node.domain == _DOMAIN:
            call = module.opaque.calls[_number(node)]
            _emit_call(graph, call, node, target, one_step=one_step)
        else:
            graph.append(node)


def _emit_call(
    graph: GraphBuilder,
    call: RecurrentCall,
    node: onnx.NodeProto,
    target: Target,
    *,
    one_step: bool,
) -> None:
    name, rank = call.name, 2 + len(call.x_shape)
    x, *rest = node.input
    count = len(call.state_shapes)
    states, rest = rest[:count], rest[count:]
    mask = rest.pop(0) if call.masked else None
    output, *finals = node.output
    reads = Reads(
        graph.turned(x, f"{name}/x", rank),
        call.x_shape,
        tuple(states),
        call.state_shapes,
        tuple(rest),
        call.constant_shapes,
    )
    run = Call(
        name,
        reads,
        tuple(finals),
        mask=mask and graph.turned(mask, f"{name}/mask", 2),
        backwards=call.layer.go_backwards,
        zero_output=call.zero_output,
        one_step=one_step,
    )
    y = emit_cell(graph, call.layer.cell, run, target)
    width = call.layer.shape_of_output((None, None, *call.x_shape))
    graph.turned(y, output, 2 + len(width))


def _is_read(plan: Plan, state: str) -> bool:
    """Whether a recurrent layer carries it; the others are only written."""
    return any(state in call.states for call in plan.calls)


def _example(shape: tuple[int | str, ...], dtype: str) -> Tensor:
    sizes = dict(zip((BATCH, TIME), _SIZES, strict=True))
    known = [n if isinstance(n, int) else sizes[n] for n in shape]
    return torch.full(known, dtype == "bool", dtype=getattr(torch, dtype))


def _axes(shape: tuple[int | str, ...]) -> dict[int, str]:
    return {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}


def _number(node: onnx.NodeProto) -> int:
    values: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return int(values["call"])

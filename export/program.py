"""A model as a graph that is ready to be written, and what it is to be measured against."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Unpack

from export.chain import emit_chain, is_chain
from export.config import DEFAULT_IDLE_SECONDS, DEFAULT_MAX_BATCH_SIZE, Serving, config_text
from export.errors import ExportError
from export.faithful import check_faithful
from export.graph import GraphBuilder, to_model
from export.options import Options
from export.plan import plan_of
from export.precision import converted, precision_of
from export.traced import emit_traced

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from export.plan import Plan
    from export.precision import Precision
    from export.signature import Signature

CONFIG_KEY = "rnnserve.config"
PRODUCER = "rnnserve"


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """`model` is the graph, `plan` the torch model that it stands for; not yet proven.

    `signature` is that of `model`; `exact` is the graph before it was given its `precision`.
    """

    model: onnx.ModelProto
    signature: Signature
    plan: Plan
    precision: Precision
    exact: onnx.ModelProto

    @property
    def name(self) -> str:
        """Of the served model."""
        return str(self.model.graph.name)


def program(model: nn.Module, **options: Unpack[Options]) -> Program:
    """The graph `(inputs, *states) → (outputs, *states)` of a model.

    Raises:
        UnsupportedLayer: the model is not built, or even torch cannot export it.
        ExportError: a name, a number or an input that does not fit.
    """
    _check(options)
    serving = Serving(
        options.get("name") or _name(model),
        options.get("max_batch_size", DEFAULT_MAX_BATCH_SIZE),
        options.get("idle_seconds", DEFAULT_IDLE_SECONDS),
    )
    precision = precision_of(options.get("dtype", "float32"), options.get("quantize", False))
    plan = plan_of(
        model,
        options.get("inputs"),
        options.get("outputs"),
        mask=options.get("mask", False),
        may_be_cut=options.get("may_be_cut"),
        one_step=options.get("one_step", False),
    )
    check_faithful(plan)
    graph = _graph(plan, serving.name, options)
    exact = to_model(graph, producer=(PRODUCER, metadata.version("rnnserve")))
    made, signature = converted(exact, plan.signature, precision)
    made.metadata_props.add(key=CONFIG_KEY, value=config_text(signature, serving))
    return Program(made, signature, plan, precision, exact)


def _check(options: Options) -> None:
    """Raises TypeError, as for any keyword that there is not, and ExportError."""
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(
            f"no such option: {', '.join(sorted(unknown))}; there are "
            f"{', '.join(Options.__annotations__)}"
        )
    target = options.get("target", "cuda")
    if target not in ("cuda", "cpu"):
        raise ExportError(f"target {target!r}: expected 'cuda' or 'cpu'")


def _graph(plan: Plan, name: str, options: Options) -> GraphBuilder:
    signature, graph = plan.signature, GraphBuilder(name)
    for tensor in signature.inputs:
        graph.input(tensor.name, tensor.shape, tensor.dtype)
    for state in signature.states:
        graph.input(state.name, state.shape, state.dtype)
    emit = emit_chain if is_chain(plan.model) else emit_traced
    one_step = options.get("one_step", False)
    emit(graph, plan, options.get("target", "cuda"), one_step=one_step)
    for tensor in signature.outputs:
        graph.output(tensor.name, tensor.shape, tensor.dtype)
    for state in signature.states:
        graph.output(state.output, state.shape, state.dtype)
    return graph


def _name(model: nn.Module) -> str:
    """A layer's own name, else the class's."""
    name = getattr(model, "name", None)
    return name if isinstance(name, str) else type(model).__name__.lower()

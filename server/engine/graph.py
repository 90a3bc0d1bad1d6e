"""Graph surgery: a model whose states come from a pool of rows and go back to it.

    pool ──Gather(read rows)──▶ state ──▶ the model ──▶ next state ──ScatterND(write rows)──▶ pool

What has its batch axis elsewhere is transposed, so that it comes first outside, and what has other
axes in requests is reshaped; a model without batch axis reads and writes a single row. A constant
of a session goes back as it came. The model's own nodes stay as they are, and so do its inputs and
outputs that are no states.

Whoever runs the graph binds each pool's input and output to the same buffer: ScatterND then writes
its rows in place and copies nothing. Rows that are read and rows that are written are disjoint, so
it does not matter which of the two nodes comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from server import datatypes
from server.engine.axes import from_first, outer_inputs, outer_outputs, to_first
from server.engine.inputs import drop_inputs, fixed_inputs, keep_inputs
from server.engine.opset import WITH_EXPAND, WITH_RESHAPE, WITH_SCATTER, with_opset

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from server.repository.spec import ModelSpec, StateSpec


@dataclass(frozen=True, slots=True)
class ArenaGraph:
    """The model after surgery, and what its new inputs and outputs are called.

    `read_rows` is int64 (batch,); `write_rows` is int64 (batch, 1), the shape that ScatterND wants.
    `pools` maps a state's name to the names of its pool, `(rows, *shape)`, as input and as output.
    Without states all three are empty. `inputs` and `outputs` map names of the spec to what the
    graph calls them. `writers` maps names of nodes that store a state to the state's name.
    """

    model: onnx.ModelProto
    inputs: dict[str, str]
    outputs: dict[str, str]
    read_rows: str = ""
    write_rows: str = ""
    pools: dict[str, tuple[str, str]] = field(default_factory=dict)
    writers: dict[str, str] = field(default_factory=dict)


def with_arena(model: onnx.ModelProto, spec: ModelSpec) -> ArenaGraph:
    """The model that serves `spec.outputs` and nothing else; `model` itself is changed or given up.

    Raises StartupError.
    """
    if (oldest := _oldest_opset(spec)) is not None:
        model = with_opset(model, oldest)
    graph = model.graph
    computed = {state.name for state in spec.kept} | {constant.name for constant in spec.fixed}
    keep_inputs(model, computed.union(tensor.name for tensor in spec.fed))
    drop_inputs(graph, computed)
    _keep_outputs(graph, [tensor.name for tensor in spec.outputs])
    prefix = _free_prefix(graph)
    inputs, first = outer_inputs(graph, spec.fed, prefix)
    outputs, last = outer_outputs(graph, spec.outputs, prefix)
    arena = ArenaGraph(model, inputs, outputs)
    if spec.kept:
        arena = _with_pools(arena, spec, prefix)
    batch_of = arena.read_rows or next(iter(inputs.values()), "")
    _put_first(graph, [*first, *fixed_inputs(spec.fixed, prefix, batch_of)])
    graph.node.extend(last)
    return arena


def _oldest_opset(spec: ModelSpec) -> int | None:
    """The oldest that has the nodes of surgery; None where any will do."""
    if spec.kept:
        return WITH_SCATTER
    if spec.fixed:
        return WITH_EXPAND
    reshapes = any(tensor.graph_shape is not None for tensor in (*spec.inputs, *spec.outputs))
    return WITH_RESHAPE if reshapes else None


def _with_pools(arena: ArenaGraph, spec: ModelSpec, prefix: str) -> ArenaGraph:
    graph = arena.model.graph
    names = {state.name: _StateNames.of(prefix, state) for state in spec.kept}
    rows = _Rows(f"{prefix}read_rows", f"{prefix}write_rows", spec.max_batch_size == 0)
    reads = list(rows.nodes())
    for state in spec.kept:
        reads += _read(state, names[state.name], rows.to_read)
    _put_first(graph, reads)
    for state in spec.kept:
        graph.node.extend(_write(state, names[state.name], rows.to_write))
        _declare_pool(graph, state, names[state.name], f"{prefix}rows")
    int64, batch = TensorProto.INT64, f"{prefix}batch"
    graph.input.append(helper.make_tensor_value_info(rows.read, int64, [batch]))
    graph.input.append(helper.make_tensor_value_info(rows.write, int64, [batch, 1]))
    return replace(
        arena,
        read_rows=rows.read,
        write_rows=rows.write,
        pools={name: (state.pool, state.pool_next) for name, state in names.items()},
        writers={state.pool_next: name for name, state in names.items()},
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The inputs that tell which rows to read and to write. A model without batch axis has one row,
    which Gather takes without an axis for it if its number has none, and ScatterND likewise.
    """

    read: str
    write: str
    single: bool

    @property
    def to_read(self) -> str:
        return f"{self.read}.single" if self.single else self.read

    @property
    def to_write(self) -> str:
        return f"{self.write}.single" if self.single else self.write

    def nodes(self) -> Iterator[onnx.NodeProto]:
        if not self.single:
            return
        for rows, single, shape in (
            (self.read, self.to_read, np.zeros(0, np.int64)),  # ()
            (self.write, self.to_write, np.ones(1, np.int64)),  # (1,)
        ):
            value = numpy_helper.from_array(shape)
            yield helper.make_node("Constant", [], [f"{single}.shape"], value=value)
            yield helper.make_node("Reshape", [rows, f"{single}.shape"], [single])


@dataclass(frozen=True, slots=True)
class _StateNames:
    """Values that surgery adds for one state."""

    pool: str
    pool_next: str
    rows_first: str  # the state before its batch axis moves to its place …
    rows_first_next: str  # … and after it moved back

    @classmethod
    def of(cls, prefix: str, state: StateSpec) -> _StateNames:
        base = f"{prefix}{state.name}"
        return cls(f"{base}.pool", f"{base}.pool_next", f"{base}.rows", f"{base}.rows_next")


def _read(state: StateSpec, names: _StateNames, rows: str) -> Iterator[onnx.NodeProto]:
    axis = state.batch_axis or 0
    gathered = names.rows_first if axis else state.name
    yield helper.make_node("Gather", [names.pool, rows], [gathered], axis=0)
    if axis:
        order = from_first(axis, len(state.shape) + 1)
        yield helper.make_node("Transpose", [gathered], [state.name], perm=order)


def _write(state: StateSpec, names: _StateNames, rows: str) -> Iterator[onnx.NodeProto]:
    axis, updates = state.batch_axis or 0, state.output or state.name
    if axis:
        order = to_first(axis, len(state.shape) + 1)
        yield helper.make_node("Transpose", [updates], [names.rows_first_next], perm=order)
        updates = names.rows_first_next
    node = helper.make_node("ScatterND", [names.pool, rows, updates], [names.pool_next])
    node.name = names.pool_next  # errors at run time tell it
    yield node


def _declare_pool(graph: onnx.GraphProto, state: StateSpec, names: _StateNames, rows: str) -> None:
    elem_type = datatypes.BY_NAME[state.datatype].onnx
    shape: list[str | int | None] = [rows, *state.shape]
    graph.input.append(helper.make_tensor_value_info(names.pool, elem_type, shape))
    graph.output.append(helper.make_tensor_value_info(names.pool_next, elem_type, shape))


def _keep_outputs(graph: onnx.GraphProto, names: list[str]) -> None:
    by_name = {value.name: value for value in graph.output}
    kept = [by_name[name] for name in names]
    del graph.output[:]
    graph.output.extend(kept)


def _put_first(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Nodes are in topological order: these depend on inputs alone."""
    if nodes:
        own = list(graph.node)
        del graph.node[:]
        graph.node.extend([*nodes, *own])


def _free_prefix(graph: onnx.GraphProto) -> str:
    """A prefix that no value of the model has."""
    names, prefix = set(_value_names(graph)), "rnnserve."
    while any(name.startswith(prefix) for name in names):
        prefix = f"{prefix}_."
    return prefix


def _value_names(graph: onnx.GraphProto) -> Iterator[str]:
    for group in (graph.input, graph.output, graph.initializer):
        yield from (value.name for value in group)
    for node in graph.node:
        yield from node.input
        yield from node.output
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _value_names(inner)

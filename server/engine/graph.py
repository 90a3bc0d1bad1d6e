"""Graph surgery: a model whose states come from a pool of rows and go back to it.

    pool ──Gather(read rows)──▶ state ──▶ the model ──▶ next state ──ScatterND(write rows)──▶ pool

A state whose batch axis is not the first is transposed on the way in and out. The model's own nodes
stay as they are, and so do its inputs and outputs that are no states.

Whoever runs the graph binds each pool's input and output to the same buffer: ScatterND then writes
its rows in place and copies nothing. Rows that are read and rows that are written are disjoint, so
it does not matter which of the two nodes comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from server import datatypes
from server.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server.repository.spec import ModelSpec, StateSpec

OLDEST_OPSET = 11  # the first with ScatterND as it still is, and with axes that may be negative
_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class ArenaGraph:
    """The model after surgery, and what its new inputs and outputs are called.

    `read_rows` is int64 (batch,); `write_rows` is int64 (batch, 1), the shape that ScatterND wants.
    `pools` maps a state's name to the names of its pool, `(rows, *shape)`, as input and as output.
    Without states all three are empty.
    """

    model: onnx.ModelProto
    read_rows: str
    write_rows: str
    pools: dict[str, tuple[str, str]]


def with_arena(model: onnx.ModelProto, spec: ModelSpec) -> ArenaGraph:
    """Changes `model`, which then serves `spec.outputs` and nothing else. Raises StartupError."""
    _check_opset(model)
    graph = model.graph
    _keep_outputs(graph, [tensor.name for tensor in spec.outputs])
    if not spec.states:
        return ArenaGraph(model, "", "", {})
    prefix = _free_prefix(graph)
    names = {state.name: _StateNames.of(prefix, state) for state in spec.states}
    _drop_inputs(graph, set(names))
    rows = [f"{prefix}read_rows", f"{prefix}write_rows"]
    nodes = list(graph.node)
    del graph.node[:]
    for state in spec.states:
        graph.node.extend(_read(state, names[state.name], rows[0]))
    graph.node.extend(nodes)
    for state in spec.states:
        graph.node.extend(_write(state, names[state.name], rows[1]))
        _declare_pool(graph, state, names[state.name], f"{prefix}rows")
    int64, batch = TensorProto.INT64, f"{prefix}batch"
    graph.input.append(helper.make_tensor_value_info(rows[0], int64, [batch]))
    graph.input.append(helper.make_tensor_value_info(rows[1], int64, [batch, 1]))
    pools = {name: (state.pool, state.pool_next) for name, state in names.items()}
    return ArenaGraph(model, rows[0], rows[1], pools)


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
    axis = state.batch_axis
    gathered = state.name if axis == 0 else names.rows_first
    yield helper.make_node("Gather", [names.pool, rows], [gathered], axis=0)
    if axis != 0:
        order = [*range(1, axis + 1), 0, *range(axis + 1, len(state.shape) + 1)]
        yield helper.make_node("Transpose", [gathered], [state.name], perm=order)


def _write(state: StateSpec, names: _StateNames, rows: str) -> Iterator[onnx.NodeProto]:
    axis, updates = state.batch_axis, state.output
    if axis != 0:
        order = [axis, *(other for other in range(len(state.shape) + 1) if other != axis)]
        updates = names.rows_first_next
        yield helper.make_node("Transpose", [state.output], [updates], perm=order)
    yield helper.make_node("ScatterND", [names.pool, rows, updates], [names.pool_next])


def _declare_pool(graph: onnx.GraphProto, state: StateSpec, names: _StateNames, rows: str) -> None:
    elem_type = datatypes.BY_NAME[state.datatype].onnx
    shape: list[str | int | None] = [rows, *state.shape]
    graph.input.append(helper.make_tensor_value_info(names.pool, elem_type, shape))
    graph.output.append(helper.make_tensor_value_info(names.pool_next, elem_type, shape))


def _check_opset(model: onnx.ModelProto) -> None:
    versions = [entry.version for entry in model.opset_import if entry.domain in _DEFAULT_DOMAINS]
    if versions and min(versions) < OLDEST_OPSET:
        raise StartupError(f"opset {min(versions)}; expected {OLDEST_OPSET} or newer")
    if not versions:  # a model of custom operators alone
        model.opset_import.append(helper.make_opsetid("", 18))


def _keep_outputs(graph: onnx.GraphProto, names: list[str]) -> None:
    by_name = {value.name: value for value in graph.output}
    kept = [by_name[name] for name in names]
    del graph.output[:]
    graph.output.extend(kept)


def _drop_inputs(graph: onnx.GraphProto, names: set[str]) -> None:
    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)


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

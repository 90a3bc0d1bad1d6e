"""The graphs of sequence models as people have them: states of every type, and inputs that tell the
model where in its sequence it is. What they compute is exact: small whole numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    Rows = tuple[str, ...]  # the axes before all others

BATCHED: Rows = ("batch",)
ALONE: Rows = ()
node, value = helper.make_node, helper.make_tensor_value_info

FLAGS = ("START", "READY", "END")


def made(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    **stored: Any,
) -> onnx.ModelProto:
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def told(rows: Rows, flag: int, id_kind: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Nodes, inputs and outputs of a model that repeats what it is told: `flags` (rows, 3) are
    START, READY and END as numbers, `id` (rows, 1) is CORRID.
    """
    nodes = [node("Cast", [name], [f"{name}.told"], to=TensorProto.DOUBLE) for name in FLAGS]
    nodes += [
        node("Concat", [f"{name}.told" for name in FLAGS], ["flags"], axis=len(rows)),
        node("Identity", ["CORRID"], ["id"]),
    ]
    inputs = [value(name, flag, [*rows, 1]) for name in FLAGS]
    inputs.append(value("CORRID", id_kind, [*rows, 1]))
    outputs = [value("flags", TensorProto.DOUBLE, [*rows, 3]), value("id", id_kind, [*rows, 1])]
    return nodes, inputs, outputs


def sums(rows: Rows, number: int, flag: int, id_kind: int, times: int = 1) -> onnx.ModelProto:
    """`sum` = what was summed before + `times` x, and what it is told."""
    nodes, inputs, outputs = told(rows, flag, id_kind)
    shape = [*rows, 1]
    factor = np.array(times, helper.tensor_dtype_to_np_dtype(number))
    nodes += [
        node("Mul", ["x", "factor"], ["move"]),
        node("Add", ["move", "total"], ["sum"]),
        node("Identity", ["sum"], ["total_next"]),
    ]
    inputs += [value("x", number, shape), value("total", number, shape)]
    outputs += [value("sum", number, shape), value("total_next", number, shape)]
    return made(nodes, inputs, outputs, factor=factor)


def told_only() -> onnx.ModelProto:
    """No state: `y` = x, and what it is told."""
    nodes, inputs, outputs = told(BATCHED, TensorProto.INT32, TensorProto.INT64)
    nodes.append(node("Identity", ["x"], ["y"]))
    shape = [*BATCHED, 1]
    inputs.append(value("x", TensorProto.FLOAT, shape))
    return made(nodes, inputs, [*outputs, value("y", TensorProto.FLOAT, shape)])


def plain() -> onnx.ModelProto:
    """`y` = 2 x: nothing is kept and nothing told."""
    shape = [*BATCHED, 1]
    return made(
        [node("Add", ["x", "x"], ["y"])],
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, shape)],
    )


def two_inputs(size: int | str = 1) -> onnx.ModelProto:
    """`total` ← total + x + y, of any size perhaps, and `sum` is what it was before and x."""
    shape = [*BATCHED, size]
    return made(
        [node("Add", ["x", "total"], ["sum"]), node("Add", ["sum", "y"], ["total_next"])],
        [value(name, TensorProto.FLOAT, shape) for name in ("x", "y", "total")],
        [value(name, TensorProto.FLOAT, shape) for name in ("sum", "total_next")],
    )


def crossed() -> onnx.ModelProto:
    """Three states whose outputs stand in the opposite order of their inputs: a ← a + x into `o3`,
    b ← 2 b + x into `o2`, c ← 3 c + x into `o1`. `seen` (batch, 3) are a, b and c before.
    """
    shape = [*BATCHED, 1]
    nodes = [node("Concat", ["a", "b", "c"], ["seen"], axis=1)]
    for factor, (name, output) in enumerate(zip("abc", ("o3", "o2", "o1"), strict=True), start=1):
        nodes += [
            node("Mul", [name, f"factor_{factor}"], [f"{name}.grown"]),
            node("Add", [f"{name}.grown", "x"], [output]),
        ]
    names = ["x", "a", "b", "c"]
    return made(
        nodes,
        [value(name, TensorProto.FLOAT, shape) for name in names],
        [
            value("seen", TensorProto.FLOAT, [*BATCHED, 3]),
            *(value(name, TensorProto.FLOAT, shape) for name in ("o1", "o2", "o3")),
        ],
        **{f"factor_{n}": np.float32(n) for n in (1, 2, 3)},
    )


# name: type; each counts up by one with every request, the logical one flips
COUNTERS = {
    "half": TensorProto.FLOAT16,
    "double": TensorProto.DOUBLE,
    "tiny": TensorProto.INT8,
    "byte": TensorProto.UINT8,
    "short": TensorProto.INT16,
    "long": TensorProto.INT64,
    "flip": TensorProto.BOOL,
}


def counters() -> onnx.ModelProto:
    """A state of each type. `seen` (batch, 7) are all of them before."""
    nodes: list[onnx.NodeProto] = []
    for name, kind in COUNTERS.items():
        nodes.append(node("Cast", [name], [f"{name}.seen"], to=TensorProto.DOUBLE))
        if kind == TensorProto.BOOL:
            nodes.append(node("Not", [name], [f"{name}_next"]))
        else:  # there is no Add for the small ones
            nodes += [
                node("Add", [f"{name}.seen", "x"], [f"{name}.sum"]),
                node("Cast", [f"{name}.sum"], [f"{name}.whole"], to=TensorProto.INT64),
                node("Cast", [f"{name}.whole"], [f"{name}_next"], to=kind),
            ]
    nodes.append(node("Concat", [f"{name}.seen" for name in COUNTERS], ["seen"], axis=1))
    shape = [*BATCHED, 1]
    return made(
        nodes,
        [
            value("x", TensorProto.DOUBLE, shape),
            *(value(name, kind, shape) for name, kind in COUNTERS.items()),
        ],
        [
            value("seen", TensorProto.DOUBLE, [*BATCHED, len(COUNTERS)]),
            *(value(f"{name}_next", kind, shape) for name, kind in COUNTERS.items()),
        ],
    )


def from_files(rows: Rows) -> onnx.ModelProto:
    """Each request adds x to three states of three: `seen` (rows, 9) are all of them before."""
    names = ("stored", "zero", "unsaid")
    nodes = [node("Concat", list(names), ["seen"], axis=len(rows))]
    nodes += [node("Add", [name, "x"], [f"{name}_next"]) for name in names]
    return made(
        nodes,
        [
            value("x", TensorProto.FLOAT, [*rows, 1]),
            *(value(name, TensorProto.FLOAT, [*rows, "any"]) for name in names[:2]),
            value("unsaid", TensorProto.FLOAT, [*rows, 3]),
        ],
        [
            value("seen", TensorProto.FLOAT, [*rows, "all"]),
            *(value(f"{name}_next", TensorProto.FLOAT, [*rows, "any"]) for name in names),
        ],
    )


def slow() -> onnx.ModelProto:
    """`count` = how many requests there were, after `turns` times round a loop."""
    whole = TensorProto.INT64
    body = helper.make_graph(
        [node("Identity", ["goes_on"], ["goes_on_next"]), node("Add", ["h", "one"], ["h_next"])],
        "body",
        [value("turn", whole, []), value("goes_on", TensorProto.BOOL, []), value("h", whole, [1])],
        [value("goes_on_next", TensorProto.BOOL, []), value("h_next", whole, [1])],
        [numpy_helper.from_array(np.array([1]), "one")],
    )
    return made(
        [
            node("ReduceSum", ["turns"], ["turns.all"], keepdims=0),
            node("Loop", ["turns.all", "", "turns"], ["rounds"], body=body),
            node("Sub", ["rounds", "turns"], ["turned"]),
            node("Sub", ["turned", "turns"], ["nothing"]),
            node("Add", ["before", "one_more"], ["more"]),
            node("Add", ["more", "nothing"], ["count"]),
            node("Identity", ["count"], ["before_next"]),
        ],
        [value("turns", whole, [1]), value("before", whole, [1])],
        [value("count", whole, [1]), value("before_next", whole, [1])],
        one_more=np.array([1]),
    )

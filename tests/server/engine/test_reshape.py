"""Tensors that requests have with other axes than the graph, beside the untouched model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.engine.engine import Engine
from server.engine.reshape import reshaped
from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tests.server.conftest import MakeModel
    from tests.server.engine.conftest import Compare

FLOAT = TensorProto.FLOAT
Shape = tuple[int, ...]


@pytest.mark.parametrize(
    ("before", "after", "given", "nodes"),
    [
        ((-1, 1), (-1,), (5, 1), 2),
        ((-1,), (-1, 1), (5,), 2),
        ((-1, 6), (-1, 2, 3), (4, 6), 2),
        ((-1, 2, 4, -1, 6), (-1, 8, -1, 1, 6), (3, 2, 4, 5, 6), 2),
        ((6,), (2, 3), (6,), 2),
        ((1,), (), (1,), 2),
        ((), (1, 1), (), 2),
        # two sizes that are known in a run alone, at other places
        ((-1, 2, -1, -1, 3), (-1, 2, 1, -1, 1, -1, 3, 1), (2, 2, 5, 7, 3), 6),
        ((-1, 1, -1, -1), (-1, -1, -1), (2, 1, 5, 7), 6),
    ],
)
def test_a_tensor_from_one_shape_to_another(
    before: Shape, after: Shape, given: Shape, nodes: int
) -> None:
    made = list(reshaped("x", "y", before, after))
    assert len(made) == nodes
    values = [
        helper.make_tensor_value_info(name, FLOAT, [None if n == -1 else n for n in shape])
        for name, shape in (("x", before), ("y", after))
    ]
    graph = helper.make_graph(made, "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 5)], ir_version=8)
    x = np.arange(np.prod(given), dtype=np.float32).reshape(given)
    [y] = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    sizes = iter([n for n, said in zip(given, before, strict=True) if said == -1])
    assert y.shape == tuple(next(sizes) if n == -1 else n for n in after)
    np.testing.assert_array_equal(y.ravel(), x.ravel())


def mixing(x: Sequence[int | str], state: Sequence[int | str] = ("b", 6)) -> onnx.ModelProto:
    """`s_next` = 2·s + x, summed over an axis `t` if it has one; `y` = s_next, `z` = x + 1."""
    node, value = helper.make_node, helper.make_tensor_value_info
    timed = "t" in x
    total = node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0)
    nodes = [
        total if timed else node("Identity", ["x"], ["sum"]),
        node("Reshape", ["sum", "flat"], ["row"]),
        node("Add", ["s", "s"], ["twice"]),
        node("Add", ["twice", "row"], ["s_next"]),
        node("Identity", ["s_next"], ["y"]),
        node("Add", ["x", "one"], ["z"]),
    ]
    stored: dict[str, NDArray[Any]] = {
        "one": np.array(1, np.float32),
        "axis": np.array([list(x).index("t") if timed else 0]),
        "flat": np.array([-1 if size == "b" else size for size in state], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", FLOAT, x), value("s", FLOAT, state)],
        [value("y", FLOAT, state), value("z", FLOAT, x), value("s_next", FLOAT, state)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def tensor(field: str, name: str, dims: str, reshape: str | None = None) -> str:
    more = "" if reshape is None else f"reshape {{ shape: [ {reshape} ] }}"
    return f'{field} {{ name: "{name}" data_type: TYPE_FP32 dims: [ {dims} ] {more} }}\n'


def config(
    size: int, x: tuple[str, str], y: tuple[str, str], more: str = "", dims: str = "6"
) -> str:
    """`z` comes back as `x` went in."""
    return (
        f"max_batch_size: {size}\n{more}"
        + tensor("input", "x", *x)
        + tensor("output", "y", *y)
        + tensor("output", "z", *x)
        + "sequence_batching { state { input_name: 's' output_name: 's_next'"
        + f" data_type: TYPE_FP32 dims: [ {dims} ] }} }}\n"
    )


def parameter(key: str, text: str) -> str:
    return f'parameters {{ key: "rnnserve.{key}" value {{ string_value: "{text}" }} }}\n'


@pytest.mark.parametrize(
    ("x", "state", "text", "answer"),
    [
        (["b", 6], ["b", 6], config(4, ("2, 3", "6"), ("3, 2", "6")), (-1, 3, 2)),
        (["b", 2, 3], ["b", 6], config(4, ("6", "2, 3"), ("1, 6", "6")), (-1, 1, 6)),
        (["b"], ["b"], config(4, ("1", ""), ("1", ""), dims=""), (-1, 1)),
        (
            ["b", "t", 2, 3],
            ["b", 6],
            config(4, ("1, -1, 6", "-1, 2, 3"), ("2, 3", "6")),
            (-1, 2, 3),
        ),
        ([6], [6], config(0, ("2, 3", "6"), ("3, 2", "6")), (3, 2)),
        ([2, 3], [6], config(0, ("6", "2, 3"), ("2, 3", "6")), (2, 3)),
        # the batch axis stands elsewhere in the graph
        (
            [6, "b"],
            ["b", 6],
            config(
                1,
                ("2, 3", "6"),
                ("3, 2", "6"),
                parameter("batch_axis.x", "1") + parameter("batch_axis.z", "1"),
            ),
            (-1, 3, 2),
        ),
        (
            ["t", "b", 2, 3],
            ["b", 6],
            config(
                4,
                ("-1, 1, 6", "-1, 2, 3"),
                ("2, 3", "6"),
                parameter("batch_axis.x", "1") + parameter("batch_axis.z", "1"),
            ),
            (-1, 2, 3),
        ),
    ],
)
def test_inputs_and_outputs_of_other_axes(
    make_model: MakeModel,
    compare: Compare,
    x: list[int | str],
    state: list[int | str],
    text: str,
    answer: Shape,
) -> None:
    engine = compare(make_model("m", text, mixing(x, state)))
    assert engine.spec.outputs[0].shape == answer


def test_a_number_has_an_axis_outside_of_a_model_without_batch_axis(
    make_model: MakeModel, compare: Compare
) -> None:
    """Where `dims` must not be empty, [1] is how a number without axes is written."""
    text = config(0, ("1", ""), ("1", ""), dims="").replace("reshape { shape: [  ] }", "")
    assert "reshape" not in text
    engine = compare(make_model("m", text, mixing([], [])))
    assert [tensor.shape for tensor in engine.spec.outputs] == [(1,), (1,)]


def test_requests_of_a_model_for_single_steps_may_have_time(make_model: MakeModel) -> None:
    """(batch, 6) in the graph is a step of (batch, time, 6): any length runs step by step."""
    text = config(
        4,
        ("1, 6", "6"),
        ("1, 6", "6"),
        "".join(parameter(f"time_axis.{name}", "1") for name in "xyz")
        + parameter("may_be_cut", "true"),
    )
    [spec] = load(make_model("m", text, mixing(["b", 6])))
    assert (spec.piece, spec.inputs[0].shape) == (1, (-1, -1, 6))
    engine = Engine(spec, provider="cpu", rows=8)
    x = np.arange(12, dtype=np.float32).reshape(2, 1, 6)
    outputs = engine.run({"x": x}, np.zeros(2, np.int64), np.array([1, 2]))
    np.testing.assert_array_equal(outputs["z"], x + 1)
    np.testing.assert_array_equal(outputs["y"], x)
    outputs = engine.run({"x": x}, np.array([1, 2]), np.array([3, 4]))
    np.testing.assert_array_equal(outputs["y"], 3 * x)


def test_a_state_that_is_served_keeps_its_own_shape_inside(
    make_model: MakeModel, compare: Compare
) -> None:
    text = config(4, ("2, 3", "6"), ("6", "6"))
    text = text.replace('name: "y"', 'name: "s_next"').replace(
        "dims: [ 6 ] res", "dims: [ 1, 6 ] res", 1
    )
    engine = compare(make_model("m", text, mixing(["b", 6])))
    assert engine.spec.outputs[0].shape == (-1, 1, 6)
    assert engine.spec.states[0].shape == (6,)


def test_a_graph_that_is_older_than_the_nodes_is_converted(make_model: MakeModel) -> None:
    values = [helper.make_tensor_value_info(name, FLOAT, ["b", 6]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 4)], ir_version=3)
    text = "max_batch_size: 4\n" + tensor("input", "x", "2, 3", "6") + tensor("output", "y", "6")
    [spec] = load(make_model("m", text, model))
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    empty = np.zeros(2, np.int64)
    [y] = Engine(spec, provider="cpu", rows=0).run({"x": x}, empty, empty).values()
    np.testing.assert_array_equal(y, x.reshape(2, 6))

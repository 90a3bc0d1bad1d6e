"""How inputs reach outputs: through rearranged elements, sums, ops that keep states, loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from inspection.flow import Flow, Reach

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

FLOAT = TensorProto.FLOAT
D = ["n", 4]


def test_a_leaky_sum_carries(leaky: Callable[..., onnx.ModelProto]) -> None:
    flow = Flow(leaky())
    assert flow.reach("h", "h_next") is Reach.CARRIES
    assert flow.reach("x", "y") is Reach.CARRIES  # which alone proves nothing: see test_states.py


def test_a_product_alone_does_not_carry(build: Callable[..., onnx.ModelProto]) -> None:
    nodes = [helper.make_node("Sigmoid", ["h"], ["g"]), helper.make_node("Mul", ["x", "g"], ["y"])]
    flow = Flow(build(nodes, [("x", FLOAT, D), ("h", FLOAT, D)], [("y", FLOAT, D)]))
    assert flow.reach("x", "y") is Reach.DEPENDS
    assert flow.reach("h", "y") is Reach.DEPENDS


def test_a_shifted_buffer_moves(build: Callable[..., onnx.ModelProto]) -> None:
    nodes = [
        helper.make_node("Concat", ["buffer", "x"], ["both"], axis=1),
        helper.make_node("Slice", ["both", "one", "end", "one"], ["shifted"]),
    ]
    weights = {"one": np.array([1]), "end": np.array([2**31 - 1])}
    inputs = [("x", FLOAT, ["n", 1]), ("buffer", FLOAT, D)]
    flow = Flow(build(nodes, inputs, [("shifted", FLOAT, D)], weights))
    assert flow.reach("buffer", "shifted") is Reach.MOVES
    assert flow.reach("x", "shifted") is Reach.MOVES


def test_what_does_not_reach(build: Callable[..., onnx.ModelProto]) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["context"]),
        helper.make_node("Abs", ["h"], ["y"]),
    ]
    outputs = [("y", FLOAT, D), ("context", FLOAT, D)]
    flow = Flow(build(nodes, [("x", FLOAT, D), ("h", FLOAT, D)], outputs))
    assert flow.reach("h", "context") is Reach.NOT
    assert flow.reach("x", "context") is Reach.MOVES


def lstm(build: Callable[..., onnx.ModelProto], **reorder: Any) -> onnx.ModelProto:
    """Initial states arrive without the axis of directions, as converters write it."""
    nodes = [
        helper.make_node("Unsqueeze", ["a", "zero"], ["h0"]),
        helper.make_node("Unsqueeze", ["b", "zero"], ["c0"]),
        helper.make_node(
            "LSTM", ["x", "W", "R", "", "", "h0", "c0"], ["", "h", "c"], hidden_size=2
        ),
        helper.make_node("Squeeze", ["h", "zero"], ["p"]),
        helper.make_node("Squeeze", ["c", "zero"], ["q"]),
    ]
    weights = {
        "zero": np.array([0]),
        "W": np.ones((1, 8, 3), "f"),
        "R": np.ones((1, 8, 2), "f"),
    }
    state = ["n", 2]
    inputs = [("x", FLOAT, ["t", "n", 3]), ("a", FLOAT, state), ("b", FLOAT, state)]
    return build(nodes, inputs, [("q", FLOAT, state), ("p", FLOAT, state)], weights, **reorder)


def test_the_states_of_an_lstm_are_told_apart(build: Callable[..., onnx.ModelProto]) -> None:
    flow = Flow(lstm(build))
    assert flow.reach("a", "p") is Reach.SLOT
    assert flow.reach("b", "q") is Reach.SLOT
    assert flow.reach("a", "q") is Reach.DEPENDS
    assert flow.reach("b", "p") is Reach.DEPENDS


def test_scan_hands_on_its_states(build: Callable[..., onnx.ModelProto]) -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "step"], ["s2"]), helper.make_node("Abs", ["s2"], ["seen"])],
        "body",
        [helper.make_tensor_value_info(n, FLOAT, [4]) for n in ("s", "step")],
        [helper.make_tensor_value_info(n, FLOAT, [4]) for n in ("s2", "seen")],
    )
    node = helper.make_node("Scan", ["h", "x"], ["last", "all"], body=body, num_scan_inputs=1)
    inputs = [("x", FLOAT, ["t", 4]), ("h", FLOAT, [4])]
    flow = Flow(build([node], inputs, [("all", FLOAT, ["t", 4]), ("last", FLOAT, [4])]))
    assert flow.reach("h", "last") is Reach.SLOT
    assert flow.reach("x", "last") is not Reach.SLOT
    assert flow.reach("h", "all") is Reach.DEPENDS


def test_loop_hands_on_its_states_though_its_count_is_left_out(
    build: Callable[..., onnx.ModelProto],
) -> None:
    boolean = TensorProto.BOOL
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go2"]),
            helper.make_node("Add", ["p", "x"], ["p2"]),
            helper.make_node("Mul", ["q", "x"], ["q2"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", boolean, []),
            *(helper.make_tensor_value_info(n, FLOAT, [4]) for n in "pq"),
        ],
        [
            helper.make_tensor_value_info("go2", boolean, []),
            *(helper.make_tensor_value_info(n, FLOAT, [4]) for n in ("p2", "q2")),
        ],
    )
    node = helper.make_node("Loop", ["", "go_on", "a", "b"], ["a2", "b2"], body=body)
    inputs = [("x", FLOAT, [4]), ("go_on", boolean, []), ("a", FLOAT, [4]), ("b", FLOAT, [4])]
    flow = Flow(build([node], inputs, [("a2", FLOAT, [4]), ("b2", FLOAT, [4])]))
    assert flow.reach("a", "a2") is Reach.SLOT
    assert flow.reach("b", "b2") is Reach.SLOT
    assert flow.reach("a", "b2") is Reach.NOT
    assert flow.reach("x", "a2") is Reach.CARRIES


def test_both_branches_of_an_if_count(build: Callable[..., onnx.ModelProto]) -> None:
    def branch(op: str, source: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info("out", FLOAT, D)
        return helper.make_graph([helper.make_node(op, [source], ["out"])], op, [], [out])

    node = helper.make_node(
        "If", ["which"], ["y"], then_branch=branch("Identity", "a"), else_branch=branch("Abs", "b")
    )
    inputs = [("which", TensorProto.BOOL, []), ("a", FLOAT, D), ("b", FLOAT, D)]
    flow = Flow(build([node], inputs, [("y", FLOAT, D)]))
    assert flow.reach("a", "y") is Reach.MOVES
    assert flow.reach("b", "y") is Reach.DEPENDS


def test_local_functions_are_looked_into(leaky: Callable[..., onnx.ModelProto]) -> None:
    model = leaky()
    body = list(model.graph.node)
    half = helper.make_node("Constant", [], ["half"], value_float=0.5)
    imports = list(model.opset_import)
    function = helper.make_function(
        "local", "Cell", ["x", "h"], ["y", "h_next"], [half, *body], imports
    )
    del model.graph.node[:], model.graph.initializer[:]
    call = helper.make_node("Cell", ["x", "h"], ["y", "h_next"], domain="local")
    model.graph.node.append(call)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    assert Flow(model).reach("h", "h_next") is Reach.CARRIES


def test_a_scan_of_the_first_kind_has_lengths_in_front(
    build: Callable[..., onnx.ModelProto],
) -> None:
    """Until opset 8: lengths first, the batch in every tensor."""
    body = helper.make_graph(
        [helper.make_node("Add", ["sum", "one"], ["sum_out"])],
        "body",
        [helper.make_tensor_value_info(name, FLOAT, [2]) for name in ("sum", "one")],
        [helper.make_tensor_value_info("sum_out", FLOAT, [2])],
    )
    node = helper.make_node("Scan", ["", "h", "x"], ["last"], num_scan_inputs=1, body=body)
    inputs = [("h", FLOAT, ["n", 2]), ("x", FLOAT, ["n", "t", 2])]
    flow = Flow(build([node], inputs, [("last", FLOAT, ["n", 2])], opset=8))
    assert flow.reach("h", "last") is Reach.SLOT
    assert flow.reach("x", "last") is Reach.CARRIES
    assert flow.feeds_a_state("h")
    assert not flow.feeds_a_state("x")

"""The guess of pairs: what is found, and what is not taken for a state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inspection.flow import Flow
from inspection.reading import read
from inspection.states import guess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inspection.states import Pair

FLOAT = TensorProto.FLOAT
D = ["n", 4]


@pytest.fixture
def pairs(save: Callable[..., Path]) -> Callable[[onnx.ModelProto], dict[str, str]]:
    return lambda model: {p.input: p.output for p in guessed(save(model))}


def guessed(path: Path) -> tuple[Pair, ...]:
    model = read(path)
    return guess(model, Flow(model.proto))


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    """The same graph, its values called otherwise."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for entry in (*other.graph.input, *other.graph.output):
        entry.name = names.get(entry.name, entry.name)
    for node in other.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return other


def gru(build: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    """A mask for a frame, and a gated state, all of one shape: only the way tells them apart."""
    nodes = [
        helper.make_node("Add", ["x", "h"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["z"]),
        helper.make_node("Tanh", ["a"], ["n"]),
        helper.make_node("Sub", ["h", "n"], ["d"]),
        helper.make_node("Mul", ["d", "z"], ["k"]),
        helper.make_node("Add", ["k", "n"], ["h2"]),
        helper.make_node("Sigmoid", ["h2"], ["m"]),
        helper.make_node("Mul", ["x", "m"], ["y"]),
    ]
    return build(nodes, [("x", FLOAT, D), ("h", FLOAT, D)], [("y", FLOAT, D), ("h2", FLOAT, D)])


@pytest.mark.parametrize(
    "names",
    [
        ("h", "h_next"), ("state", "stateN"), ("past", "present"), ("prev_h", "h"),
        ("p", "q"), ("onnx::Add_1", "onnx::Mul_7"), ("keras_tensor_3", "Identity_1:0"),
    ],
)  # fmt: skip
def test_a_gated_state_whatever_it_is_called(
    build: Callable[..., onnx.ModelProto],
    pairs: Callable[[onnx.ModelProto], dict[str, str]],
    names: tuple[str, str],
) -> None:
    before, after = names
    other = {"h": before, "h2": after, "x": "x_in" if before == "x" else "frame"}
    assert pairs(renamed(gru(build), other)) == {before: after}


@pytest.mark.parametrize("after", ["y", "output", "frame_out", "enhanced"])
def test_a_residual_is_no_state(
    build: Callable[..., onnx.ModelProto],
    pairs: Callable[[onnx.ModelProto], dict[str, str]],
    after: str,
) -> None:
    nodes = [helper.make_node("Tanh", ["x"], ["t"]), helper.make_node("Add", ["x", "t"], ["y"])]
    model = build(nodes, [("x", FLOAT, D)], [("y", FLOAT, D)])
    assert pairs(renamed(model, {"x": "frame", "y": after})) == {}
    assert pairs(renamed(model, {"x": "input", "y": after})) == {}


def test_two_residuals_are_no_states(
    build: Callable[..., onnx.ModelProto], pairs: Callable[[onnx.ModelProto], dict[str, str]]
) -> None:
    """Every input would be a state: in and out alone are not enough for that."""
    nodes = [
        helper.make_node("Tanh", ["left"], ["l"]),
        helper.make_node("Tanh", ["right"], ["r"]),
        helper.make_node("Add", ["left", "r"], ["left_out"]),
        helper.make_node("Add", ["right", "l"], ["right_out"]),
    ]
    inputs, outputs = ("left", "right"), ("left_out", "right_out")
    model = build(nodes, [(n, FLOAT, D) for n in inputs], [(n, FLOAT, D) for n in outputs])
    assert pairs(model) == {}
    other = {"left": "h", "right": "c", "left_out": "h_next", "right_out": "c_next"}
    assert pairs(renamed(model, other)) == {"h": "h_next", "c": "c_next"}


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [("length", "lengths_out", False), ("processed_lens", "new_processed_lens", True)],
)
def test_lengths_are_no_states_unless_they_are_called_so(
    build: Callable[..., onnx.ModelProto],
    pairs: Callable[[onnx.ModelProto], dict[str, str]],
    before: str,
    after: str,
    found: bool,
) -> None:
    nodes = [
        helper.make_node("Add", [before, "one"], [after]),
        helper.make_node("Abs", ["x"], ["y"]),
    ]
    whole = TensorProto.INT64
    inputs, outputs = [("x", FLOAT, D), (before, whole, ["n"])], [("y", FLOAT, D)]
    model = build(nodes, inputs, [*outputs, (after, whole, ["n"])], {"one": np.array([1])})
    assert pairs(model) == ({before: after} if found else {})


def test_a_frame_with_a_state_beside_it_is_no_state(
    leaky: Callable[..., onnx.ModelProto], pairs: Callable[[onnx.ModelProto], dict[str, str]]
) -> None:
    model = leaky(("mem_in", "mem_out"), ("audio_in", "audio_out"))
    assert pairs(model) == {"mem_in": "mem_out"}


def test_the_states_of_an_lstm_without_any_names(
    build: Callable[..., onnx.ModelProto], pairs: Callable[[onnx.ModelProto], dict[str, str]]
) -> None:
    weights = {"W": np.ones((1, 8, 3), "f"), "R": np.ones((1, 8, 2), "f")}
    node = helper.make_node(
        "LSTM", ["0", "W", "R", "", "", "1", "2"], ["7", "8", "9"], hidden_size=2
    )
    state = [1, "n", 2]
    inputs = [("0", FLOAT, ["t", "n", 3]), ("2", FLOAT, state), ("1", FLOAT, state)]
    outputs = [("7", FLOAT, ["t", 1, "n", 2]), ("8", FLOAT, state), ("9", FLOAT, state)]
    assert pairs(build([node], inputs, outputs, weights)) == {"1": "8", "2": "9"}


def test_h_is_found_beside_c_in_a_decomposed_lstm(
    build: Callable[..., onnx.ModelProto], pairs: Callable[[onnx.ModelProto], dict[str, str]]
) -> None:
    """c is carried; h goes through a product, and has c's shape."""
    weights = {name: np.ones((4, 4), "f") for name in ("Wi", "Wf", "Wo")}
    nodes = []
    for gate in ("i", "f", "o"):
        nodes += [
            helper.make_node("MatMul", ["b", f"W{gate}"], [f"m{gate}"]),
            helper.make_node("Add", ["a", f"m{gate}"], [f"s{gate}"]),
            helper.make_node("Sigmoid", [f"s{gate}"], [gate]),
        ]
    nodes += [
        helper.make_node("Mul", ["f", "d"], ["kept"]),
        helper.make_node("Add", ["kept", "i"], ["q"]),
        helper.make_node("Tanh", ["q"], ["tq"]),
        helper.make_node("Mul", ["o", "tq"], ["p"]),
        helper.make_node("ReduceSum", ["p"], ["r"]),
    ]
    inputs = [("a", FLOAT, D), ("b", FLOAT, D), ("d", FLOAT, D)]
    outputs = [("r", FLOAT, [1, 1]), ("p", FLOAT, D), ("q", FLOAT, D)]
    assert pairs(build(nodes, inputs, outputs, weights)) == {"b": "p", "d": "q"}


def test_a_context_that_only_the_input_makes(
    build: Callable[..., onnx.ModelProto], pairs: Callable[[onnx.ModelProto], dict[str, str]]
) -> None:
    nodes = [
        helper.make_node("Add", ["audio", "context"], ["y"]),
        helper.make_node("Identity", ["audio"], ["context_out"]),
    ]
    inputs = [("audio", FLOAT, D), ("context", FLOAT, D)]
    assert pairs(build(nodes, inputs, [("y", FLOAT, D), ("context_out", FLOAT, D)])) == {
        "context": "context_out"
    }


def test_types_and_sizes_must_agree(
    build: Callable[..., onnx.ModelProto], pairs: Callable[[onnx.ModelProto], dict[str, str]]
) -> None:
    nodes = [
        helper.make_node("Cast", ["h"], ["h_next"], to=TensorProto.DOUBLE),
        helper.make_node("Concat", ["c", "c"], ["c_next"], axis=1),
    ]
    outputs = [("h_next", TensorProto.DOUBLE, D), ("c_next", FLOAT, ["n", 8])]
    assert pairs(build(nodes, [("h", FLOAT, D), ("c", FLOAT, D)], outputs)) == {}


def test_many_states_keep_their_numbers(
    build: Callable[..., onnx.ModelProto], pairs: Callable[[onnx.ModelProto], dict[str, str]]
) -> None:
    numbers = range(12)
    nodes = [helper.make_node("Add", [f"cache_{i}", "x"], [f"new_cache_{i}"]) for i in numbers]
    nodes.append(helper.make_node("Abs", ["x"], ["y"]))
    inputs = [("x", FLOAT, D), *((f"cache_{i}", FLOAT, D) for i in reversed(numbers))]
    outputs = [("y", FLOAT, D), *((f"new_cache_{i}", FLOAT, D) for i in numbers)]
    assert pairs(build(nodes, inputs, outputs)) == {f"cache_{i}": f"new_cache_{i}" for i in numbers}


def test_states_that_come_first_and_have_no_names(
    build: Callable[..., onnx.ModelProto], pairs: Callable[..., dict[str, str]]
) -> None:
    """(c, h, x) → (c, h, y), as JAX's carry, where all names only count: in_0, in_1, in_2."""
    nodes = [
        helper.make_node("MatMul", ["in_2", "W"], ["a"]),
        helper.make_node("MatMul", ["in_1", "U"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["gate"]),
        helper.make_node("Mul", ["in_0", "gate"], ["kept"]),
        helper.make_node("Add", ["kept", "gate"], ["out_0"]),
        helper.make_node("Tanh", ["out_0"], ["squashed"]),
        helper.make_node("Mul", ["squashed", "gate"], ["out_1"]),
        helper.make_node("MatMul", ["out_1", "V"], ["out_2"]),
    ]
    x = ["n", 3]
    names = [("in_0", FLOAT, D), ("in_1", FLOAT, D), ("in_2", FLOAT, x)]
    outputs = [("out_0", FLOAT, D), ("out_1", FLOAT, D), ("out_2", FLOAT, x)]
    sizes = {"W": (3, 4), "U": (4, 4), "V": (4, 3)}
    weights = {name: np.ones(size, "f") for name, size in sizes.items()}
    assert pairs(build(nodes, names, outputs, weights)) == {"in_0": "out_0", "in_1": "out_1"}


def test_what_is_handed_through_is_no_state(
    build: Callable[..., onnx.ModelProto], pairs: Callable[..., dict[str, str]]
) -> None:
    """A speaker's embedding comes out as it went in; a counter, which nothing reaches either, is a
    state all the same.
    """
    nodes = [
        helper.make_node("Add", ["x", "speaker"], ["a"]),
        helper.make_node("Identity", ["speaker"], ["speaker_out"]),
        helper.make_node("Add", ["count", "one"], ["count_out"]),
        helper.make_node("Mul", ["a", "count"], ["y"]),
    ]
    inputs = [(name, FLOAT, D) for name in ("x", "speaker", "count")]
    outputs = [(name, FLOAT, D) for name in ("y", "speaker_out", "count_out")]
    model = build(nodes, inputs, outputs, {"one": np.float32(1)})
    assert pairs(model) == {"count": "count_out"}


def test_reasons_and_confidence_are_told(
    leaky: Callable[..., onnx.ModelProto], save: Callable[..., Path]
) -> None:
    (named,) = guessed(save(leaky()))
    (nameless,) = guessed(save(leaky(("p", "q"), ("frame", "score"))))
    assert named.confidence == "sure"
    assert nameless.confidence in ("likely", "possible")
    assert "its name and the output's belong together" in named.reasons
    assert "is carried to the output through sums and products" in nameless.reasons

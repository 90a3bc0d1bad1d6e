"""The text that is written: Triton's schema, a reason for each line."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper

from inspection.choices import Choices
from inspection.config import HEAD, config_text
from inspection.errors import Refused
from inspection.findings import find
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx

FLOAT = TensorProto.FLOAT


@pytest.fixture
def text(save: Callable[..., Path]) -> Callable[..., str]:
    def text(model: onnx.ModelProto, **choices: Any) -> str:
        return config_text(find(save(model, "leaky.onnx"), Choices(**choices)), 32, 60.0)

    return text


def parsed(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def test_a_model_with_a_batch_axis(
    leaky: Callable[..., onnx.ModelProto], text: Callable[..., str]
) -> None:
    config = parsed(text(leaky()))
    assert config.max_batch_size == 32
    assert config.sequence_batching.max_sequence_idle_microseconds == 60_000_000
    (state,) = config.sequence_batching.state
    assert (state.input_name, state.output_name, list(state.dims)) == ("h", "h_next", [4])
    assert [(t.name, list(t.dims)) for t in config.input] == [("x", [4])]
    assert [(t.name, list(t.dims)) for t in config.output] == [("y", [4])]
    assert not config.parameters


def test_a_model_without(leaky: Callable[..., onnx.ModelProto], text: Callable[..., str]) -> None:
    config = parsed(text(leaky(dims=(1, 4))))
    assert config.max_batch_size == 0
    assert list(config.sequence_batching.state[0].dims) == [1, 4]
    assert list(config.input[0].dims) == [1, 4]


def test_where_all_outputs_are_states_they_are_the_answer(
    build: Callable[..., onnx.ModelProto], text: Callable[..., str]
) -> None:
    nodes = [helper.make_node("Add", ["h", "x"], ["h_next"])]
    d = ["n", 4]
    config = parsed(text(build(nodes, [("x", FLOAT, d), ("h", FLOAT, d)], [("h_next", FLOAT, d)])))
    assert [(t.name, list(t.dims)) for t in config.output] == [("h_next", [4])]
    assert config.sequence_batching.state[0].output_name == "h_next"


def test_a_result_that_comes_back_with_the_next_request_is_served_too(
    build: Callable[..., onnx.ModelProto], text: Callable[..., str]
) -> None:
    """As a policy that is told its last action."""
    nodes = [
        helper.make_node("Add", ["obs", "prev_action"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["action"]),
        helper.make_node("ReduceMean", ["sum"], ["worth"], axes=[1]),
    ]
    inputs = [("obs", FLOAT, ["n", 4]), ("prev_action", FLOAT, ["n", 4])]
    outputs = [("action", FLOAT, ["n", 4]), ("worth", FLOAT, ["n", 1])]
    config = parsed(text(build(nodes, inputs, outputs, opset=17)))
    assert config.sequence_batching.state[0].output_name == "action"
    assert [tensor.name for tensor in config.output] == ["action", "worth"]


def test_every_line_is_explained(
    leaky: Callable[..., onnx.ModelProto], text: Callable[..., str]
) -> None:
    """Each statement outside braces has a comment above it, or belongs to a group that has."""
    lines = text(leaky()).splitlines()
    assert lines[0].startswith(f"{HEAD} from leaky.onnx")
    assert all(len(line) <= 100 for line in lines)
    for above, line in itertools.pairwise(lines):
        if line.startswith(("max_batch_size", "  max_seq", "  state", "parameters", "input")):
            kind = line.split()[0]
            assert above.lstrip().startswith("#") or above.split()[:1] == [kind], line


def test_names_with_quotes_and_constants(
    build: Callable[..., onnx.ModelProto], text: Callable[..., str]
) -> None:
    before, after = 'h"1', 'h"1_next'
    nodes = [
        helper.make_node("Mul", ["x", "gain"], ["s"]),
        helper.make_node("Add", [before, "s"], [after]),
        helper.make_node("Abs", [after], ["y"]),
    ]
    d = ["n", 4]
    inputs = [("x", FLOAT, d), (before, FLOAT, d), ("gain", FLOAT, [4])]
    model = build(nodes, inputs, [("y", FLOAT, d), (after, FLOAT, d)])
    config = parsed(text(model, constants={"gain": "[1, 2, 3, 4]"}))
    assert config.sequence_batching.state[0].input_name == before
    assert config.parameters["rnnserve.constant.gain"].string_value == "[1, 2, 3, 4]"
    assert [tensor.name for tensor in config.input] == ["x"]


def test_axes_and_the_start_flag_of_a_recurrent_policy(
    build: Callable[..., onnx.ModelProto], text: Callable[..., str]
) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "W": rng.normal(size=(1, 6, 3)).astype("f"),
        "R": rng.normal(size=(1, 6, 2)).astype("f"),
        "one": np.float32(1),
        "first": np.array([0]),
    }
    nodes = [
        helper.make_node("Cast", ["is_first"], ["f"], to=FLOAT),
        helper.make_node("Sub", ["one", "f"], ["keep"]),
        helper.make_node("Mul", ["hidden", "keep"], ["h0"]),
        helper.make_node("Unsqueeze", ["obs", "first"], ["seq"]),
        helper.make_node("GRU", ["seq", "W", "R", "", "", "h0"], ["", "hidden_out"], hidden_size=2),
        helper.make_node("Squeeze", ["hidden_out", "first"], ["action"]),
    ]
    state = [1, "n", 2]
    inputs = [("obs", FLOAT, ["n", 3]), ("hidden", FLOAT, state)]
    inputs.append(("is_first", TensorProto.BOOL, ["n", 1]))
    outputs = [("action", FLOAT, ["n", 2]), ("hidden_out", FLOAT, state)]
    config = parsed(text(build(nodes, inputs, outputs, weights)))
    assert config.parameters["rnnserve.state.hidden.batch_axis"].string_value == "1"
    (control,) = config.sequence_batching.control_input
    assert control.name == "is_first"
    assert list(control.control[0].bool_false_true) == [False, True]
    assert [tensor.name for tensor in config.input] == ["obs"]


def test_time_is_written_with_the_proof_that_it_may_be_cut(
    leaky: Callable[..., onnx.ModelProto],
    build: Callable[..., onnx.ModelProto],
    text: Callable[..., str],
) -> None:
    nodes = [
        helper.make_node("CumSum", ["frames", "axis"], ["sums"]),
        helper.make_node("Unsqueeze", ["total", "axis1"], ["before"]),
        helper.make_node("Add", ["sums", "before"], ["y"]),
        helper.make_node("Gather", ["y", "last"], ["total_next"], axis=1),
    ]
    weights = {"axis": np.array(1), "axis1": np.array([1]), "last": np.array(-1)}
    inputs = [("frames", FLOAT, ["n", "t", 3]), ("total", FLOAT, ["n", 3])]
    outputs = [("y", FLOAT, ["n", "t", 3]), ("total_next", FLOAT, ["n", 3])]
    config = parsed(text(build(nodes, inputs, outputs, weights)))
    values = {key: value.string_value for key, value in config.parameters.items()}
    assert values == {
        "rnnserve.time_axis.frames": "1",
        "rnnserve.time_axis.y": "1",
        "rnnserve.may_be_cut": "true",
    }
    assert list(config.input[0].dims) == [-1, 3]


def test_batch_axes_that_are_not_the_first(
    build: Callable[..., onnx.ModelProto], text: Callable[..., str]
) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(1, 6, n)).astype("f") for name, n in (("W", 3), ("R", 2))}
    gru = helper.make_node("GRU", ["x", "W", "R", "", "", "h"], ["y", "h_next"], hidden_size=2)
    inputs = [("x", FLOAT, ["t", "n", 3]), ("h", FLOAT, [1, "n", 2])]
    outputs = [("y", FLOAT, ["t", 1, "n", 2]), ("h_next", FLOAT, [1, "n", 2])]
    config = parsed(text(build([gru], inputs, outputs, weights)))
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "rnnserve.batch_axis.x": "1",
        "rnnserve.batch_axis.y": "2",
        "rnnserve.state.h.batch_axis": "1",
        "rnnserve.time_axis.x": "1",
        "rnnserve.time_axis.y": "1",
        "rnnserve.may_be_cut": "true",
    }
    assert [list(t.dims) for t in (*config.input, *config.output)] == [[-1, 3], [-1, 1, 2]]


def test_outputs_that_are_no_numbers_are_left_out(
    build: Callable[..., onnx.ModelProto], save: Callable[..., Path], text: Callable[..., str]
) -> None:
    """As classifiers of scikit-learn have them: a sequence of maps beside the label."""
    nodes = [
        helper.make_node("Cast", ["x"], ["words"], to=TensorProto.STRING),
        helper.make_node("SequenceConstruct", ["x"], ["many"]),
        helper.make_node("Abs", ["x"], ["y"]),
    ]
    x, words = [("x", FLOAT, ["n", 4])], ("words", TensorProto.STRING, ["n", 4])
    model = build(nodes, x, [words, ("y", FLOAT, ["n", 4])])
    many = helper.make_tensor_sequence_value_info("many", FLOAT, None)
    model.graph.output.append(many)
    assert [tensor.name for tensor in parsed(text(model)).output] == ["y"]
    assert find(save(model), Choices()).notes == (
        "output 'words' is string[n, 4], and left out: answers carry numbers",
        "output 'many' is no tensor, and left out: answers carry numbers",
    )
    with pytest.raises(Refused, match=r"output 'words' is string\[n, 4\]; expected numbers"):
        text(build(nodes[:1], x, [words]))

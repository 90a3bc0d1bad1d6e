"""`sequence_batching`: strategies that make no sense, and states of every type and beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper

from server import datatypes
from server.errors import StartupError
from server.repository.load import load
from server.repository.problem import Problem
from server.repository.sequences import check_strategy
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    import onnx

    from tests.server.conftest import MakeModel


@pytest.mark.parametrize(
    ("strategy", "answer"),
    [
        (
            "direct { minimum_slot_utilization: 1.5 }",
            "direct.minimum_slot_utilization: 1.5; expected a number from 0 to 1",
        ),
        (
            "direct { minimum_slot_utilization: -0.5 }",
            "direct.minimum_slot_utilization: -0.5; expected a number from 0 to 1",
        ),
        (
            "direct { minimum_slot_utilization: nan }",
            "direct.minimum_slot_utilization: nan; expected a number from 0 to 1",
        ),
        (
            "oldest { max_candidate_sequences: -1 }",
            "oldest.max_candidate_sequences: -1; expected 0 or more",
        ),
        (
            "oldest { preferred_batch_size: [ 4, -2 ] }",
            "oldest.preferred_batch_size: -2; expected 1 to max_batch_size, which is 8",
        ),
        (
            "oldest { preferred_batch_size: [ 0 ] }",
            "oldest.preferred_batch_size: 0; expected 1 to max_batch_size, which is 8",
        ),
        (
            "oldest { preferred_batch_size: [ 9 ] }",
            "oldest.preferred_batch_size: 9; expected 1 to max_batch_size, which is 8",
        ),
    ],
)
def test_strategies_that_make_no_sense(strategy: str, answer: str) -> None:
    text = f"max_batch_size: 8 sequence_batching {{ {strategy} }}"
    with pytest.raises(Problem) as caught:
        check_strategy(text_format.Parse(text, ModelConfig()))
    assert str(caught.value) == f"sequence_batching.{answer}"


@pytest.mark.parametrize(
    "strategy",
    [
        "direct { max_queue_delay_microseconds: 100 minimum_slot_utilization: 0.5 }",
        "oldest { max_candidate_sequences: 4 preferred_batch_size: [ 4, 8 ] }",
        "oldest { max_queue_delay_microseconds: 100 preserve_ordering: true }",
    ],
)
def test_strategies_that_do(strategy: str) -> None:
    text = f"max_batch_size: 8 sequence_batching {{ {strategy} }}"
    check_strategy(text_format.Parse(text, ModelConfig()))


# ---- states -------------------------------------------------------------------------------------


def carrier(elem_type: int, *shape: int | str) -> onnx.ModelProto:
    """`x` → `y` and `s` → `s_next`, as they are."""
    value = helper.make_tensor_value_info
    x, y = (value(name, TensorProto.FLOAT, ["b", 1]) for name in "xy")
    before, after = (value(name, elem_type, ["b", *shape]) for name in ("s", "s_next"))
    nodes = [helper.make_node("Identity", [i], [o]) for i, o in (("x", "y"), ("s", "s_next"))]
    graph = helper.make_graph(nodes, "g", [x, before], [y, after])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def config(state: str) -> str:
    return f"""max_batch_size: 4
    sequence_batching {{ state {{ input_name: "s" output_name: "s_next" {state} }} }}"""


@pytest.mark.parametrize("name", sorted(datatypes.BY_NAME))
def test_a_state_of_any_type_begins_with_what_is_in_its_file(
    make_model: MakeModel, name: str
) -> None:
    datatype = datatypes.BY_NAME[name]
    values = np.array([1, 0, 1, 1, 0, 1]).astype(datatype.dtype)
    text = config(
        f"data_type: TYPE_{name} dims: [ 2, 3 ]"
        f" initial_state {{ name: 'i' data_type: TYPE_{name} dims: [ 2, 3 ] data_file: 's0' }}"
    )
    little = values.astype(datatype.dtype.newbyteorder("<")).tobytes()
    path = make_model("m", text, carrier(datatype.onnx, 2, 3), initial_state={"s0": little})
    [state] = load(path)[0].states
    assert (state.shape, state.initial.dtype) == ((2, 3), datatype.dtype)
    np.testing.assert_array_equal(state.initial, values.reshape(2, 3))


def test_any_byte_but_0_is_true(make_model: MakeModel) -> None:
    text = config("initial_state { data_file: 's0' }")
    data = {"s0": bytes([0, 1, 2, 255])}
    path = make_model("m", text, carrier(TensorProto.BOOL, 4), initial_state=data)
    initial = load(path)[0].states[0].initial
    assert initial.tobytes() == bytes([0, 1, 1, 1])


@pytest.mark.parametrize(
    ("dims", "initial", "shape"),
    [
        ("dims: [ -1, 3 ]", "dims: [ 2, 3 ] zero_data: true", (2, 3)),
        ("dims: [ -1, -1 ]", "dims: [ 2, -1 ] zero_data: false", (2, 3)),
        ("", "dims: [ 5, 3 ]", (5, 3)),
        ("dims: [ -1, 3 ]", "zero_data: true", (1, 3)),
    ],
)
def test_an_initial_state_fixes_sizes(
    make_model: MakeModel, dims: str, initial: str, shape: tuple[int, ...]
) -> None:
    text = config(f"{dims} initial_state {{ {initial} }}")
    [state] = load(make_model("m", text, carrier(TensorProto.FLOAT, "any", 3)))[0].states
    assert (state.shape, state.initial.any()) == (shape, False)


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (
            "",
            "the model has [-1, -1, 3]; expected its dims: which size it has is not told",
        ),
        (
            "dims: [ -1, 3 ] initial_state { dims: [ 0, 3 ] }",
            "initial_state's dims [0, 3]; expected sizes of 1 or more",
        ),
        (
            "dims: [ -1, 3 ] initial_state { dims: [ -2, 3 ] }",
            "initial_state's dims [-2, 3]; expected sizes of 1 or more",
        ),
        ("dims: [ -3, 3 ]", "dims [-3, 3]; expected sizes of 1 or more, or -1 for any"),
        (
            "dims: [ 2, 3 ] initial_state { data_type: TYPE_STRING }",
            "initial_state's data_type differs from the state's",
        ),
    ],
)
def test_sizes_that_a_state_cannot_have(make_model: MakeModel, state: str, answer: str) -> None:
    path = make_model("m", config(state), carrier(TensorProto.FLOAT, "any", 3))
    with pytest.raises(StartupError) as caught:
        load(path)
    assert str(caught.value) == f"{path}/config.pbtxt: state 's': {answer}"


def test_a_size_that_nobody_says_is_one_and_is_said(make_model: MakeModel) -> None:
    model = carrier(TensorProto.FLOAT, "any", 3)
    [spec] = load(make_model("m", config("dims: [ -1, 3 ]"), model))
    assert (spec.states[0].shape, spec.states[0].initial.any()) == ((1, 3), False)
    (hint,) = spec.hints
    assert hint.startswith("state 's': dims [-1, 3]: -1 is taken as 1")

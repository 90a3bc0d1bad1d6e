"""Batch and time: what is tried, and what the trial says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from inspection.errors import Refused
from inspection.findings import Choices, Findings, find

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
UNITS = 2


@pytest.fixture
def found(save: Callable[..., Path]) -> Callable[..., Findings]:
    return lambda model, **choices: find(save(model), Choices(**choices))


def lstm(
    build: Callable[..., onnx.ModelProto],
    *,
    state: list[int | str | None],
    frames: list[int | str | None],
    direction: str = "forward",
    last: bool = False,
) -> onnx.ModelProto:
    """frames (batch, time, 3) → y (batch, time, directions, units) or the last step; h0 → hn."""
    directions = 2 if direction == "bidirectional" else 1
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {
        "W": rng.normal(size=(directions, 3 * UNITS, 3)).astype("f"),
        "R": rng.normal(size=(directions, 3 * UNITS, UNITS)).astype("f"),
        "end": np.array(-1),
    }
    nodes = [
        helper.make_node("Transpose", ["frames"], ["x"], perm=[1, 0, 2]),
        helper.make_node(
            "GRU", ["x", "W", "R", "", "", "h0"], ["seq", "hn"], hidden_size=UNITS,
            direction=direction, linear_before_reset=1,
        ),
        helper.make_node("Gather", ["seq", "end"], ["y"], axis=0)
        if last
        else helper.make_node("Transpose", ["seq"], ["y"], perm=[2, 0, 1, 3]),
    ]  # fmt: skip
    outputs = [("y", FLOAT, [None] * (3 if last else 4)), ("hn", FLOAT, state)]
    return build(nodes, [("frames", FLOAT, frames), ("h0", FLOAT, state)], outputs, weights)


@pytest.mark.parametrize("symbols", [("batch", "batch", "time"), ("a", "b", "c"), (None,) * 3])
def test_a_batch_axis_in_the_middle_and_time(
    build: Callable[..., onnx.ModelProto],
    found: Callable[..., Findings],
    symbols: tuple[str | None, ...],
) -> None:
    rows, own, time = symbols
    findings = found(lstm(build, frames=[rows, time, 3], state=[1, own, UNITS]))
    assert findings.batch.axes == {"h0": 1}
    assert findings.state_shape("h0") == [1, UNITS]
    assert findings.session_bytes() == 4 * UNITS
    assert (findings.time.inputs, findings.time.outputs) == ({"frames": 1}, {"y": 1})
    assert findings.time.may_be_cut


def test_of_several_axes_of_any_size_the_one_that_works(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    findings = found(lstm(build, frames=[None, None, 3], state=[None, None, None]))
    assert findings.batch.axes == {"h0": 1}
    assert findings.state_shape("h0") == [1, UNITS]


def test_an_axis_of_any_size_in_a_state_that_is_not_the_batch_needs_its_size(
    leaky: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    asked = found(leaky(dims=("batch", "width")))
    assert (asked.needs_sizes, asked.missing) == (("width",), "--size width=N")
    findings = found(leaky(dims=("batch", "width")), sizes={"width": 6})
    assert findings.batch.axes == {"h": 0}
    assert findings.missing == ""
    assert findings.state_shape("h") == [6]
    assert not findings.time.inputs


def test_a_bidirectional_model_has_timesteps_and_may_not_be_cut(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    model = lstm(build, frames=["n", "t", 3], state=[2, "n", UNITS], direction="bidirectional")
    time = found(model).time
    assert (time.inputs, time.outputs, time.may_be_cut) == ({"frames": 1}, {"y": 1}, False)
    assert "the result is another" in time.why


def test_the_last_step_alone(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    """(1, batch, units) comes out, whose first axis is not the batch: so there is none."""
    findings = found(lstm(build, frames=[1, "t", 3], state=[1, 1, UNITS], last=True))
    assert findings.batch.axes is None
    assert (findings.time.inputs, findings.time.outputs) == ({"frames": 1}, {})
    assert findings.time.may_be_cut


def test_a_fixed_batch_of_one_is_no_batch(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    findings = found(lstm(build, frames=[1, "t", 3], state=[1, 1, UNITS]))
    assert findings.batch.axes is None
    assert "fixed at 1" in findings.batch.why
    assert findings.input_dims(findings.trial.data[0]) == [1, -1, 3]


def test_rows_that_depend_on_each_other_are_no_batch(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x", "zero"], ["mean"]),
        helper.make_node("Add", ["h", "mean"], ["h_next"]),
        helper.make_node("Mul", ["h_next", "x"], ["y"]),
    ]
    dims = ["batch", 4]
    inputs, outputs = [("x", FLOAT, dims), ("h", FLOAT, dims)], [("y", FLOAT, dims)]
    model = build(nodes, inputs, [*outputs, ("h_next", FLOAT, dims)], {"zero": np.array([0])})
    findings = found(model)
    assert findings.batch.axes is None
    assert "no choice of axes" in findings.batch.why
    assert findings.input_dims(findings.trial.data[0]) == [1, 4]


def test_a_batch_axis_can_be_declined(
    leaky: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    findings = found(leaky(), batched=False)
    assert findings.batch.axes is None
    assert findings.state_shape("h") == [1, 4]


def padded(build: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    """A GRU with sequence_lens: (batch, time, 3), lengths (batch,)."""
    rng = np.random.default_rng(0)
    weights = {
        "W": rng.normal(size=(1, 3 * UNITS, 3)).astype("f"),
        "R": rng.normal(size=(1, 3 * UNITS, UNITS)).astype("f"),
    }
    nodes = [
        helper.make_node("Cast", ["x_lens"], ["lens"], to=TensorProto.INT32),
        helper.make_node("Transpose", ["frames"], ["x"], perm=[1, 0, 2]),
        helper.make_node(
            "GRU", ["x", "W", "R", "", "lens", "h0"], ["seq", "hn"], hidden_size=UNITS
        ),
        helper.make_node("Transpose", ["seq"], ["y"], perm=[2, 0, 1, 3]),
    ]
    inputs = [("frames", FLOAT, ["n", "t", 3]), ("x_lens", INT64, ["n"])]
    inputs.append(("h0", FLOAT, [1, "n", UNITS]))
    outputs = [("y", FLOAT, ["n", "t", 1, UNITS]), ("hn", FLOAT, [1, "n", UNITS])]
    return build(nodes, inputs, outputs, weights)


def test_a_model_that_is_told_lengths_is_not_cut(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    findings = found(padded(build))
    assert findings.batch.axes == {"h0": 1}
    assert findings.time.inputs == {"frames": 1}
    assert not findings.time.may_be_cut


def test_a_state_that_grows_is_refused(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    nodes = [
        helper.make_node("Concat", ["past_key", "x"], ["present_key"], axis=1),
        helper.make_node("ReduceSum", ["present_key"], ["y"]),
    ]
    inputs = [("x", FLOAT, ["n", 1, 4]), ("past_key", FLOAT, ["n", "past", 4])]
    outputs = [("y", FLOAT, [1, 1, 1]), ("present_key", FLOAT, ["n", "total", 4])]
    with pytest.raises(Refused, match="a state must keep its size"):
        found(build(nodes, inputs, outputs))


def test_sizes_that_only_its_maker_knows(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["m"]),
        helper.make_node("Add", ["m", "h"], ["h_next"]),
        helper.make_node("Abs", ["h_next"], ["y"]),
    ]
    inputs = [("x", FLOAT, ["n", "window"]), ("h", FLOAT, ["n", 4])]
    outputs = [("y", FLOAT, ["n", 4]), ("h_next", FLOAT, ["n", 4])]
    model = build(nodes, inputs, outputs, {"W": np.ones((7, 4), "f")})
    with pytest.raises(Refused, match=r"--size window=N"):
        found(model)
    assert found(model, sizes={"window": 7}).batch.axes == {"h": 0}
    with pytest.raises(
        Refused, match="--size width: no such axis of any size; there is: n, window"
    ):
        found(model, sizes={"width": 7})

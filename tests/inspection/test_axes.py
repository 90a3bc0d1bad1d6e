"""Batch and time: what is tried, and what the trial says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from inspection.choices import Choices
from inspection.errors import Refused
from inspection.findings import Findings, find

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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


def time_major(
    build: Callable[..., onnx.ModelProto],
    frames: list[int | str | None],
    state: list[int | str | None],
    head: Sequence[onnx.NodeProto] = (),
    answer: list[int | str | None] | None = None,
) -> onnx.ModelProto:
    """As torch's layers are without batch_first: frames (time, batch, 3) → seq (time, 1, batch, 2),
    h0 → hn. `head` makes y of seq; without it y is seq.
    """
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {
        "W": rng.normal(size=(1, 3 * UNITS, 3)).astype("f"),
        "R": rng.normal(size=(1, 3 * UNITS, UNITS)).astype("f"),
        "flat": np.array([-1, UNITS]),
    }
    gru = helper.make_node(
        "GRU", ["frames", "W", "R", "", "", "h0"], ["seq", "hn"], hidden_size=UNITS
    )
    nodes = [gru, *(head or [helper.make_node("Identity", ["seq"], ["y"])])]
    outputs = [("y", FLOAT, answer or [None] * 4), ("hn", FLOAT, state)]
    return build(nodes, [("frames", FLOAT, frames), ("h0", FLOAT, state)], outputs, weights)


@pytest.mark.parametrize(
    ("frames", "state"),
    [
        (["time", "batch", 3], [1, "batch", UNITS]),
        (["p", "q", 3], [1, "q", UNITS]),
        ([None, None, 3], [None, None, None]),
        (["dynamic", "dynamic", 3], [1, "dynamic", UNITS]),
        ([1, "n", 3], [1, "n", UNITS]),
    ],
)
def test_a_batch_axis_that_is_not_the_first(
    build: Callable[..., onnx.ModelProto],
    found: Callable[..., Findings],
    frames: list[int | str | None],
    state: list[int | str | None],
) -> None:
    findings = found(time_major(build, frames, state))
    assert findings.batch.tensors == {"frames": 1, "y": 2}
    assert findings.batch.axes == {"h0": 1}
    assert findings.state_shape("h0") == [1, UNITS]
    (value,) = findings.trial.data
    (answer,) = findings.served
    if frames[0] == 1:
        assert findings.input_dims(value) == [1, 3]
        assert findings.output_dims(answer) == [1, 1, UNITS]
        assert not findings.time.inputs
    else:  # counted as requests and answers have them: the batch first
        assert findings.input_dims(value) == [-1, 3]
        assert findings.output_dims(answer) == [-1, 1, UNITS]
        assert (findings.time.inputs, findings.time.outputs) == ({"frames": 1}, {"y": 1})
        assert findings.time.may_be_cut


def test_the_batch_axis_last_and_one_for_each_tensor(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    """x (3, batch), h (batch, 4) → y (4, batch): columns, as mathematicians write them."""
    nodes = [
        helper.make_node("Transpose", ["h"], ["column"], perm=[1, 0]),
        helper.make_node("MatMul", ["W", "x"], ["m"]),
        helper.make_node("Add", ["m", "column"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["y"]),
        helper.make_node("Transpose", ["y"], ["h_next"], perm=[1, 0]),
    ]
    inputs = [("x", FLOAT, [3, "a"]), ("h", FLOAT, ["b", 4])]
    outputs = [("y", FLOAT, [4, "c"]), ("h_next", FLOAT, ["b", 4])]
    weights = {"W": np.random.default_rng(0).normal(size=(4, 3)).astype("f")}
    batch = found(build(nodes, inputs, outputs, weights)).batch
    assert (batch.axes, batch.tensors) == ({"h": 0}, {"x": 1, "y": 1})


@pytest.mark.parametrize(
    ("head", "answer", "why"),
    [
        ([("ReduceMean", ["seq"], {"keepdims": 0})], [], "output 'y' is [], and [] for one"),
        ([("Reshape", ["seq", "flat"], {})], [None, UNITS], "output 'y' is [6, 2]"),
    ],
)
def test_an_output_without_a_place_for_the_rows_forbids_a_batch(
    build: Callable[..., onnx.ModelProto],
    found: Callable[..., Findings],
    head: list[tuple[str, list[str], dict[str, Any]]],
    answer: list[int | str | None],
    why: str,
) -> None:
    """One number for all rows; rows and timesteps counted in one axis."""
    nodes = [helper.make_node(op, inputs, ["y"], **more) for op, inputs, more in head]
    model = time_major(build, ["t", "n", 3], [1, "n", UNITS], nodes, answer or None)
    findings = found(model)
    assert not findings.batched
    assert f"with 3 rows on axis 1 of 'frames' {why}" in findings.batch.why


def test_rows_that_are_quantized_together_are_no_batch(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    """As dynamic quantization does it: one scale for all that a run is given."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["rough"]),
        helper.make_node("Add", ["rough", "h"], ["h_next"]),
        helper.make_node("Abs", ["h_next"], ["y"]),
    ]
    d = ["n", 4]
    inputs, outputs = [("x", FLOAT, d), ("h", FLOAT, d)], [("y", FLOAT, d), ("h_next", FLOAT, d)]
    batch = found(build(nodes, inputs, outputs)).batch
    assert batch.axes is None
    assert "it quantizes by the largest element of all that it is given at once" in batch.why


def test_states_of_a_fixed_batch_that_is_not_one(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    """Exported with two rows, and the states' axis forgotten among those of any size."""
    findings = found(time_major(build, ["time", "batch", 3], [1, 2, UNITS]))
    assert not findings.batched
    assert findings.input_dims(findings.trial.data[0]) == [-1, 2, 3]
    assert findings.time.inputs == {"frames": 0}
    assert findings.state_shape("h0") == [1, 2, UNITS]


def test_a_size_that_is_the_only_one_is_written(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    """The file says any length, and has one written into its middle."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("ReduceSum", ["r", "last"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "h"], ["h_next"]),
        helper.make_node("Abs", ["h_next"], ["y"]),
    ]
    inputs = [("x", FLOAT, ["n", "length"]), ("h", FLOAT, ["n", 4])]
    outputs = [("y", FLOAT, ["n", 4]), ("h_next", FLOAT, ["n", 4])]
    weights = {"shape": np.array([-1, 4, 8]), "last": np.array([2])}
    findings = found(build(nodes, inputs, outputs, weights))
    assert findings.batched
    assert findings.input_dims(findings.trial.data[0]) == [32]


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
    assert "state 'h0' is float[1, 1, 2], with no axis of any size" in findings.batch.why
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
    assert (
        "with 3 rows on axis 0 of 'x' output 'y' is not what each gets alone" in findings.batch.why
    )
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

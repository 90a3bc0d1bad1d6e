"""Inputs that are the same for every request, flags that the server feeds, named states."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
D = ["n", 4]


@pytest.fixture
def found(save: Callable[..., Path]) -> Callable[..., Findings]:
    return lambda model, **choices: find(save(model), Choices(**choices))


def scaled(
    build: Callable[..., onnx.ModelProto], name: str, dims: Sequence[int | str], kind: int = INT64
) -> onnx.ModelProto:
    """h' = h + x·scale, the scale an input."""
    nodes = [
        helper.make_node("Cast", [name], ["scale"], to=FLOAT),
        helper.make_node("Mul", ["x", "scale"], ["step"]),
        helper.make_node("Add", ["h", "step"], ["h_next"]),
        helper.make_node("Abs", ["h_next"], ["y"]),
    ]
    inputs = [("x", FLOAT, D), ("h", FLOAT, D), (name, kind, dims)]
    return build(nodes, inputs, [("y", FLOAT, D), ("h_next", FLOAT, D)])


@pytest.mark.parametrize("name", ["sr", "sample_rate"])
@pytest.mark.parametrize("dims", [[], [1]])
def test_a_sample_rate_is_proposed(
    build: Callable[..., onnx.ModelProto],
    found: Callable[..., Findings],
    name: str,
    dims: list[int],
) -> None:
    (constant,) = found(scaled(build, name, dims)).constants
    assert (constant.name, constant.text) == (name, "16000")
    assert "8000" in constant.why


def test_a_number_that_nobody_can_guess_is_asked_for(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    model = scaled(build, "gain", [], FLOAT)
    assert found(model).needs == ("gain",)
    given = found(model, constants={"gain": "0.5"})
    assert given.needs == ()
    assert given.batch.axes == {"h": 0}
    assert found(model, batched=False).needs == ()  # then each request brings it


@pytest.mark.parametrize(
    ("dims", "text"), [([4], "[1, 2, 3, 4]"), ([4], "3"), (["n", 4], "[[1, 2, 3, 4]]"), ([], "7")]
)
def test_constants_of_any_shape(
    build: Callable[..., onnx.ModelProto],
    found: Callable[..., Findings],
    dims: list[int | str],
    text: str,
) -> None:
    findings = found(scaled(build, "weights", dims), constants={"weights": text})
    assert findings.batch.axes == {"h": 0}
    assert [value.name for value in findings.trial.data] == ["x"]


@pytest.mark.parametrize("text", ["0.5", "loud", "[1, 2]", '"a"'])
def test_a_value_that_does_not_fit(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings], text: str
) -> None:
    with pytest.raises(Refused, match="not a value for int64"):
        found(scaled(build, "weights", [4]), constants={"weights": text})


@pytest.mark.parametrize("name", ["h", "nothing"])
def test_a_constant_that_is_no_such_input(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings], name: str
) -> None:
    with pytest.raises(Refused, match="no such input beside the states; there is: x, sr"):
        found(scaled(build, "sr", []), constants={name: "1"})


def episodic(build: Callable[..., onnx.ModelProto], dims: Sequence[int | str]) -> onnx.ModelProto:
    """h' = (1 - episode_start)·h + x."""
    nodes = [
        helper.make_node("Sub", ["one", "episode_start"], ["keep"]),
        helper.make_node("Mul", ["h", "keep"], ["kept"]),
        helper.make_node("Add", ["kept", "x"], ["h_next"]),
        helper.make_node("Abs", ["h_next"], ["y"]),
    ]
    inputs = [("x", FLOAT, D), ("h", FLOAT, D), ("episode_start", FLOAT, dims)]
    outputs = [("y", FLOAT, D), ("h_next", FLOAT, D)]
    return build(nodes, inputs, outputs, {"one": np.float32(1)})


def test_a_start_flag_is_the_servers(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    findings = found(episodic(build, ["n", 1]))
    assert findings.trial.start is not None
    assert [value.name for value in findings.trial.data] == ["x"]
    assert findings.batch.axes == {"h": 0}


def test_one_flag_for_all_rows_rules_a_batch_out(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    findings = found(episodic(build, [1]))
    assert findings.batch.axes is None
    assert findings.batch.why == "input 'episode_start' is one flag for all rows"


def test_named_states_replace_the_guess(
    leaky: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    findings = found(leaky(), pairs=(("x", "y"),))
    assert [(pair.input, pair.output) for pair in findings.pairs] == [("x", "y")]
    assert found(leaky(), pairs=()).pairs == ()


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ((("z", "h_next"),), "no input 'z'; there is: x, h"),
        ((("h", "z"),), "no output 'z'; there is: y, h_next"),
        ((("h", "y"), ("h", "h_next")), "'h' is named twice"),
        ((("h", "y"), ("x", "y")), "'y' is named twice"),
    ],
)
def test_states_that_cannot_be(
    leaky: Callable[..., onnx.ModelProto],
    found: Callable[..., Findings],
    pairs: tuple[tuple[str, str], ...],
    text: str,
) -> None:
    with pytest.raises(Refused, match=text):
        found(leaky(), pairs=pairs)


def test_a_state_of_another_type_is_refused(
    build: Callable[..., onnx.ModelProto], found: Callable[..., Findings]
) -> None:
    with pytest.raises(Refused, match=r"reads int64\[\] and writes float\[n, 4\]"):
        found(scaled(build, "sr", []), pairs=(("sr", "y"),))

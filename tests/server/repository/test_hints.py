"""When a model without configuration looks as if it kept something, and when it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from onnx import TensorProto, helper

from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from tests.server.conftest import LstmModel, MakeModel

Shapes = dict[str, "Sequence[int | str]"]


def model_of(inputs: Shapes, outputs: Shapes) -> onnx.ModelProto:
    values = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph([], "g", *values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    ("inputs", "outputs", "alike"),
    [
        ({"x": ["b", 9], "h": ["b", 4]}, {"y": ["b", 2], "h_next": ["b", 4]}, "h"),
        ({"x": ["b", "t"], "s": [2, "b", 4]}, {"y": ["b"], "n": [2, "b", 4]}, "s"),
        ({"x": [1, 9], "s": [2, 1, 4]}, {"y": [1, 9], "n": [2, 1, 4]}, "x, s"),
        ({"x": ["b", "t"], "s": [2, "b", 4]}, {"y": ["b", 1], "n": ["u", "v", "w"]}, "s"),
        # data and its transformation
        ({"x": ["b", 2]}, {"y": ["b", 2]}, ""),
        ({"x": ["b", 2], "mask": ["b", 2]}, {"y": ["b", 2]}, ""),
        ({"x": ["b", 9], "h": ["b", 4]}, {"y": ["b", 2]}, ""),
        ({"x": ["b", 9], "n": []}, {"y": ["b", 2], "m": []}, ""),  # numbers are too common
    ],
)
def test_a_graph(make_model: MakeModel, inputs: Shapes, outputs: Shapes, alike: str) -> None:
    [spec] = load(make_model("m", None, model_of(inputs, outputs)))
    if alike:
        [hint] = spec.hints
        assert f"value has: {alike}; `rnnserve inspect {spec.onnx_path}`" in hint
    else:
        assert spec.hints == ()
    assert spec.states == ()


@pytest.mark.parametrize(
    "text",
    [
        "sequence_batching { }",
        "input [ { name: 'frames' }, { name: 'h' }, { name: 'c' } ]",
    ],
)
def test_whoever_says_what_the_inputs_are_has_looked(
    make_model: MakeModel, lstm_model: LstmModel, text: str
) -> None:
    [spec] = load(make_model("lstm", text, lstm_model()))
    assert spec.hints == ()

"""The static check names what would leave the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.placement import placement_of

if TYPE_CHECKING:
    import onnx

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    op_type: str, *, opset: int = 18, constant: bool = True, **attributes: Any
) -> onnx.ModelProto:
    """A model of one recurrent node with 2 units and 3 features."""
    gates = GATES[op_type]
    weights = {"W": np.zeros((1, 2 * gates, 3), "f"), "R": np.zeros((1, 2 * gates, 2), "f")}
    node = helper.make_node(op_type, ["x", "W", "R"], ["y"], "cell", hidden_size=2, **attributes)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", 3])]
    initialisers = []
    for name, value in weights.items():
        if constant:
            initialisers.append(numpy_helper.from_array(value, name))
        else:
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["time", 1, "batch", 2])
    graph = helper.make_graph([node], "g", inputs, [output], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LSTM", {}),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}),
        ("GRU", {"linear_before_reset": 1}),
        ("RNN", {}),
    ],
)
def test_what_cudnn_runs(op_type: str, attributes: dict[str, Any]) -> None:
    placement = placement_of(recurrent(op_type, **attributes))
    assert placement.fallbacks == ()
    assert str(placement) == "all 1 nodes stay on the CUDA provider"


@pytest.mark.parametrize(
    ("op_type", "attributes", "reason"),
    [
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "sigmoid, tanh, tanh only"),
        ("LSTM", {"activation_alpha": [0.2]}, "activation_alpha"),
        ("LSTM", {"activation_beta": [0.5]}, "activation_beta"),
        ("LSTM", {"clip": 1.0}, "clip"),
        ("LSTM", {"input_forget": 1}, "input_forget"),
        ("GRU", {}, "linear_before_reset=1"),
        ("GRU", {"linear_before_reset": 0}, "linear_before_reset=1"),
        ("RNN", {"activations": ["Relu"]}, "tanh only"),
        ("RNN", {"opset": 22}, "opset 22"),
        ("LSTM", {"constant": False}, "W, R must be initialisers"),
    ],
)
def test_what_falls_back(op_type: str, attributes: dict[str, Any], reason: str) -> None:
    placement = placement_of(recurrent(op_type, **attributes))
    (fallback,) = placement.fallbacks
    assert reason in fallback.reason
    assert "1 of 1 nodes leave the CUDA provider: cell" in str(placement)


def test_peepholes_fall_back() -> None:
    model = recurrent("LSTM")
    model.graph.node[0].input.extend(["", "", "", "", "P"])
    (fallback,) = placement_of(model).fallbacks
    assert "peepholes" in fallback.reason


def test_it_looks_into_loops() -> None:
    """An op that is not in the list counts as one that falls back, wherever it stands."""
    value = helper.make_tensor_value_info("a", TensorProto.FLOAT, ["batch"])
    step = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["batch"])
    body = helper.make_graph(
        [helper.make_node("Det", ["a"], ["b"], "inner")], "body", [value], [step]
    )
    scan = helper.make_node("Scan", ["x"], ["y"], "loop", body=body, num_scan_inputs=1)
    graph = helper.make_graph([scan], "g", [], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    placement = placement_of(model)
    assert placement.nodes == 2
    assert [f.node for f in placement.fallbacks] == ["inner"]

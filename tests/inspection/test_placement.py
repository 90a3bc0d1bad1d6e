"""The static check names what would leave the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inspection.kernels import FILE, Kernel
from inspection.placement import placement_of

if TYPE_CHECKING:
    from collections.abc import Callable

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
D = ["n", 4]
ROOT = Path(__file__).parents[2]


def recurrent(
    op_type: str, *, opset: int = 18, constant: bool = True, **attributes: Any
) -> onnx.ModelProto:
    """A model of one recurrent node with 2 units and 3 features."""
    gates = GATES[op_type]
    weights = {"W": np.zeros((1, 2 * gates, 3), "f"), "R": np.zeros((1, 2 * gates, 2), "f")}
    node = helper.make_node(op_type, ["x", "W", "R"], ["y"], "cell", hidden_size=2, **attributes)
    inputs = [helper.make_tensor_value_info("x", FLOAT, ["time", "batch", 3])]
    initialisers = []
    for name, value in weights.items():
        if constant:
            initialisers.append(numpy_helper.from_array(value, name))
        else:
            inputs.append(helper.make_tensor_value_info(name, FLOAT, value.shape))
    output = helper.make_tensor_value_info("y", FLOAT, ["time", 1, "batch", 2])
    graph = helper.make_graph([node], "g", inputs, [output], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LSTM", {}),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}),
        ("LSTM", {"opset": 22}),
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
        ("LSTM", {"layout": 1}, "layout"),
        ("GRU", {}, "linear_before_reset=1"),
        ("GRU", {"linear_before_reset": 0}, "linear_before_reset=1"),
        ("RNN", {"activations": ["Relu"]}, "tanh only"),
        ("LSTM", {"constant": False}, "W, R must be initialisers"),
    ],
)
def test_what_falls_back(op_type: str, attributes: dict[str, Any], reason: str) -> None:
    placement = placement_of(recurrent(op_type, **attributes))
    (fallback,) = placement.fallbacks
    assert (fallback.node, fallback.op_type) == ("cell", op_type)
    assert reason in fallback.reason
    assert str(placement).startswith("1 of 1 nodes leave the CUDA provider: cell")


def test_peepholes_fall_back() -> None:
    model = recurrent("LSTM")
    model.graph.node[0].input.extend(["", "", "", "", "P"])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 6), "f"), "P"))
    assert "peepholes" in placement_of(model).fallbacks[0].reason


def test_weights_that_are_computed_from_constants_are_constants() -> None:
    model = recurrent("GRU", linear_before_reset=1)
    node = model.graph.node[0]
    node.input[1] = "W2"
    model.graph.node.insert(0, helper.make_node("Identity", ["W"], ["W2"]))
    assert placement_of(model).fallbacks == ()


def unary(build: Callable[..., onnx.ModelProto], op: str, kind: int, **kw: Any) -> onnx.ModelProto:
    domain = kw.pop("domain", "")
    node = helper.make_node(op, ["x"], ["y"], op.lower(), domain=domain)
    model = onnx.ModelProto()
    model.CopyFrom(build([helper.make_node("Identity", ["x"], ["y"])], [("x", kind, D)],
                         [("y", kind, D)], **kw))  # fmt: skip
    model.graph.node[0].CopyFrom(node)
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


@pytest.mark.parametrize(
    ("op", "kind", "reason"),
    [
        ("Tanh", FLOAT, None),
        ("Tanh", DOUBLE, None),
        ("Det", FLOAT, "CUDA has no kernel for this op"),
        ("Abs", TensorProto.INT8, None),
        ("Neg", INT64, None),
        ("Softmax", FLOAT, None),
        ("HardSwish", FLOAT, None),
        ("Acosh", FLOAT, "CUDA has no kernel for this op"),
        ("Not", TensorProto.BOOL, None),
        ("Mod", FLOAT, None),
    ],
)
def test_ops_by_their_kernels(
    build: Callable[..., onnx.ModelProto], op: str, kind: int, reason: str | None
) -> None:
    found = [fallback.reason for fallback in placement_of(unary(build, op, kind)).fallbacks]
    assert found == ([] if reason is None else [reason])


def test_an_element_type_without_kernel(build: Callable[..., onnx.ModelProto]) -> None:
    node = helper.make_node("MatMul", ["x", "x"], ["y"], "product")
    model = build([node], [("x", INT64, [4, 4])], [("y", INT64, [4, 4])])
    (fallback,) = placement_of(model).fallbacks
    assert (fallback.node, fallback.reason) == ("product", "CUDA has no kernel for it with int64")


def test_ops_of_onnx_runtime_itself(build: Callable[..., onnx.ModelProto]) -> None:
    assert placement_of(unary(build, "Gelu", FLOAT, domain="com.microsoft")).fallbacks == ()
    (fallback,) = placement_of(unary(build, "Nonsense", FLOAT, domain="com.microsoft")).fallbacks
    assert fallback.reason == "CUDA has no kernel for this op"


def test_the_version_of_an_op_counts() -> None:
    closed, open_end = Kernel(13, 18, {}), Kernel(22, None, {})
    assert closed.takes_version(13)
    assert closed.takes_version(14)
    assert not closed.takes_version(19)
    assert not closed.takes_version(11)
    assert open_end.takes_version(22)
    assert not open_end.takes_version(24)


def test_shapes_are_computed_on_the_cpu_by_design(build: Callable[..., onnx.ModelProto]) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"]),
        helper.make_node("Concat", ["rows", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"]),
    ]
    weights = {"zero": np.array([0]), "rest": np.array([2, 2])}
    model = build(nodes, [("x", FLOAT, D)], [("y", FLOAT, ["n", 2, 2])], weights)
    placement = placement_of(model)
    assert (placement.fallbacks, placement.on_shapes) == ((), 2)
    assert "(2 that compute with shapes stay on the CPU by design)" in str(placement)


def test_bodies_and_functions_are_looked_into(build: Callable[..., onnx.ModelProto]) -> None:
    out = helper.make_tensor_value_info("out", FLOAT, [])
    square = helper.make_node("Det", ["x"], ["out"], "inside")
    branch = helper.make_graph([square], "b", [], [out])
    node = helper.make_node("If", ["c"], ["y"], "if", then_branch=branch, else_branch=branch)
    inputs = [("x", FLOAT, [3, 3]), ("c", TensorProto.BOOL, [])]
    placement = placement_of(build([node], inputs, [("y", FLOAT, [])]))
    assert placement.nodes == 3
    assert [fallback.node for fallback in placement.fallbacks] == ["inside", "inside"]

    model = build(
        [helper.make_node("Abs", ["x"], ["y"])], [("x", FLOAT, [3, 3])], [("y", FLOAT, [])]
    )
    body = [helper.make_node("Det", ["a"], ["b"], "called")]
    imports = list(model.opset_import)
    model.functions.append(helper.make_function("f", "F", ["a"], ["b"], body, imports))
    model.graph.node[0].CopyFrom(helper.make_node("F", ["x"], ["y"], domain="f"))
    model.opset_import.append(helper.make_opsetid("f", 1))
    assert [fallback.op_type for fallback in placement_of(model).fallbacks] == ["Det"]


def test_the_table_is_of_the_version_that_the_project_is_tested_with() -> None:
    pinned = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("onnxruntime-gpu==")
    ]
    version = FILE.read_text().split()[2].rstrip(";")
    assert pinned == [f"onnxruntime-gpu=={version}"]

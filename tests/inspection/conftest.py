"""Small models, built by hand, and those that others made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FLOAT = TensorProto.FLOAT
Tensor = tuple[str, int, "Sequence[int | str | None] | None"]


def value(name: str, elem_type: int, dims: Sequence[int | str | None] | None) -> Any:
    return helper.make_tensor_value_info(name, elem_type, dims)


def build_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    weights: dict[str, Any] | None = None,
    opset: int = 18,
) -> onnx.ModelProto:
    """A model of these nodes; `weights` become initialisers."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [value(*tensor) for tensor in inputs],
        [value(*tensor) for tensor in outputs],
        [numpy_helper.from_array(np.asarray(w), name) for name, w in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def build_leaky(
    names: tuple[str, str] = ("h", "h_next"),
    data: tuple[str, str] = ("x", "y"),
    dims: Sequence[int | str | None] = ("batch", 4),
) -> onnx.ModelProto:
    """h' = 0.5·h + x and y = h'·x: one state, the smallest model that has one."""
    (before, after), (x, y) = names, data
    nodes = [
        helper.make_node("Mul", [before, "half"], ["kept"]),
        helper.make_node("Add", ["kept", x], [after]),
        helper.make_node("Mul", [after, x], [y]),
    ]
    inputs = [(x, FLOAT, dims), (before, FLOAT, dims)]
    outputs = [(y, FLOAT, dims), (after, FLOAT, dims)]
    return build_model(nodes, inputs, outputs, {"half": np.float32(0.5)})


@pytest.fixture
def save(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    """Writes a model to a file of its own and says where."""
    count = iter(range(1000))

    def save(model: onnx.ModelProto, name: str | None = None) -> Path:
        path = tmp_path / (name or f"model{next(count)}.onnx")
        onnx.save(model, path)
        return path

    return save


@pytest.fixture(scope="session")
def build() -> Callable[..., onnx.ModelProto]:
    return build_model


@pytest.fixture(scope="session")
def leaky() -> Callable[..., onnx.ModelProto]:
    return build_leaky


@pytest.fixture(scope="session")
def foreign() -> Path:
    """The folder of models that others made."""
    return Path(__file__).with_name("models")

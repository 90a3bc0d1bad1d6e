"""Two models whose answers are exact for ever, so that any step that is lost, doubled or made with
somebody else's state shows in every later answer.

`fold` keeps `h`: `h = 3 * h + x`, and gives it; `double` keeps nothing and gives `2 * x`. All in
integers of 64 bits, which wrap around. Tensors are `(rows, timesteps, 2)`, the state is `(1, 2)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

FACTOR = 3
VERSIONS = {"fold": (1, 2), "double": (1,)}
CONFIG = """\
max_batch_size: 4
version_policy { all { } }
input [ { name: "x" data_type: TYPE_INT64 dims: [ -1, 2 ] } ]
output [ { name: "y" data_type: TYPE_INT64 dims: [ -1, 2 ] } ]
parameters { key: "rnnserve.time_axis.x" value { string_value: "1" } }
parameters { key: "rnnserve.time_axis.y" value { string_value: "1" } }
"""
STATE = """\
sequence_batching {
  max_sequence_idle_microseconds: 3600000000
  state [ { input_name: "h" output_name: "h_next" data_type: TYPE_INT64 dims: [ 1, 2 ] } ]
}
parameters { key: "rnnserve.may_be_cut" value { string_value: "true" } }
"""


def write(root: Path) -> None:
    for name, (model, config) in {
        "fold": (_fold(), CONFIG + STATE),
        "double": (_double(), CONFIG),
    }.items():
        for version in VERSIONS[name]:
            folder = root / name / str(version)
            folder.mkdir(parents=True)
            onnx.save(model, str(folder / "model.onnx"))
        (root / name / "config.pbtxt").write_text(f'name: "{name}"\n{config}', encoding="utf-8")


def fold(x: Ints, h: Ints) -> Ints:
    """What the model makes of `x`, (rows, timesteps, 2), from `h`, (rows, 2)."""
    with np.errstate(over="ignore"):
        return np.stack([h := FACTOR * h + x[:, t] for t in range(x.shape[1])], axis=1)


def double(x: Ints) -> Ints:
    with np.errstate(over="ignore"):
        return 2 * x


def _fold() -> onnx.ModelProto:
    """One timestep: the server runs a request of any length timestep by timestep."""
    nodes = [
        helper.make_node("Mul", ["h", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "x"], ["h_next"]),
        helper.make_node("Identity", ["h_next"], ["y"]),
    ]
    inputs, outputs = [_tensor("x", 1), _tensor("h", 1)], [_tensor("y", 1), _tensor("h_next", 1)]
    return _model(nodes, inputs, outputs, FACTOR)


def _double() -> onnx.ModelProto:
    nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
    return _model(nodes, [_tensor("x", "time")], [_tensor("y", "time")], 2)


def _tensor(name: str, timesteps: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", timesteps, 2])


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    factor: int,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.array(factor), "factor")]
    graph = helper.make_graph(nodes, "exact", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

"""Models that a load generator can check, in Triton's layout.

"recall" keeps `h = keep * h + x` in 64-bit integers, which wrap around: exact for ever, and a step
that is lost, doubled, out of turn or somebody else's shows in every later answer, as long as `keep`
is odd.
"affine" keeps nothing: `y = 2 * x + 1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 64  # max_batch_size of both
CONFIGS = {
    "recall": """
input [
  { name: "x" data_type: TYPE_INT64 dims: [ 2 ] },
  { name: "keep" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [ { name: "y" data_type: TYPE_INT64 dims: [ 2 ] } ]
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  oldest { }
  state [ { input_name: "h" output_name: "h_next" data_type: TYPE_INT64 dims: [ 2 ] } ]
}
""",
    "affine": """
input [ { name: "x" data_type: TYPE_INT64 dims: [ 3 ] } ]
output [ { name: "y" data_type: TYPE_INT64 dims: [ 3 ] } ]
""",
}


def write(repository: Path) -> None:
    for name, model in (("recall", recall()), ("affine", affine())):
        (repository / name / "1").mkdir(parents=True)
        onnx.save(model, str(repository / name / "1" / "model.onnx"))
        config = f"max_batch_size: {ROWS}\n{CONFIGS[name]}"
        (repository / name / "config.pbtxt").write_text(config, encoding="utf-8")


def recall() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mul", ["keep", "h"], ["kept"]),
        helper.make_node("Add", ["kept", "x"], ["h_next"]),
        helper.make_node("Identity", ["h_next"], ["y"]),
    ]
    inputs = {"x": 2, "keep": 1, "h": 2}
    return _model("recall", nodes, inputs, {"y": 2, "h_next": 2})


def affine() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "one"], ["y"]),
    ]
    return _model("affine", nodes, {"x": 3}, {"y": 3}, two=2, one=1)


def _model(
    name: str, nodes: list[Any], inputs: dict[str, int], outputs: dict[str, int], **constants: int
) -> onnx.ModelProto:
    def tensors(sizes: dict[str, int]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", size])
            for name, size in sizes.items()
        ]

    values = [numpy_helper.from_array(np.array(n), name) for name, n in constants.items()]
    graph = helper.make_graph(nodes, name, tensors(inputs), tensors(outputs), values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def recall_data(lengths: tuple[int, ...], seed: int = 0) -> dict[str, list[list[dict[str, Any]]]]:
    """Sequences of so many steps and what they give, as perf_analyzer's --input-data has them.

    Every last step keeps nothing: when it stops, perf_analyzer ends each sequence early with its
    last step, whose answer must not depend on where the sequence was. The longest sequence is the
    first: the answers expected at step n are those of step n modulo its length.
    """
    rng = np.random.default_rng(seed)
    data: dict[str, list[list[dict[str, Any]]]] = {"data": [], "validation_data": []}
    for length in sorted(lengths, reverse=True):
        h = np.zeros(2, np.int64)
        steps, answers = [], []
        for t in range(length):
            x, keep = rng.integers(-(2**62), 2**62, 2), rng.integers(-(2**62), 2**62) * 2 + 1
            keep *= t < length - 1
            with np.errstate(over="ignore"):
                h = keep * h + x
            steps.append({"x": x.tolist(), "keep": [int(keep)]})
            answers.append({"y": h.tolist()})
        data["data"].append(steps)
        data["validation_data"].append(answers)
    return data

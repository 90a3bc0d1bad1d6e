"""Models with little configuration or none, from a real server to the real `tritonclient` and
perf_analyzer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.libraries import Unavailable
from tests.endtoend import perf_analyzer
from tests.endtoend.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable

FLOAT = TensorProto.FLOAT
SHAPED = """
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: [ 4 ] } },
  { name: "bias" optional: true }
]
output [ { name: "y" dims: [ 2, 2 ] reshape { shape: [ 4 ] } } ]
sequence_batching { state [ { input_name: "h" output_name: "h_next" } ] }
"""


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, Any], outputs: dict[str, Any], **stored: Any
) -> onnx.ModelProto:
    values = [
        [helper.make_tensor_value_info(name, FLOAT, ["b", *row]) for name, row in side.items()]
        for side in (inputs, outputs)
    ]
    arrays = [numpy_helper.from_array(np.float32(array), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", *values, arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def double(row: list[int]) -> onnx.ModelProto:
    """`y` = x + x."""
    return model_of([helper.make_node("Add", ["x", "x"], ["y"])], {"x": row}, {"y": row})


def shaped() -> onnx.ModelProto:
    """`y` = `h_next` = h + x + bias, of four numbers each; the file has a bias of its own."""
    nodes = [
        helper.make_node("Add", ["x", "bias"], ["step"]),
        helper.make_node("Add", ["h", "step"], ["h_next"]),
        helper.make_node("Identity", ["h_next"], ["y"]),
    ]
    rows = {name: [4] for name in ("x", "bias", "h")}
    return model_of(nodes, rows, {"y": [4], "h_next": [4]}, bias=[[1, 2, 3, 4]])


@pytest.fixture(scope="module")
def own_server(start: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    repository = tmp_path_factory.mktemp("completed") / "repository"
    models = {"plain": double([2]), "numbers": double([]), "shaped": shaped()}
    for name, model in models.items():
        (repository / name / "1").mkdir(parents=True)
        onnx.save(model, str(repository / name / "1" / "model.onnx"))
    (repository / "shaped" / "config.pbtxt").write_text(SHAPED)
    return start(repository, "--provider", "cpu").wait_until_serving()


@pytest.fixture(scope="module")
def seen(own_server: Any) -> Any:
    script = Path(__file__).with_name("triton_completed.py")
    command = [sys.executable, str(script), own_server.grpc]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_what_a_plain_model_says_of_itself(seen: Any) -> None:
    config = seen["config"]["plain"]
    assert config == {
        "name": "plain",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 64,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["2"]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": ["2"]}],
        "instance_group": [{"name": "plain_0", "count": 1, "kind": "KIND_CPU"}],
        "default_model_filename": "model.onnx",
        "dynamic_batching": {},
    }
    assert seen["metadata"]["plain"]["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}
    ]


def test_a_plain_model_answers(seen: Any) -> None:
    assert seen["plain"] == {"y": [[2, 4], [6, 8]]}


def test_numbers_have_an_axis_as_with_triton(seen: Any) -> None:
    [entry] = seen["config"]["numbers"]["input"]
    assert (entry["dims"], entry["reshape"]) == (["1"], {})
    assert seen["metadata"]["numbers"]["outputs"][0]["shape"] == ["-1", "1"]
    assert seen["numbers"] == {"y": [[2], [4], [6]]}
    assert "Expected [-1,1], got [3]" in seen["as in the graph"]


def test_a_sequence_with_reshape_and_an_input_that_may_be_left_out(seen: Any) -> None:
    assert seen["metadata"]["shaped"]["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": ["-1", "2", "2"]},
        {"name": "bias", "datatype": "FP32", "shape": ["-1", "4"]},
    ]
    assert [step["y"] for step in seen["shaped"]] == [
        [[[2, 4], [6, 8]]],
        [[[13, 26], [39, 52]]],
        [[[15, 30], [45, 60]]],
    ]
    [state] = seen["config"]["shaped"]["sequence_batching"]["state"]
    assert (state["data_type"], state["dims"]) == ("TYPE_FP32", ["4"])


@pytest.mark.parametrize("model", ["plain", "numbers"])
def test_perf_analyzer_can_read_what_was_completed(own_server: Any, model: str) -> None:
    try:
        load = Load(perf_analyzer.find(), own_server)
    except Unavailable as reason:
        pytest.skip(str(reason))
    report = load.clean(model, "--concurrency-range", "4", "-b", "3", rows=3)
    assert "Concurrency: 4, throughput: " in report.text

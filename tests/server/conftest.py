"""Small models and repositories to serve, and segments of shared memory, made on the spot; drivers
to try.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.shared_memory import DIRECTORY
from tests.server.driver_bench import Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

FEATURES, UNITS = 3, 4

LSTM_CONFIG = """\
name: "lstm"
platform: "onnxruntime_onnx"
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "frames" data_type: TYPE_FP32 dims: [ -1, 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
sequence_batching {
  max_sequence_idle_microseconds: 5000000
  oldest { }
  state [
    {
      input_name: "h" output_name: "h_next" data_type: TYPE_FP32 dims: [ 4 ]
      initial_state { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true name: "zeros" }
    },
    { input_name: "c" output_name: "c_next" data_type: TYPE_FP32 dims: [ 4 ] }
  ]
}
parameters { key: "rnnserve.time_axis.frames" value { string_value: "1" } }
parameters { key: "rnnserve.time_axis.y" value { string_value: "1" } }
parameters { key: "rnnserve.may_be_cut" value { string_value: "true" } }
"""

MIXED_CONFIG = """\
max_batch_size: 8
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 2 ] },
  { name: "place" data_type: TYPE_INT64 dims: [ ] }
]
output [
  { name: "y" data_type: TYPE_FP32 dims: [ 2 ] },
  { name: "count_next" data_type: TYPE_INT64 dims: [ ] }
]
sequence_batching {
  state [
    { input_name: "total" output_name: "total_next" data_type: TYPE_FP32 dims: [ 2 ] },
    { input_name: "count" output_name: "count_next" data_type: TYPE_INT64 dims: [ ] },
    { input_name: "odd" output_name: "odd_next" data_type: TYPE_BOOL dims: [ 1 ] }
  ]
}
"""


class MakeModel(Protocol):
    """Writes a model directory and returns its path. `initial_state` maps file names to bytes."""

    def __call__(
        self,
        name: str,
        config: str | None,
        *models: onnx.ModelProto,
        initial_state: dict[str, bytes] | None = None,
    ) -> Path: ...


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    def make(
        name: str,
        config: str | None,
        *models: onnx.ModelProto,
        initial_state: dict[str, bytes] | None = None,
    ) -> Path:
        directory = tmp_path / "models" / name
        directory.mkdir(parents=True)
        if config is not None:
            (directory / "config.pbtxt").write_text(config, encoding="utf-8")
        for version, model in enumerate(models, start=1):
            (directory / str(version)).mkdir()
            onnx.save(model, str(directory / str(version) / "model.onnx"))
        for file, data in (initial_state or {}).items():
            (directory / "initial_state").mkdir(exist_ok=True)
            (directory / "initial_state" / file).write_bytes(data)
        return directory

    return make


@pytest.fixture
def lstm_config() -> str:
    """Goes with `lstm_model` as it is by default."""
    return LSTM_CONFIG


@pytest.fixture
def mixed_config() -> str:
    """Goes with `mixed_model`."""
    return MIXED_CONFIG


class LstmModel(Protocol):
    """An LSTM, `frames` (batch, time, 3) → `y` (batch, time, 4), with states `h` and `c`.

    They are (batch, 4), or with `batch_axis=1` (1, batch, 4), as torch has them.
    """

    def __call__(
        self, *, seed: int = 0, batch_axis: int = 0, opset: int = 18, prefix: str = ""
    ) -> onnx.ModelProto: ...


@pytest.fixture
def lstm_model() -> LstmModel:
    return _lstm


@pytest.fixture
def mixed_model() -> onnx.ModelProto:
    """States of three types: `total` += x + table[place], `count` += 1, `odd` = not odd.

    `y` is `total` afterwards. `place` outside of 0 and 1 fails the run, after `count` and `odd`
    are through.
    """
    nodes = [
        helper.make_node("Add", ["count", "one"], ["count_next"]),
        helper.make_node("Not", ["odd"], ["odd_next"]),
        helper.make_node("Gather", ["table", "place"], ["offset"]),
        helper.make_node("Add", ["x", "offset"], ["step"]),
        helper.make_node("Add", ["total", "step"], ["total_next"]),
        helper.make_node("Identity", ["total_next"], ["y"]),
    ]
    constants = {"one": np.array(1), "table": np.array([[0.0, 0.0], [10.0, 20.0]], np.float32)}
    inputs = [
        _value("x", np.float32, "batch", 2),
        _value("place", np.int64, "batch"),
        _value("total", np.float32, "batch", 2),
        _value("count", np.int64, "batch"),
        _value("odd", np.bool_, "batch", 1),
    ]
    outputs = [
        _value("y", np.float32, "batch", 2),
        _value("total_next", np.float32, "batch", 2),
        _value("count_next", np.int64, "batch"),
        _value("odd_next", np.bool_, "batch", 1),
    ]
    return _model(nodes, inputs, outputs, constants)


@pytest.fixture
def affine_model() -> onnx.ModelProto:
    """No state: `y` (batch, 2) = 2·x + 1."""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "one"], ["y"]),
    ]
    constants = {"two": np.float32(2), "one": np.float32(1)}
    value = [_value(name, np.float32, "batch", 2) for name in "xy"]
    return _model(nodes, value[:1], value[1:], constants)


def _lstm(
    *, seed: int = 0, batch_axis: int = 0, opset: int = 18, prefix: str = ""
) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    weights = {
        "W": rng.normal(size=(1, 4 * UNITS, FEATURES)).astype(np.float32),
        "R": rng.normal(size=(1, 4 * UNITS, UNITS)).astype(np.float32),
        "B": rng.normal(size=(1, 8 * UNITS)).astype(np.float32),
        "rows": np.array([-1, UNITS]),
        "layers": np.array([1, -1, UNITS]),
    }
    nodes = [helper.make_node("Transpose", ["frames"], [f"{prefix}x"], perm=[1, 0, 2])]
    shape: list[int | str] = ["batch", UNITS]
    if batch_axis == 1:
        nodes += [helper.make_node("Identity", [name], [f"{name}_0"]) for name in "hc"]
        after, shape = ["h_next", "c_next"], [1, "batch", UNITS]
    else:  # Reshape rather than Unsqueeze: the same in every opset
        nodes += [helper.make_node("Reshape", [name, "layers"], [f"{name}_0"]) for name in "hc"]
        after = ["h_T", "c_T"]
    recurrent = ["W", "R", "B", "", "h_0", "c_0"]
    nodes.append(
        helper.make_node("LSTM", [f"{prefix}x", *recurrent], ["Y", *after], hidden_size=UNITS)
    )
    if batch_axis == 0:
        for before, name in zip(after, ("h_next", "c_next"), strict=True):
            nodes.append(helper.make_node("Reshape", [before, "rows"], [name]))
    # (time, 1, batch, units) → (batch, time, 1, units) → (batch, time, units)
    nodes.append(helper.make_node("Transpose", ["Y"], ["Y_first"], perm=[2, 0, 1, 3]))
    weights["flat"] = np.array([0, 0, UNITS])
    nodes.append(helper.make_node("Reshape", ["Y_first", "flat"], ["y"]))
    inputs = [_value("frames", np.float32, "batch", "time", FEATURES)]
    inputs += [_value(name, np.float32, *shape) for name in "hc"]
    outputs = [_value("y", np.float32, "batch", "time", UNITS)]
    outputs += [_value(f"{name}_next", np.float32, *shape) for name in "hc"]
    return _model(nodes, inputs, outputs, weights, opset)


def _value(name: str, dtype: Any, *shape: int | str) -> onnx.ValueInfoProto:
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, elem_type, list(shape))


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, Any],
    opset: int = 18,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, stored)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    assert {tensor.data_type for tensor in stored} <= {TensorProto.FLOAT, TensorProto.INT64}
    return model


@pytest.fixture
def make_segment() -> Iterator[Callable[..., Path]]:
    """Makes segments of shared memory, and removes them."""
    made = []

    def make(content: bytes = bytes(range(64))) -> Path:
        path = DIRECTORY / f"rnnserve-test-{secrets.token_hex(8)}"
        made.append(path)
        path.write_bytes(content)
        return path

    yield make
    for path in made:
        path.unlink(missing_ok=True)


@pytest.fixture
async def make_bench() -> AsyncIterator[Callable[..., Bench]]:
    """Takes what `Bench` takes."""
    benches: list[Bench] = []

    def make(*args: Any, **kwargs: Any) -> Bench:
        benches.append(Bench(*args, **kwargs))
        return benches[-1]

    yield make
    for bench in benches:
        bench.engine.gate.set()
        bench.driver.stop()
        assert bench.driver.scheduler.pending == 0

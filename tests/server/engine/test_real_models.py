"""Models that others made, under configurations as people write them for Triton: with reshape, with
a number as [1], with next to nothing. Beside the untouched model, step by step.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from server.engine.engine import Engine
from server.repository.load import load

if TYPE_CHECKING:
    from tests.server.engine.conftest import Compare

FILES = Path(__file__).parents[2] / "inspection" / "models"

DTLN = """
platform: "onnxruntime_onnx"
max_batch_size: 0
input [ { name: "input_2" data_type: TYPE_FP32 dims: [ 257 ] reshape { shape: [ 1, 1, 257 ] } } ]
output [ { name: "activation_2" dims: [ 257 ] reshape { shape: [ 1, 1, 257 ] } } ]
sequence_batching {
  max_sequence_idle_microseconds: 5000000
  direct { }
  state [ {
    input_name: "input_3" output_name: "tf_op_layer_stack_2"
    data_type: TYPE_FP32 dims: [ 1, 2, 128, 2 ]
    initial_state: { name: "zeros" data_type: TYPE_FP32 dims: [ 1, 2, 128, 2 ] zero_data: true }
  } ]
}
instance_group [ { kind: KIND_CPU } ]
"""
GTCRN = """
backend: "onnxruntime"
input [ { name: "mix" data_type: TYPE_FP32 dims: [ 257, 2 ] reshape { shape: [ 1, 257, 1, 2 ] } } ]
output [ { name: "enh" data_type: TYPE_FP32 dims: [ 514 ] reshape { shape: [ 1, 257, 1, 2 ] } } ]
sequence_batching {
  state [
    { input_name: "conv_cache" output_name: "conv_cache_out" },
    { input_name: "tra_cache" output_name: "tra_cache_out" },
    { input_name: "inter_cache" output_name: "inter_cache_out" }
  ]
}
"""
GRU = 'sequence_batching { state { input_name: "h0_in" output_name: "Identity_1:0" } }'
LSTM = """
sequence_batching {
  oldest { max_candidate_sequences: 64 preferred_batch_size: [ 1 ] }
  state [
    { input_name: "keras_tensor_11" output_name: "Identity_1:0" dims: [ 8 ] },
    { input_name: "keras_tensor_12" output_name: "Identity_2:0" data_type: TYPE_FP32 },
    { input_name: "keras_tensor_16" output_name: "Identity_3:0" },
    { input_name: "keras_tensor_17" output_name: "Identity_4:0" }
  ]
}
"""
SILERO = """
max_batch_size: 0
input [
  { name: "input" data_type: TYPE_FP32 dims: [ 1, 576 ] },
  { name: "sr" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [ { name: "output" data_type: TYPE_FP32 dims: [ 1, 1 ] } ]
sequence_batching {
  control_input [ ]
  state [ {
    input_name: "state" output_name: "stateN" data_type: TYPE_FP32 dims: [ 2, -1, 128 ]
    initial_state: { name: "zeros" data_type: TYPE_FP32 dims: [ 2, 1, 128 ] zero_data: true }
  } ]
}
"""


def entry(tmp_path: Path, file: str, config: str | None) -> Path:
    path = tmp_path / file
    (path / "1").mkdir(parents=True)
    shutil.copyfile(FILES / f"{file}.onnx", path / "1" / "model.onnx")
    if config is not None:
        (path / "config.pbtxt").write_text(config, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("file", "config", "size", "outer"),  # rows that share a run may differ in the last digit
    [
        ("dtln_1", DTLN, 0, (257,)),
        ("gtcrn", GTCRN, 0, (257, 2)),
        ("keras_gru", f"max_batch_size: 1 {GRU}", 1, (-1, -1, 5)),
        ("keras_lstm", f"max_batch_size: 1 {LSTM}", 1, (-1, -1, 5)),
    ],
)
def test_they_compute_what_they_did(
    tmp_path: Path, compare: Compare, file: str, config: str, size: int, outer: tuple[int, ...]
) -> None:
    engine = compare(entry(tmp_path, file, config), highest=3)
    assert (engine.spec.max_batch_size, engine.spec.inputs[0].shape) == (size, outer)
    assert engine.spec.hints == ()


@pytest.mark.parametrize(("file", "config"), [("keras_gru", GRU), ("keras_lstm", LSTM)])
def test_their_batch_axis_is_found(tmp_path: Path, file: str, config: str) -> None:
    [spec] = load(entry(tmp_path, file, config))
    assert spec.max_batch_size == 64
    assert {(state.shape, state.batch_axis) for state in spec.states} == {((8,), 0)}


def test_silero_with_its_rate_as_a_number(tmp_path: Path) -> None:
    [spec] = load(entry(tmp_path, "silero_vad_16k", SILERO))
    engine = Engine(spec, provider="cpu", rows=4)
    plain = ort.InferenceSession(str(spec.onnx_path))
    state, rng, rate = np.zeros((2, 1, 128), np.float32), np.random.default_rng(0), np.int64(16000)
    for step in range(5):
        sound = rng.normal(size=(1, 576)).astype(np.float32)
        feeds = {"input": sound, "state": state, "sr": np.array(rate)}
        expected, state = plain.run(["output", "stateN"], feeds)
        read, write = np.array([0 if not step else 1 + step % 2]), np.array([1 + (step + 1) % 2])
        answer = engine.run({"input": sound, "sr": np.array([rate])}, read, write)
        np.testing.assert_array_equal(answer["output"], expected)
    np.testing.assert_array_equal(engine.read(write)["state"][0], state)


@pytest.mark.parametrize("file", sorted(path.stem for path in FILES.glob("*.onnx")))
def test_without_a_configuration_they_are_functions(tmp_path: Path, file: str) -> None:
    """Each state is an input and an output then, and the log says what it looks like."""
    [spec] = load(entry(tmp_path, file, None))
    assert spec.states == ()
    assert "rnnserve inspect" in spec.hints[0]
    if file == "silero_vad_16k":  # takes no zeros: it is told its rate
        return
    engine = Engine(spec, provider="cpu", rows=0)
    plain = ort.InferenceSession(str(spec.onnx_path))
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        tensor.name: rng.normal(size=[2 if n == -1 else n for n in tensor.shape]).astype(np.float32)
        for tensor in spec.inputs
    }
    rows = np.zeros(2, np.int64)
    answer = engine.run(inputs, rows, rows)
    expected = plain.run(list(answer), inputs)
    for ours, theirs in zip(answer.values(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)

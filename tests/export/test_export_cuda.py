"""On a GPU: what is promised to stay on the CUDA provider does, and computes what the CPU does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch

import models
from export.program import program
from server.engine.devices import choose_device, cuda_device_names

if TYPE_CHECKING:
    from export.program import Program

FEATURES = 5
# Shapes are computed where they are: on the CPU, by design.
ON_SHAPES = {"Shape", "Concat"}
LAYERS: dict[str, Any] = {
    "LSTM": lambda: models.LSTM(4, return_sequences=True),
    "LSTM sigmoid": lambda: models.LSTM(4, recurrent_activation="sigmoid", return_sequences=True),
    "GRU": lambda: models.GRU(4, return_sequences=True),
    "GRU fused": lambda: models.GRU(
        4, recurrent_activation="sigmoid", reset_after=True, return_sequences=True
    ),
    "SimpleRNN": lambda: models.SimpleRNN(4),
    "stack": lambda: models.RNN([models.LSTMCell(3), models.GRUCell(2)], go_backwards=True),
    "gated feedback": lambda: models.GatedFeedbackRNN((3, 2), "lstm", return_sequences=True),
    "ConvLSTM2D": lambda: models.ConvLSTM2D(2, 2, padding="same", return_sequences=True),
}
FORMS: dict[str, dict[str, Any]] = {"plain": {}, "masked": {"mask": True}}
gpu = pytest.mark.gpu
without_gpu = pytest.mark.skipif(not cuda_device_names(), reason="no CUDA device")


def made(name: str, **options: Any) -> Program:
    torch.manual_seed(0)
    layer = LAYERS[name]()
    layer.build((None, None, 4, 4, 2) if name == "ConvLSTM2D" else (None, None, FEATURES))
    return program(layer, **options)


def run(made: Program, providers: list[Any], folder: Path) -> tuple[list[Any], dict[str, set[str]]]:
    """The outputs for random inputs of a batch of 3 and 7 timesteps, and each provider's ops."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / providers[0][0])
    session = onnxruntime.InferenceSession(
        made.model.SerializeToString(), options, providers, enable_fallback=0
    )
    rng, sizes, feed = np.random.default_rng(0), {"batch": 3, "time": 7}, {}
    for value in session.get_inputs():
        shape = [sizes.get(n, n) for n in value.shape]
        array = rng.normal(size=shape)
        feed[value.name] = array > 0 if "bool" in value.type else array.astype(np.float32)
    outputs = session.run(None, feed)
    events = json.loads(Path(session.end_profiling()).read_text())
    ops: dict[str, set[str]] = {}
    for event in events:
        provider = event.get("args", {}).get("provider")
        if provider:
            ops.setdefault(provider, set()).add(event["args"]["op_name"])
    return outputs, ops


def test_a_profile_tells_who_ran_what(tmp_path: Path) -> None:
    """That the tests below would notice: on the CPU all ops are the CPU's, loops' bodies too."""
    _, ops = run(made("LSTM"), [("CPUExecutionProvider", {})], tmp_path)
    assert ops.keys() == {"CPUExecutionProvider"}
    assert {"Scan", "HardSigmoid", "MatMul"} <= ops["CPUExecutionProvider"]


@gpu
@without_gpu
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_nothing_leaves_the_gpu(name: str, form: str, tmp_path: Path) -> None:
    graph = made(name, **FORMS[form])
    expected, _ = run(graph, [("CPUExecutionProvider", {})], tmp_path)
    got, ops = run(graph, choose_device("cuda").providers, tmp_path)
    assert ops.get("CPUExecutionProvider", set()) <= ON_SHAPES
    assert ops["CUDAExecutionProvider"]
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)

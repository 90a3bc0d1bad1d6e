"""A float16 graph that crashes ONNX Runtime's own optimiser on a CPU is inspected all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

import export
import models

RNNSERVE = Path(sys.executable).with_name("rnnserve")


def test_a_graph_that_would_crash_the_process(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = models.LSTM(20, return_sequences=True)
    layer.build((None, None, 5))
    path = tmp_path / "half.onnx"
    path.write_bytes(export.to_onnx(layer, dtype="float16", mask=True).SerializeToString())
    ran = subprocess.run([RNNSERVE, "inspect", path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "lstm_h → lstm_h_next" in ran.stdout

"""A model without states: exported without sessions, served as any batch of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
import torch

import export
import models
from server.repository.load import load

if TYPE_CHECKING:
    from pathlib import Path


def network(*input_shape: int | None) -> models.Sequential:
    torch.manual_seed(0)
    model = models.Sequential(
        [models.Dense(8, activation="relu"), models.Dense(3, activation="softmax")],
        input_name="pixels",
        output_name="probabilities",
        name="plain",
    )
    model.build(input_shape)
    return model


@pytest.mark.parametrize(
    ("input_shape", "dims"), [((None, 5), (5,)), ((None, None, 5), (-1, 5))], ids=["rows", "frames"]
)
def test_exported_and_proven(tmp_path: Path, input_shape, dims) -> None:
    model = network(*input_shape)

    exported = export.install(model, tmp_path)

    assert exported.proof.passed
    assert {row.tensor for row in exported.proof.rows} == {"probabilities"}
    assert "sequence_batching" not in exported.config_path.read_text()
    (spec,) = load(tmp_path / "plain")
    assert spec.states == ()
    assert spec.inputs[0].shape[1:] == dims


def test_rows_in_and_rows_out(tmp_path: Path) -> None:
    model = network(None, 5)
    exported = export.install(model, tmp_path)
    session = onnxruntime.InferenceSession(exported.model_path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)

    (probabilities,) = session.run(None, {"pixels": x})

    np.testing.assert_allclose(
        probabilities, model(torch.from_numpy(x)).detach().numpy(), rtol=0, atol=1e-6
    )

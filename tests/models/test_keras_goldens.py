"""Our layers against the original Keras 2.2.4, through the files that goldens/make_goldens.py made.

Each case holds a layer's config as Keras wrote it, the weights and the inputs, and Keras' answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import models
from models import constraints, initializers
from tests.models.goldens import packing, replay

GOLDENS = Path(__file__).parent / "goldens"
FORWARD, GRADIENT = 1e-6, 1e-5
LAYERS = ("simple_rnn", "gru", "lstm", "cudnn", "conv_lstm_2d", "cells")
WEIGHTS = ("initial_weights", "initializers", "constraints")


def cases(*names: str) -> list[Any]:
    read = [case for name in names for case in packing.load(GOLDENS / f"{name}.npz")]
    return [pytest.param(case, id=case.get("name")) for case in read]


def test_every_golden_file_is_used() -> None:
    assert {path.stem for path in GOLDENS.glob("*.npz")} == {*LAYERS, *WEIGHTS}


@pytest.mark.parametrize("case", cases(*LAYERS))
@pytest.mark.filterwarnings("ignore:`reverse_state_order=True`")
def test_answers_as_keras_does(case: dict[str, Any]) -> None:
    found = replay.errors(case)

    limits = {name: GRADIENT if name.startswith("gradient") else FORWARD for name in found}
    assert not {name: error for name, error in found.items() if not error <= limits[name]}


@pytest.mark.parametrize("case", cases(*LAYERS))
@pytest.mark.filterwarnings("ignore:`reverse_state_order=True`")
def test_knows_the_shapes_of_what_it_returns(case: dict[str, Any]) -> None:
    layer = replay.layer_of(case)
    shapes = layer.compute_output_shape(case["calls"][0]["inputs"].shape)
    several = isinstance(shapes, list)
    assert ([list(shape) for shape in shapes] if several else list(shapes)) == case["output_shape"]


@pytest.mark.parametrize("case", cases("initial_weights"))
def test_starts_with_the_weights_of_keras(case: dict[str, Any]) -> None:
    layer = models.deserialize(case["layer"])
    layer.build(tuple(case["input_shape"]))
    for ours, keras in zip(layer.get_weights(), case["weights"], strict=True):
        np.testing.assert_array_equal(ours, keras)


@pytest.mark.parametrize("case", cases("initializers"))
def test_draws_weights_from_the_distributions_of_keras(case: dict[str, Any]) -> None:
    """The samples have thousands of numbers: their moments agree within a few percent."""
    torch.manual_seed(1)
    value = torch.as_tensor(initializers.get(case["initializer"])(tuple(case["shape"])))
    deviation, mean = float(case["deviation"]), float(case["mean"])

    assert float(value.std()) == pytest.approx(deviation, rel=0.04)
    assert float(value.mean()) == pytest.approx(mean, abs=0.05 * deviation)
    if np.abs(case["range"] - mean).max() < 3 * deviation:  # the distribution has bounds
        extremes = [float(value.min()), float(value.max())]
        np.testing.assert_allclose(extremes, case["range"], atol=0.1 * deviation)
    if "orthogonal" in str(case["initializer"]).lower():
        rows = value.reshape(-1, value.shape[-1])
        rows = rows if rows.shape[0] < rows.shape[1] else rows.T
        np.testing.assert_allclose((rows @ rows.T)[:3, :3], case["product"], atol=1e-5)


@pytest.mark.parametrize("case", cases("constraints"))
def test_puts_weights_into_the_bounds_of_keras(case: dict[str, Any]) -> None:
    after = constraints.get(case["constraint"])(torch.from_numpy(case["before"]))
    np.testing.assert_allclose(after.numpy(), case["after"], rtol=0, atol=1e-6)

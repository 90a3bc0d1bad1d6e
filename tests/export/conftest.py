"""Small models with weights large enough that every gate matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import models

if TYPE_CHECKING:
    from collections.abc import Callable

FEATURES = 5


@pytest.fixture
def build() -> Callable[..., models.Sequential]:
    """`build(*layers)`: a built Sequential with normal weights (deviation 0.4), biases included."""
    torch.set_num_threads(1)

    def build(*layers: models.Layer, output_name: str = "output") -> models.Sequential:
        model = models.Sequential(list(layers), output_name=output_name, name="tested")
        model.build((None, None, FEATURES))
        generator = torch.Generator().manual_seed(1)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.4, generator=generator)
        return model

    return build


@pytest.fixture
def small(build: Callable[..., models.Sequential]) -> models.Sequential:
    """The family's default LSTM and a head of probabilities."""
    return build(
        models.LSTM(4, return_sequences=True),
        models.Dense(3, "softmax"),
        output_name="probabilities",
    )

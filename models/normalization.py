"""Normalization: standardises features inside the model, so that callers send raw values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.layer import Layer
from models.registry import register

if TYPE_CHECKING:
    from models.options import BatchShape


@register
class Normalization(Layer):
    """`(x - mean) / std` over the last axis; the identity until `adapt` has seen data.

    Buffers `mean (D,)` and `std (D,)` belong to the weights but are not trained.
    """

    mean: Tensor
    std: Tensor

    def build(self, input_shape: BatchShape) -> None:
        features = input_shape[-1]
        if features is None:
            raise ValueError(
                "The last dimension of the inputs to `Normalization` should be defined."
            )
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.built = True

    @property
    def weights(self) -> list[Tensor]:
        return [self.mean, self.std] if self.built else []

    def adapt(self, frames: Tensor) -> None:
        """Takes mean and standard deviation from `frames`, `(…, D)`.

        A feature that never varies keeps the divisor 1.
        """
        self.ensure_built(frames)
        flat = frames.reshape(-1, frames.shape[-1])
        std = flat.std(dim=0, correction=0)
        self.mean.copy_(flat.mean(dim=0))
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def call(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.std

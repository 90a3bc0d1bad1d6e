"""Initialisers without chance: constants and the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.initializers.base import Initializer

if TYPE_CHECKING:
    from torch import Tensor

    from models.initializers.base import Shape


@dataclass(frozen=True)
class Constant(Initializer):
    """Every element is `value`."""

    value: float = 0.0

    def __call__(self, shape: Shape) -> Tensor:
        return torch.full(tuple(shape), float(self.value))


@dataclass(frozen=True)
class Zeros(Initializer):
    """Every element is 0."""

    def __call__(self, shape: Shape) -> Tensor:
        return torch.zeros(tuple(shape))


@dataclass(frozen=True)
class Ones(Initializer):
    """Every element is 1."""

    def __call__(self, shape: Shape) -> Tensor:
        return torch.ones(tuple(shape))


@dataclass(frozen=True)
class Identity(Initializer):
    """`gain` times the identity, repeated along the longer side."""

    gain: float = 1.0

    def __call__(self, shape: Shape) -> Tensor:
        if len(shape) != 2:
            raise ValueError("Identity matrix initializer can only be used for 2D matrices.")
        short, long = min(shape), max(shape)
        if long % short != 0:
            raise ValueError("Long side should be multiple of short side.")
        rows, columns = shape
        return self.gain * torch.eye(short).repeat(rows // short, columns // short)

"""Initialisers that draw: with `seed=None` from torch's global generator (`torch.manual_seed`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.initializers.base import Initializer

if TYPE_CHECKING:
    from torch import Tensor

    from models.initializers.base import Shape

# The standard deviation of a unit normal truncated to [-2, 2].
_TRUNCATED_STDDEV = 0.87962566103423978


@dataclass(frozen=True)
class RandomUniform(Initializer):
    """Uniform over `[minval, maxval)`."""

    minval: float = -0.05
    maxval: float = 0.05
    seed: int | None = None

    def __call__(self, shape: Shape) -> Tensor:
        return torch.empty(tuple(shape)).uniform_(
            self.minval, self.maxval, generator=_generator(self.seed)
        )


@dataclass(frozen=True)
class RandomNormal(Initializer):
    """Normal with `mean` and `stddev`."""

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def __call__(self, shape: Shape) -> Tensor:
        return torch.empty(tuple(shape)).normal_(
            self.mean, self.stddev, generator=_generator(self.seed)
        )


@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Normal with `mean` and `stddev`, values beyond two deviations drawn again."""

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def __call__(self, shape: Shape) -> Tensor:
        return torch.nn.init.trunc_normal_(
            torch.empty(tuple(shape)),
            self.mean,
            self.stddev,
            self.mean - 2 * self.stddev,
            self.mean + 2 * self.stddev,
            generator=_generator(self.seed),
        )


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Variance `scale / fan`, where `mode` names the fan: fan_in, fan_out or fan_avg.

    `distribution` is "uniform" (limit `sqrt(3 scale / fan)`) or "normal" (truncated at two
    deviations, widened so that the variance is right after the truncation).
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "normal"
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"`scale` must be a positive float. Got: {self.scale}")
        if self.mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(
                f"Invalid `mode` argument: expected on of fan_in, fan_out, fan_avg, but got "
                f"{self.mode}"
            )
        if self.distribution not in ("normal", "uniform"):
            raise ValueError(
                "Invalid `distribution` argument: expected one of normal, uniform, but got "
                f"{self.distribution}"
            )

    def __call__(self, shape: Shape) -> Tensor:
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return RandomUniform(-limit, limit, self.seed)(shape)
        return TruncatedNormal(0.0, math.sqrt(variance) / _TRUNCATED_STDDEV, self.seed)(shape)


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """`gain` times an orthogonal matrix; `(…, cols)` is flattened to two axes first.

    A wide matrix `(u, G·u)` gets orthonormal rows: `U Uᵀ = gain² I`.
    """

    gain: float = 1.0
    seed: int | None = None

    def __call__(self, shape: Shape) -> Tensor:
        if len(shape) < 2:
            raise ValueError(f"An orthogonal tensor has at least 2 axes, not shape {tuple(shape)}.")
        flat = torch.empty(math.prod(shape[:-1]), shape[-1])
        torch.nn.init.orthogonal_(flat, self.gain, generator=_generator(self.seed))
        return flat.reshape(tuple(shape))


def fans(shape: Shape) -> tuple[float, float]:
    """(fan_in, fan_out) of a weight with the channel axes last: `(…, in, out)`."""
    if len(shape) < 2:
        side = math.sqrt(math.prod(shape))
        return side, side
    receptive_field = math.prod(shape[:-2])
    return float(receptive_field * shape[-2]), float(receptive_field * shape[-1])


def _generator(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)

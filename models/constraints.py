"""Constraints, by Keras' names: functions of a weight to the nearest weight that is allowed.

A weight has to be put back into its bounds after every step of the optimiser: `apply(model)` does
so for all weights of a model. Norms are taken over `axis` (an int, or several: `(0, 1, 2)` for the
kernels of a convolution).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from models.identifiers import Configurable, Family

Constrain: TypeAlias = Callable[[Tensor], Tensor]
ConstraintLike: TypeAlias = str | Mapping[str, Any] | Constrain | None
Axis: TypeAlias = int | Sequence[int]

EPSILON = 1e-7  # Keras' own, so that no norm divides by zero


@dataclass(frozen=True)
class MaxNorm(Configurable):
    """Norms of at most `max_value`."""

    max_value: float = 2.0
    axis: Axis = 0

    def __call__(self, w: Tensor) -> Tensor:
        norms = _norms(w, self.axis)
        return w * (norms.clamp(0.0, self.max_value) / (EPSILON + norms))


@dataclass(frozen=True)
class NonNeg(Configurable):
    """No element below zero."""

    def __call__(self, w: Tensor) -> Tensor:
        return w * (w >= 0)


@dataclass(frozen=True)
class UnitNorm(Configurable):
    """Norms of one."""

    axis: Axis = 0

    def __call__(self, w: Tensor) -> Tensor:
        return w / (EPSILON + _norms(w, self.axis))


@dataclass(frozen=True)
class MinMaxNorm(Configurable):
    """Norms from `min_value` to `max_value`; `rate` below 1 goes only that part of the way."""

    min_value: float = 0.0
    max_value: float = 1.0
    rate: float = 1.0
    axis: Axis = 0

    def __call__(self, w: Tensor) -> Tensor:
        norms = _norms(w, self.axis)
        desired = self.rate * norms.clamp(self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (desired / (EPSILON + norms))


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

_FAMILY: Family[Constrain] = Family(
    "constraint",
    (MaxNorm, NonNeg, UnitNorm, MinMaxNorm),
    {
        "max_norm": MaxNorm,
        "maxnorm": MaxNorm,
        "min_max_norm": MinMaxNorm,
        "non_neg": NonNeg,
        "nonneg": NonNeg,
        "unit_norm": UnitNorm,
        "unitnorm": UnitNorm,
    },
)
get, serialize = _FAMILY.optional, _FAMILY.serialize


def apply(model: nn.Module) -> None:
    """Puts every weight in `model` that has a constraint back into its bounds.

    After each `optimizer.step()`; or once and for all
    `optimizer.register_step_post_hook(lambda *_: constraints.apply(model))`.
    """
    with torch.no_grad():
        for module in model.modules():
            for name, constraint in getattr(module, "weight_constraints", {}).items():
                weight = getattr(module, name)
                if weight.requires_grad:  # a frozen weight stays as it is
                    weight.copy_(constraint(weight))


def _norms(w: Tensor, axis: Axis) -> Tensor:
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    return w.square().sum(dim=axes, keepdim=True).sqrt()

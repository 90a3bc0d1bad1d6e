"""Regularisers, by Keras' names: functions of a weight, or of an output, to a penalty.

The penalties of a layer are its `losses`; whoever trains it adds them to the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from models.identifiers import Configurable, Family

Regularize: TypeAlias = Callable[[Tensor], Tensor]
RegularizerLike: TypeAlias = str | Mapping[str, Any] | Regularize | None


@dataclass(frozen=True)
class L1L2(Configurable):
    """`l1 · Σ|x| + l2 · Σx²`, a scalar."""

    l1: float = 0.0
    l2: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        penalty = x.new_zeros(())
        if self.l1:
            penalty = penalty + self.l1 * x.abs().sum()
        if self.l2:
            penalty = penalty + self.l2 * x.square().sum()
        return penalty


def l1(l: float = 0.01) -> L1L2:  # noqa: E741  (Keras' name)
    """`l · Σ|x|`."""
    return L1L2(l1=l)


def l2(l: float = 0.01) -> L1L2:  # noqa: E741
    """`l · Σx²`."""
    return L1L2(l2=l)


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    """`l1 · Σ|x| + l2 · Σx²`."""
    return L1L2(l1, l2)


_FAMILY: Family[Regularize] = Family("regularizer", (L1L2,), {"l1": l1, "l2": l2, "l1_l2": l1_l2})
get, serialize = _FAMILY.optional, _FAMILY.serialize

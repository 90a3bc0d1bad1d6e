"""What every initialiser is: a function of a shape that a config can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from models.identifiers import Configurable

if TYPE_CHECKING:
    from torch import Tensor

Shape: TypeAlias = Sequence[int]


@dataclass(frozen=True)
class Initializer(Configurable):
    """Base: `initializer(shape) -> Tensor`. Subclasses are dataclasses of their arguments."""

    def __call__(self, shape: Shape) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not say how to fill a tensor")

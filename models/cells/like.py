"""What any object must have to be a cell, and what it may have besides."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol

from models.states import state_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from models.cells.base import States
    from models.states import Shape


class CellLike(Protocol):
    """A cell: it need not be a layer, nor torch's.

    `state_size`: an int, or a sequence with an int or a shape per state. Besides, a cell may have
    `output_size` (else that of the first state), `state_names`, `build(input_shape)`, and its
    `call` may take `constants` (a list of tensors) and `training`.
    """

    @property
    def state_size(self) -> Any: ...

    def call(self, inputs: Tensor, states: States) -> tuple[Tensor, Sequence[Tensor]]:
        """One timestep `(B, …)` and the states → output and new states."""


def accepted(cell: Any, **keywords: Any) -> dict[str, Any]:
    """Those of `keywords` that are not None and that `cell.call` takes."""
    taken = inspect.signature(cell.call).parameters
    return {name: value for name, value in keywords.items() if value is not None and name in taken}


def takes_constants(cell: Any) -> bool:
    """Whether `cell.call` has an argument `constants`."""
    return "constants" in inspect.signature(cell.call).parameters


def build_once(layer: Any, input_shape: Any, dtype: torch.dtype | None = None) -> None:
    """Builds a cell or layer once, if it can be built; in `dtype` unless it has its own."""
    if hasattr(layer, "build") and not getattr(layer, "built", False):
        if dtype is not None and getattr(layer, "dtype", dtype) is None:
            layer.dtype = dtype
        layer.build(input_shape)
        layer.built = True


def output_shape(cell: Any) -> Shape:
    """The shape of a cell's output, without the batch axis: `output_size`, else the first state."""
    size = getattr(cell, "output_size", None)
    if size is None:
        return state_shapes(cell.state_size)[0]
    return tuple(size) if isinstance(size, (list, tuple)) else (int(size),)


def state_names(cell: Any) -> tuple[str, ...]:
    """One short name per state of a cell: its own `state_names`, else state_0, state_1, …"""
    fallback = tuple(f"state_{index}" for index, _ in enumerate(state_shapes(cell.state_size)))
    names: tuple[str, ...] = getattr(cell, "state_names", fallback)
    return names

"""Batches: tensors that belong together, moved and cut as one."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import torch


@dataclass(frozen=True)
class Batch:
    """Base of batches: a frozen dataclass of tensors, or None, with the batch axis first."""

    def tensors(self) -> dict[str, Tensor]:
        """The tensors among the fields, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        return self._each(lambda tensor: tensor.to(device))

    @property
    def timesteps(self) -> int:
        """The size of axis 1; ValueError unless all tensors agree on it."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors().items()}
        sizes = {shape[1] if len(shape) > 1 else None for shape in shapes.values()}
        if len(sizes) != 1 or None in sizes:
            raise ValueError(
                "Only a batch whose tensors all have time as axis 1 can be cut into chunks; "
                f"this one has {', '.join(f'{name} {shape}' for name, shape in shapes.items())}."
            )
        (steps,) = sizes
        return int(steps or 0)

    def chunks(self, steps: int | None) -> Iterator[Self]:
        """Pieces of `steps` timesteps, in order, the last may be shorter; with None, all as one."""
        if steps is None:
            yield self
            return
        for start in range(0, self.timesteps, steps):
            yield self._each(lambda tensor, start=start: tensor[:, start : start + steps])

    def _each(self, function: Callable[..., Tensor]) -> Self:
        changed: dict[str, Any] = {name: function(t) for name, t in self.tensors().items()}
        return replace(self, **changed)


def shuffled(
    count: int, size: int, random: np.random.Generator, drop_last: bool = False
) -> Iterator[np.ndarray[Any, Any]]:
    """Goes through `range(count)` once in an order drawn from `random`, `size` indices at a time.

    The last piece may be smaller, or is left out with `drop_last` (stateful layers want batches of
    one size).
    """
    order = random.permutation(count)
    stop = count - count % size if drop_last else count
    for start in range(0, stop, size):
        yield order[start : start + size]

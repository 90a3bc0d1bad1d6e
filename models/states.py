"""The states of a recurrent layer: their shapes, and those that a stateful layer keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from models.cells.base import States

Shape: TypeAlias = tuple[int, ...]


def state_shapes(size: Any) -> tuple[Shape, ...]:
    """Keras' state sizes (an int, or a sequence with an int or a shape per state) as shapes."""
    sizes = size if isinstance(size, (list, tuple)) else (size,)
    return tuple(tuple(s) if isinstance(s, (list, tuple)) else (int(s),) for s in sizes)


def check_states(
    states: Sequence[Tensor], batch: int, shapes: Sequence[Shape], layer: str, what: str
) -> None:
    """ValueError unless each state is `(batch, *shape)`; `what` begins the message."""
    for index, (state, shape) in enumerate(zip(states, shapes, strict=True)):
        expected, found = (batch, *shape), tuple(state.shape)
        if found != expected:
            raise ValueError(
                f"{what} {index} is incompatible with layer {layer}: expected shape={expected}, "
                f"found shape={found}"
            )


class KeptStates(nn.Module):
    """What a stateful layer keeps between calls.

    Buffers: they follow the layer to its device and dtype, but are no weights and are not saved.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._names = [f"state_{index}" for index in range(count)]
        for name in self._names:
            self.register_buffer(name, None, persistent=False)

    def get(self) -> list[Any]:
        """The states; None each while there are none."""
        return [getattr(self, name) for name in self._names]

    def fit(self, batch: int | None) -> bool:
        """Whether there are states, for a batch of that size."""
        return all(state is not None and len(state) == batch for state in self.get())

    def put(self, states: States) -> None:
        """Keeps copies, through which no gradient passes.

        Copies, because the caller may have been given the same tensors; and no inference tensors,
        because nobody could train on from them.
        """
        with torch.inference_mode(False), torch.no_grad():
            for name, state in zip(self._names, states, strict=True):
                setattr(self, name, state.clone())

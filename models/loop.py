"""The loop over time: a cell applied to one timestep after the other, with masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from models.cells.base import States

StepFunction: TypeAlias = Callable[[Tensor, States], tuple[Tensor, Sequence[Tensor]]]


class CellLike(Protocol):
    """What the loop needs of a cell; it need not be a layer, nor torch's."""

    @property
    def state_size(self) -> Any: ...

    def call(self, inputs: Tensor, states: States) -> tuple[Tensor, Sequence[Tensor]]:
        """One timestep `(B, D)` and the states → output and new states."""


@runtime_checkable
class ProjectsInputs(Protocol):
    """A cell whose input projection can be done for all timesteps at once."""

    def project(self, inputs: Tensor) -> Tensor: ...

    def step(self, projected: Tensor, states: States) -> tuple[Tensor, States]: ...


def scan(
    cell: CellLike, inputs: Tensor, states: States, mask: Tensor | None = None
) -> tuple[Tensor, States]:
    """Outputs of all timesteps of `inputs (B, T, …)`, T ≥ 1, as `(B, T, …)`; the final states.

    Where `mask (B, T)` is false, the states stay and the output is the one before.
    """
    step, steps = _hoist(cell, inputs)
    keeps = [None] * len(steps) if mask is None else mask.bool().unbind(1)
    outputs: list[Tensor] = []
    previous = _initial_output(cell, states)
    for x, keep in zip(steps, keeps, strict=True):
        output, new_states = step(x, states)
        if keep is not None:
            before = torch.zeros_like(output) if previous is None else previous
            output = _where(keep, output, before)
            new_states = [_where(keep, n, o) for n, o in zip(new_states, states, strict=True)]
        previous, states = output, tuple(new_states)
        outputs.append(output)
    return torch.stack(outputs, dim=1), states


def _hoist(cell: CellLike, inputs: Tensor) -> tuple[StepFunction, Sequence[Tensor]]:
    """The step function and what it takes at each timestep.

    Where the cell allows it, the input projection of all timesteps is one product, here.
    """
    if isinstance(cell, ProjectsInputs):
        return cell.step, cell.project(inputs).unbind(1)
    return cell.call, inputs.unbind(1)


def _initial_output(cell: CellLike, states: States) -> Tensor | None:
    """What a masked first step puts out: a cell that does not say gives zeros (None here)."""
    initial: Callable[[States], Tensor] | None = getattr(cell, "get_initial_output", None)
    return None if initial is None else initial(states)


def _where(keep: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Row by row: `new` where `keep (B,)` is true."""
    return torch.where(keep.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

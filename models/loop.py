"""The loop over time: a cell applied to one timestep after the other, with masks.

`scan` takes the fastest way that a cell allows: torch's fused kernels (`models.fused`), else a loop
with the input projection of all timesteps as one product before it, else the bare loop. A stack is
run cell by cell, each over all timesteps, which is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from models import fused
from models.cells import Cell, StackedRNNCells
from models.cells.base import one_draw
from models.cells.like import accepted

if TYPE_CHECKING:
    from models.cells import States

StepFunction: TypeAlias = Callable[[Tensor, "States"], tuple[Tensor, Sequence[Tensor]]]


def scan(
    cell: Any,
    inputs: Tensor,
    states: States,
    mask: Tensor | None = None,
    constants: Sequence[Tensor] | None = None,
    training: bool = False,
    zero_output: bool = False,
) -> tuple[Tensor, States]:
    """Outputs of all timesteps of `inputs (B, T, …)`, T ≥ 1, as `(B, T, …)`; the final states.

    Where `mask (B, T)` is false, the states stay and the output is the one before. Before the first
    step that counts, a built-in cell gives its initial h, any other zeros; with `zero_output` all
    give zeros.
    """
    if type(cell) is StackedRNNCells:
        return _scan_stack(cell, inputs, states, mask, constants, training)
    previous = None if zero_output else _initial_output(cell, states)
    kernel = fused.kernel_of(cell, training)
    done = kernel and fused.run(kernel, cell, inputs, states, mask, previous)
    if done is not None:
        return done
    step, steps = _hoist(cell, inputs, states, constants, training)
    with one_draw(cell):
        return _loop(step, steps, states, mask, previous)


def _loop(
    step: StepFunction,
    steps: Sequence[Tensor],
    states: States,
    mask: Tensor | None,
    previous: Tensor | None,
) -> tuple[Tensor, States]:
    keeps = [None] * len(steps) if mask is None else mask.bool().unbind(1)
    outputs: list[Tensor] = []
    for x, keep in zip(steps, keeps, strict=True):
        output, new_states = step(x, states)
        if keep is not None:
            before = torch.zeros_like(output) if previous is None else previous
            output = _where(keep, output, before)
            new_states = [_where(keep, n, o) for n, o in zip(new_states, states, strict=True)]
        previous, states = output, tuple(new_states)
        outputs.append(output)
    return torch.stack(outputs, dim=1), states


def _hoist(
    cell: Any,
    inputs: Tensor,
    states: States,
    constants: Sequence[Tensor] | None,
    training: bool,
) -> tuple[StepFunction, Sequence[Tensor]]:
    """The step function and what it takes at each timestep.

    Where the cell allows it, the input projection of all timesteps is one product, here.
    """
    if isinstance(cell, Cell) and type(cell).call is Cell.call:
        masks = cell.dropout_masks(inputs[:, 0], states, training)
        time_first = inputs.transpose(0, 1).contiguous()  # one product; slices lie together
        projected = cell.project(time_first, masks)
        return partial(cell.step, masks=masks), projected.unbind(0)
    keywords = accepted(cell, constants=constants, training=training)
    return partial(cell.call, **keywords), inputs.unbind(1)


def _scan_stack(
    stack: StackedRNNCells,
    x: Tensor,
    states: States,
    mask: Tensor | None,
    constants: Sequence[Tensor] | None,
    training: bool,
) -> tuple[Tensor, States]:
    finals: list[States] = []
    for cell, own in zip(stack.cells, stack.split(states), strict=True):
        x, final = scan(cell, x, own, mask, constants, training, zero_output=True)
        finals.append(final)
    return x, stack.join(finals)


def _initial_output(cell: Any, states: States) -> Tensor | None:
    """What a masked first step puts out: a cell that does not say gives zeros (None here)."""
    initial: Callable[[States], Tensor] | None = getattr(cell, "get_initial_output", None)
    return None if initial is None else initial(states)


def _where(keep: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Row by row: `new` where `keep (B,)` is true."""
    return torch.where(keep.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

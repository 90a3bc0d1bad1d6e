"""Dropout of recurrent layers (Gal and Ghahramani 2016): one draw for all timesteps of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

Masks: TypeAlias = "tuple[Tensor, ...] | None"


class DropoutMasks(NamedTuple):
    """The masks of one call: zeros where something is dropped, `1 / (1 - rate)` elsewhere.

    `inputs`: for one timestep, `(B, D)` each; `recurrent`: for h, `(B, u)` each. One mask for each
    gate, a single one for all of them, or None where nothing is dropped.
    """

    inputs: Masks = None
    recurrent: Masks = None


NO_DROPOUT = DropoutMasks()


def draw(like: Tensor, rate: float, count: int) -> Masks:
    """`count` masks of the shape of `like`; None unless 0 < rate < 1."""
    if not 0 < rate < 1:
        return None
    ones = like.detach().new_ones(like.shape)
    return tuple(functional.dropout(ones, rate) for _ in range(count))


def dropped(x: Tensor, masks: Masks, gates: int) -> tuple[Tensor, ...]:
    """`x` as each of `gates` gates sees it."""
    if masks is None:
        return (x,) * gates
    seen = tuple(x * mask for mask in masks)
    return seen if len(seen) == gates else seen * gates

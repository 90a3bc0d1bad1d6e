"""Models that may be cut: a request runs in pieces of time, one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from server.repository.problem import Problem

if TYPE_CHECKING:
    from server.repository.spec import TensorSpec


def piece_of(inputs: tuple[TensorSpec, ...]) -> int | None:
    """How many timesteps a piece of a request may have: 1 where the graph is for a single one, None
    for any number. Raises Problem for a model that cannot be cut.
    """
    sizes = {
        tensor.name: tensor.shape[tensor.time_axis]
        for tensor in inputs
        if tensor.time_axis is not None
    }
    if not sizes:
        raise Problem("parameters: rnnserve.may_be_cut: no input has a rnnserve.time_axis")
    if set(sizes.values()) in ({-1}, {1}):
        return None if -1 in sizes.values() else 1
    name, size = next((name, size) for name, size in sizes.items() if size != -1)
    raise Problem(
        f"parameters: rnnserve.may_be_cut: input {name!r} has {size} timesteps; expected any number"
        " (-1), or 1 in every input that has them"
    )


def of_any_length(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """The tensors as a request sees them whose pieces are single timesteps."""
    return tuple(
        replace(
            tensor,
            shape=tuple(
                -1 if axis == tensor.time_axis else size for axis, size in enumerate(tensor.shape)
            ),
        )
        for tensor in tensors
    )

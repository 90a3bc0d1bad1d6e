"""The shapes of inputs: as `build` is given them, and whether a tensor has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from models.options import BatchShape


def shapes(given: Any, layer: str) -> list[BatchShape]:
    """The inputs' shape and the constants', from one shape or a list of them.

    ValueError if there is none.
    """
    if given is None:
        raise ValueError(
            f"{layer} does not know its input shape: pass one to `build`, or `batch_input_shape` "
            "to the layer."
        )
    if isinstance(given[0], (list, tuple)):
        return [tuple(shape) for shape in given]
    return [tuple(given)]


def check_ndim(inputs: Tensor, step_ndim: int | None, layer: str) -> None:
    """ValueError unless `inputs` has a time axis more than a timestep has, or at least 3 axes."""
    expected = 3 if step_ndim is None else step_ndim + 1
    if inputs.ndim < 3 or (step_ndim is not None and inputs.ndim != expected):
        raise ValueError(
            f"Input 0 is incompatible with layer {layer}: "
            f"expected ndim={expected}, found ndim={inputs.ndim}"
        )


def check_shape(found: BatchShape, expected: BatchShape, layer: str) -> None:
    """ValueError unless `found` is `expected`, wherever that is known."""
    fits = len(found) == len(expected) and all(
        e is None or e == f for e, f in zip(expected, found, strict=True)
    )
    if not fits:
        raise ValueError(
            f"Input 0 is incompatible with layer {layer}: expected shape={expected}, "
            f"found shape={found}"
        )

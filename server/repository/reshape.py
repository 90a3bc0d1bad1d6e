"""`reshape`: a tensor has other axes in requests and answers than in the graph.

Both shapes have as many axes of any size (-1), in the same order, and as many elements before,
between and after them: [2, 4, -1, 6] goes with [8, -1, 1, 6]. None of them is the batch axis.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from server.repository.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from server.repository.onnx_file import GraphTensor
    from server.repository.tensors import Shape
    from server.stubs.inference.model_config_pb2 import ModelInput, ModelOutput


def inner_dims(
    entry: ModelInput | ModelOutput, tensor: GraphTensor | None, *, batched: bool
) -> Sequence[int] | None:
    """The dims that the graph has, if they are not those of requests. A model without batch axis
    may have a number without axes: there is no other way to say so than dims of 1 alone.
    """
    if entry.HasField("reshape"):
        return entry.reshape.shape
    is_number = tensor is not None and tensor.shape == () and not batched
    return () if is_number and entry.dims and set(entry.dims) == {1} else None


def outer_dims(dims: Sequence[int], reshape: Sequence[int], found: Shape, label: str) -> Shape:
    """`dims` with the sizes that the graph has, which are `found`, in place of -1. Raises Problem
    where tensors of the one shape are not always tensors of the other.
    """
    for name, shape in (("dims", dims), ("reshape", reshape)):
        if any(size < 1 and size != -1 for size in shape):
            raise Problem(f"{label}: {name} {list(shape)}; expected sizes of 1 or more, or -1")
    ours, theirs = _elements(dims), _elements(reshape)
    if ours != theirs:
        what = "elements" if len(ours) == len(theirs) == 1 else "elements around each -1"
        raise Problem(
            f"{label}: dims {list(dims)} with reshape {list(reshape)}: {_listed(ours)} against"
            f" {_listed(theirs)} {what}; expected the same"
        )
    sizes = iter([exact for size, exact in zip(reshape, found, strict=True) if size == -1])
    return tuple(next(sizes) if size == -1 else size for size in dims)


def _elements(shape: Sequence[int]) -> list[int]:
    """How many elements there are before, between and after axes of any size."""
    cuts = [axis for axis, size in enumerate(shape) if size == -1]
    pairs = zip([-1, *cuts], [*cuts, len(shape)], strict=True)
    return [math.prod(shape[before + 1 : after]) for before, after in pairs]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))

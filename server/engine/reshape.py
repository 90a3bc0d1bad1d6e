"""Graph surgery on axes that are not the batch: a tensor from one shape to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx

_AS_BEFORE = 0  # in the shape that Reshape takes: the size of the same axis of what it is given


def reshaped(
    value: str, result: str, before: Sequence[int], after: Sequence[int]
) -> Iterator[onnx.NodeProto]:
    """Nodes that make `result`, of shape `after`, of `value`, of shape `before`. -1: any size; both
    shapes have as many of these, in the same order.
    """
    target, shape = f"{result}.shape", _known(before, after)
    if shape is None:
        yield from _computed(value, target, before, after)
    else:
        yield _constant(target, shape)
    yield helper.make_node("Reshape", [value, target], [result])


def _known(before: Sequence[int], after: Sequence[int]) -> list[int] | None:
    """What Reshape can be told before a size is known; None where more than one axis of any size
    moves.
    """
    sources = iter(_free(before))
    axes = [(axis, next(sources) if size == -1 else axis) for axis, size in enumerate(after)]
    moved = [axis for axis, source in axes if axis != source]
    if len(moved) > 1:
        return None
    return [
        size if size != -1 else (-1 if axis in moved else _AS_BEFORE)
        for axis, size in enumerate(after)
    ]


def _computed(
    value: str, target: str, before: Sequence[int], after: Sequence[int]
) -> Iterator[onnx.NodeProto]:
    """The sizes of `value` and the ones that are fixed, and then a choice of them."""
    sizes, fixed, both, chosen = (f"{target}.{part}" for part in ("of", "fixed", "all", "which"))
    sources, own = iter(_free(before)), [size for size in after if size != -1]
    numbers = iter(range(len(before), len(before) + len(own)))
    yield helper.make_node("Shape", [value], [sizes])
    yield _constant(fixed, own)
    yield helper.make_node("Concat", [sizes, fixed], [both], axis=0)
    yield _constant(chosen, [next(sources if size == -1 else numbers) for size in after])
    yield helper.make_node("Gather", [both, chosen], [target], axis=0)


def _free(shape: Sequence[int]) -> list[int]:
    return [axis for axis, size in enumerate(shape) if size == -1]


def _constant(name: str, values: list[int]) -> onnx.NodeProto:
    value = numpy_helper.from_array(np.array(values, np.int64))
    return helper.make_node("Constant", [], [name], value=value)

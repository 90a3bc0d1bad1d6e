"""Arrays by the name of their tensor: compared, and put together from the rows of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]
Axes = dict[str, int]  # the batch axis of each tensor
TOLERANCE = {2: 2e-2, 4: 1e-4, 8: 1e-6}  # of float types, by their bytes


def difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """The largest difference of two elements, relative to the largest element where that is above
    1. Infinite where shapes, integers, or what is no finite number are not the same.
    """
    if ours.shape != theirs.shape:
        return float("inf")
    if ours.dtype.kind != "f":
        return 0.0 if np.array_equal(ours, theirs) else float("inf")
    one, other = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(one) & np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return float("inf")
    gap = np.abs(one[finite] - other[finite]).max(initial=0.0)
    return float(gap / np.abs(other[finite]).max(initial=1.0))


def close(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Whether two arrays are equal but for rounding."""
    return difference(ours, theirs) <= TOLERANCE.get(ours.dtype.itemsize, 0.0)


def equal(ours: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]]) -> bool:
    """Whether all tensors are, those of one name compared."""
    return all(close(ours[name], theirs[name]) for name in theirs)


def stacked(rows: Sequence[Arrays], axes: Mapping[str, int]) -> Arrays:
    """One array from those of several rows, along each tensor's batch axis."""
    return {n: np.concatenate([row[n] for row in rows], axes.get(n, 0)) for n in rows[0]}


def row(arrays: Arrays, index: int, axes: Mapping[str, int]) -> Arrays:
    """One row of a batch, the batch axis kept."""
    return {n: np.take(a, [index], axis=axes.get(n, 0)) for n, a in arrays.items()}

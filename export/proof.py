"""The table of errors that an export must pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RELATIVE_LIMIT = 1e-5


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor under one way of running the graph, against the whole sequence in torch.

    `max_abs` is the largest difference of two elements over all sessions; `max_rel` is `max_abs`
    divided by the largest magnitude in torch's tensor: the error in units of the tensor's own
    scale. (Element by element, a value that happens to lie near zero would make any rounding
    error look large.) Both are infinite if anything is not finite.
    """

    comparison: str
    tensor: str
    max_abs: float
    max_rel: float
    limit: float = RELATIVE_LIMIT

    @property
    def passed(self) -> bool:
        """Within the limit; an infinite error never is."""
        return self.max_rel <= self.limit


@dataclass(frozen=True, slots=True)
class Proof:
    """All comparisons."""

    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Every row is within its limit, and there are rows."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that are not within their limit."""
        return tuple(row for row in self.rows if not row.passed)


def compare(
    comparison: str,
    tensor: str,
    expected: Sequence[NDArray[Any]],
    actual: Sequence[NDArray[Any]],
) -> Row:
    """Compare the same tensor of many sessions, each pair of the same shape.

    Raises:
        ValueError: numbers of sessions or shapes differ.
    """
    pairs = list(zip(expected, actual, strict=True))
    for want, got in pairs:
        if want.shape != got.shape:
            raise ValueError(f"{tensor}: torch gives shape {want.shape}, ONNX Runtime {got.shape}")
    if not all(np.isfinite(array).all() for pair in pairs for array in pair):
        return Row(comparison, tensor, np.inf, np.inf)
    max_abs = max((_largest(want - got) for want, got in pairs), default=0.0)
    scale = max((_largest(want) for want in expected), default=0.0)
    if max_abs == 0.0:
        return Row(comparison, tensor, 0.0, 0.0)
    return Row(comparison, tensor, max_abs, max_abs / scale if scale else np.inf)


def _largest(array: NDArray[Any]) -> float:
    """The largest magnitude, 0 for an empty array."""
    return float(np.max(np.abs(array.astype(np.float64)), initial=0.0))

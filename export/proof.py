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

    `max_abs` is the largest difference of two elements; `max_rel` is `max_abs` divided by the
    largest magnitude in torch's tensor over all sessions: the error in units of the tensor's own
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
        return np.isfinite(self.max_rel) and self.max_rel <= self.limit


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
    limits: Sequence[float] | None = None,
) -> Row:
    """Compare the same tensor of many sessions.

    The row is about the pair that comes nearest to its limit, `RELATIVE_LIMIT` unless `limits` has
    one for each.
    """
    errors = errors_of(expected, actual)
    limits = [RELATIVE_LIMIT] * len(errors) if limits is None else limits
    pairs = zip(errors, limits, strict=True)
    (max_abs, max_rel), limit = max(pairs, key=_nearness, default=((0.0, 0.0), RELATIVE_LIMIT))
    return Row(comparison, tensor, max_abs, max_rel, limit)


def errors_of(
    expected: Sequence[NDArray[Any]], actual: Sequence[NDArray[Any]]
) -> list[tuple[float, float]]:
    """Of each pair the largest difference, and that over the largest magnitude of all expected;
    infinite where shapes differ or something is not finite.
    """
    scale = max((_largest(want) for want in expected), default=0.0)
    errors = []
    for want, got in zip(expected, actual, strict=True):
        if want.shape != got.shape or not (np.isfinite(want).all() and np.isfinite(got).all()):
            errors.append((np.inf, np.inf))
            continue
        largest = _largest(_wide(want) - _wide(got))
        relative = 0.0 if largest == 0.0 else largest / scale if scale else np.inf
        errors.append((largest, relative))
    return errors


def _nearness(pair: tuple[tuple[float, float], float]) -> tuple[float, float]:
    """How near an error is to its limit; where none has one, which is largest."""
    (_, relative), limit = pair
    return (relative / limit if np.isfinite(relative) else np.inf, relative)


def _wide(array: NDArray[Any]) -> NDArray[np.float64]:
    return array.astype(np.float64)


def _largest(array: NDArray[Any]) -> float:
    """The largest magnitude, 0 for an empty array."""
    return float(np.max(np.abs(_wide(array)), initial=0.0))

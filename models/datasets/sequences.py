"""Sequences of different lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Split:
    """Labelled sequences of different lengths.

    `frames`: one float32 array `(T, D)` per sequence. `labels`: int64 `(len(frames),)`.
    """

    frames: list[Array]
    labels: Array

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, indices: Array) -> Split:
        """The sequences at `indices`, in that order."""
        return Split([self.frames[i] for i in indices], self.labels[indices])


def padded(sequences: Sequence[Array], value: int = 0) -> tuple[Array, Array]:
    """(one array, mask): `sequences (T_i,)` of whole numbers, with `value` behind the shorter ones.

    int64 and bool, `(len(sequences), max T_i)`; the mask is true where an element is real.
    """
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    together = np.full(mask.shape, value, dtype=np.int64)
    together[mask] = np.concatenate([*sequences, np.empty(0, dtype=np.int64)])
    return together, mask

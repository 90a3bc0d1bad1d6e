"""The data sets that the examples train on; they come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeAlias

import numpy as np

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


def japanese_vowels() -> tuple[Split, Split]:
    """(train, test): 270 and 370 utterances of 7 to 29 frames with 12 cepstra, from 9 speakers.

    Source and licence: data/README.md.
    """
    file = resources.files("models") / "data" / "japanese_vowels.npz"
    with file.open("rb") as stream, np.load(stream) as arrays:
        return _split(arrays, "train"), _split(arrays, "test")


def _split(arrays: Any, name: str) -> Split:
    ends = np.cumsum(arrays[f"{name}_lengths"])[:-1]
    return Split(np.split(arrays[f"{name}_frames"], ends), arrays[f"{name}_labels"])

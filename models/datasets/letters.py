"""Words as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.datasets.sequences import Array

LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""A letter's number is its place here."""


def spelled(word: str) -> Array:
    """The numbers of the letters of `word`, int64 `(len(word),)`.

    Raises ValueError for anything but a to z.
    """
    strangers = sorted(set(word) - set(LETTERS))
    if strangers:
        raise ValueError(f"{word!r} has {strangers}; only the letters a to z have a number.")
    return np.array([LETTERS.index(letter) for letter in word], dtype=np.int64)

"""Handwritten digits, 8 by 8 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.datasets.files import arrays

if TYPE_CHECKING:
    from models.datasets.sequences import Array

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# The images lie in the order of the forms that people filled in. Each form asks for the same
# digits, about 130, in the same order, which shows where one begins: 14 forms. Whole forms go to
# one part, so that no part has a form's handwriting in common with another.
FIRST_VALIDATION_IMAGE = 1157  # the tenth form's
FIRST_TEST_IMAGE = 1415  # the twelfth form's


@dataclass(frozen=True)
class Images:
    """`images`: float32 `(N, 8, 8)` of 0 (paper) to 1 (ink). `labels`: int64 `(N,)`, 0 to 9."""

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Array) -> Images:
        """The images at `indices`, in that order."""
        return Images(self.images[indices], self.labels[indices])


def digits() -> tuple[Images, Images, Images]:
    """(train, validation, test): 1157, 258 and 382 images, from different forms each.

    Source and licence: data/README.md.
    """
    file = arrays("digits.npz")
    everything = Images(file["images"].astype(np.float32) / 16, file["labels"])
    bounds = [FIRST_VALIDATION_IMAGE, FIRST_TEST_IMAGE]
    train, validation, test = np.split(np.arange(len(everything)), bounds)
    return everything.take(train), everything.take(validation), everything.take(test)

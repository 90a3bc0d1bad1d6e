"""Fixed → fixed: which digit is it? A plain network, without time and without states.

What can be had on the test set without one: 0.856 by the nearest of the ten digits' mean images,
0.950 by the nearest training image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models import datasets
from models.datasets import DIGIT_NAMES
from models.dense import Dense
from models.examples.example import Example
from models.examples.warping import warped
from models.sequential import Sequential
from models.training.batch import Batch, shuffled
from models.training.settings import Settings
from models.training.task import Baseline, Measured, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.datasets import Images
    from models.datasets.sequences import Array
    from models.training.randomness import Random

UNITS = 512
BATCH_SIZE = 32


@dataclass(frozen=True)
class Digit(Batch):
    """`pixels (B, 64)` of 0 (paper) to 1 (ink), row by row; `labels (B,)`, 0 to 9."""

    pixels: Tensor
    labels: Tensor


def flat(images: Images) -> Array:
    """Each image as one row of pixels: float32 `(N, 64)`."""
    pixels: Array = images.images.reshape(len(images), -1)
    return pixels


def together(images: Images) -> Digit:
    """All of `images` as one batch."""
    return Digit(torch.from_numpy(flat(images)), torch.from_numpy(images.labels))


def most_frequent(images: Images) -> float:
    """The share of the most frequent digit: what one gets right who always says it."""
    return float(np.bincount(images.labels).max() / len(images))


class Digits:
    """Trained on images as others might have written them, judged on the writing of others."""

    metric = Metric("accuracy", higher_is_better=True)

    def __init__(self, data: tuple[Images, Images, Images], seed: int) -> None:
        """`data` is (train, validation, test); there is nothing to draw from `seed`."""
        self._train, self._validation, self._test = data
        self.baseline = Baseline(most_frequent(self._test), "always the most frequent digit")
        self.sizes = {
            "training": len(self._train),
            "validation": len(self._validation),
            "test": len(self._test),
        }

    def model(self) -> Sequential:
        """Names the digit: pixels `(B, 64)` → probabilities `(B, 10)`."""
        model = Sequential(
            [
                Dense(UNITS, activation="relu"),
                Dense(UNITS, activation="relu"),
                Dense(len(DIGIT_NAMES), activation="softmax"),
            ],
            input_name="pixels",
            output_name="probabilities",
            name="digits",
        )
        model.build((None, flat(self._train).shape[1]))
        return model

    def batches(self, random: Random) -> Iterator[Digit]:
        for chosen in shuffled(len(self._train), BATCH_SIZE, random.numpy):
            few = self._train.take(chosen)
            images = warped(torch.from_numpy(few.images), random.generator)
            yield Digit(images.flatten(1), torch.from_numpy(few.labels))

    def validation(self) -> list[Digit]:
        return [together(self._validation)]

    def test(self) -> list[Digit]:
        return [together(self._test)]

    def measure(self, model: Sequential, batch: Digit) -> Measured:
        """Cross-entropy; the share of images whose digit is named."""
        logits = model.logits(batch.pixels)
        loss = functional.cross_entropy(logits, batch.labels)
        accuracy = (logits.argmax(dim=-1) == batch.labels).double().mean().item()
        return Measured(loss, accuracy, len(batch.labels))


# The settings were chosen by cross-validation over the forms that are not for testing, in five
# parts: an accuracy of 0.973 after the last epoch, where the nearest training image has 0.951. On
# the test set, seeds 0, 1, 2 come to 0.950, 0.950, 0.966; one image more or less is 0.003.
DIGITS = Example(
    title="Digits: which one is it, in a hand never seen before?",
    structure="fixed → fixed",
    source="1,797 images of 8 by 8 pixels",
    duration="20 seconds",
    data=datasets.digits,
    task=Digits,
    settings=Settings(epochs=80, patience=80, weight_decay=0.1),
    inputs=lambda images: list(flat(images)),
)

"""Sequence → sequence, step by step: what will the next frame of a film look like?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from models import datasets
from models.dense import Dense
from models.examples.example import Example
from models.recurrent import ConvLSTM2D
from models.sequential import Sequential
from models.training.batch import Batch
from models.training.settings import Settings
from models.training.task import Baseline, Measured, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.datasets.sequences import Array
    from models.training.randomness import Random

VALIDATION_FILMS, TEST_FILMS = 100, 200


@dataclass(frozen=True)
class Films(Batch):
    """`frames (B, T, rows, cols, 1)` of 0 to 1."""

    frames: Tensor


def held_out_films() -> tuple[Array, Array]:
    """(validation, test): films of digits from forms that training does not see."""
    return (
        datasets.moving_digits(VALIDATION_FILMS, seed=0, split="validation"),
        datasets.moving_digits(TEST_FILMS, seed=0, split="test"),
    )


class MovingDigits:
    """All frames but the last are shown; after each the next one is asked for.

    The first of these is a guess: a single frame does not show where the digits are going.
    """

    metric = Metric("mean squared error", higher_is_better=False)
    training_films = 320  # drawn anew for each epoch
    batch_size = 2

    def __init__(self, data: tuple[Array, Array], seed: int) -> None:
        """`data` is (validation, test); there is nothing to draw from `seed`."""
        self._validation, self._test = (Films(torch.from_numpy(films)) for films in data)
        frames = self._test.frames
        repeated = functional.mse_loss(frames[:, :-1], frames[:, 1:]).item()
        self.baseline = Baseline(repeated, "repeating the last frame")
        self.sizes = {
            "training": self.training_films,
            "validation": len(self._validation.frames),
            "test": len(frames),
        }

    def model(self) -> Sequential:
        """Foresees: frames `(B, T, rows, cols, 1)` → after each, the next one, of that shape."""
        model = Sequential(
            [
                ConvLSTM2D(16, 3, padding="same", return_sequences=True),
                ConvLSTM2D(16, 3, padding="same", return_sequences=True),
                Dense(1, activation="sigmoid"),  # the same at each pixel: a 1 by 1 convolution
            ],
            output_name="next_frames",
            name="moving_digits",
        )
        model.build((None, None, *self._test.frames.shape[2:]))
        return model

    def batches(self, random: Random) -> Iterator[Films]:
        seed = int(random.numpy.integers(2**32))
        films = torch.from_numpy(datasets.moving_digits(self.training_films, seed=seed))
        for start in range(0, self.training_films, self.batch_size):
            yield Films(films[start : start + self.batch_size])

    def validation(self) -> list[Films]:
        return [self._validation]

    def test(self) -> list[Films]:
        return [self._test]

    def measure(self, model: Sequential, batch: Films) -> Measured:
        """Binary cross-entropy with the pixels' blackness, and the mean squared error."""
        shown, following = batch.frames[:, :-1], batch.frames[:, 1:]
        logits = model.logits(shown)
        loss = functional.binary_cross_entropy_with_logits(logits, following)
        error = functional.mse_loss(logits.detach().sigmoid(), following)
        return Measured(loss, error.item(), len(batch.frames))


MOVING_DIGITS = Example(
    title="Moving digits: what does the next frame look like?",
    structure="sequence → sequence, synchronous",
    source="films of handwritten digits",
    duration="3 minutes",
    data=held_out_films,
    task=MovingDigits,
    settings=Settings(epochs=14, learning_rate=0.01),
    inputs=list,
)

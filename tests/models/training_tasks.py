"""A task for the tests of training: small, quick, and random in every way that a task can be."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from models import LSTM, Dense, Sequential
from models.training import Baseline, Batch, Measured, Metric, shuffled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.training import Random

BATCH_SIZE = 16


@dataclass(frozen=True)
class Steps(Batch):
    """`frames (B, T, 2)`, `labels (B, T)` of zeros and ones."""

    frames: Tensor
    labels: Tensor


@dataclass
class Recall:
    """The first frame shows a sign, the others nothing: which was it? To be said at every frame.

    Judged by the last frame. With `stateful` the model is for batches of one size. `in_batch` is
    called with the number of the batch, from 0 over all epochs, before that is handed out.
    """

    steps: int = 12
    count: int = 64
    stateful: bool = False
    dropout: float = 0.0
    noise: float = 0.1
    units: int = 8
    options: dict[str, object] | None = None
    in_batch: Callable[[int], None] = lambda number: None

    metric = Metric("last answer", higher_is_better=True, unit=" of 1")
    baseline = Baseline(0.5, "a coin")

    def __post_init__(self) -> None:
        self.sizes = {"training": self.count, "validation": 10, "test": 33}
        self.given = 0

    def sequences(self, count: int, seed: int) -> Steps:
        signs = torch.randint(2, (count,), generator=torch.Generator().manual_seed(seed))
        frames = torch.zeros(count, self.steps, 2)
        frames[:, 0, 0] = 2.0 * signs - 1.0
        frames[:, :, 1] = torch.linspace(0, 1, self.steps)
        return Steps(frames, signs[:, None].expand(-1, self.steps).float())

    def model(self) -> Sequential:
        lstm = LSTM(
            self.units,
            return_sequences=True,
            stateful=self.stateful,
            dropout=self.dropout,
            recurrent_dropout=self.dropout,
            **(self.options or {}),
        )
        model = Sequential([lstm, Dense(1, activation="sigmoid")], name="recall")
        model.build((BATCH_SIZE if self.stateful else None, None, 2))
        return model

    def batches(self, random: Random) -> Iterator[Steps]:
        everything = self.sequences(self.count, seed=0)
        for chosen in shuffled(self.count, BATCH_SIZE, random.numpy, drop_last=True):
            self.in_batch(self.given)
            self.given += 1
            frames = everything.frames[chosen]
            noise = self.noise * torch.randn(frames.shape, generator=random.generator)
            yield Steps(frames + noise, everything.labels[chosen])

    def validation(self) -> list[Steps]:
        both = self.sequences(10, seed=1)
        return [Steps(both.frames[:4], both.labels[:4]), Steps(both.frames[4:], both.labels[4:])]

    def test(self) -> list[Steps]:
        return [self.sequences(33, seed=2)]

    def measure(self, model: Sequential, batch: Steps) -> Measured:
        logits = model.logits(batch.frames)[..., 0]
        loss = functional.binary_cross_entropy_with_logits(logits, batch.labels)
        right = (logits[:, -1] > 0) == (batch.labels[:, -1] > 0.5)
        return Measured(loss, right.double().mean().item(), len(batch.labels))


def kill_in(batch: int) -> Callable[[int], None]:
    """An `in_batch` that ends the process as a power cut would."""

    def in_batch(number: int) -> None:
        if number == batch:
            os.kill(os.getpid(), signal.SIGKILL)

    return in_batch

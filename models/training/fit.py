"""The training loop: AdamW, clipped gradients, early stopping on a validation set.

On one machine the result depends on the arguments alone, bit for bit: every random number comes
from a generator that is seeded here.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.training.batches import Batch, batches, pad
from models.training.loss import classification_loss, correct

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from models.datasets import Split
    from models.sequential import Sequential


@dataclass(frozen=True)
class Settings:
    """How to train.

    `noise` is the deviation of the Gaussian noise that is added to the training inputs, in units of
    each feature's own standard deviation. `final_weight`: see `classification_loss`. The learning
    rate falls from `learning_rate` to zero along half a cosine over `epochs`.
    `patience` is the number of epochs without a better validation loss after which training stops.
    """

    epochs: int = 80
    patience: int = 30
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    noise: float = 0.0
    final_weight: float = 0.5


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave; losses are means, accuracies shares of 1, at the last frame."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Fitted:
    """The epochs that ran, and the one (its number) whose weights were kept."""

    history: list[Epoch]
    best_epoch: int


def fit(
    model: Sequential,
    train: Split,
    validation: Split,
    settings: Settings,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Fitted:
    """Trains `model`, a built one, in place and leaves it with the weights of its best epoch."""
    random = np.random.default_rng(seed)
    noise = _Noise(train, settings.noise, seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    held_out = pad(validation)
    history: list[Epoch] = []
    best: Epoch | None = None
    best_weights = model.state_dict()
    for number in range(1, settings.epochs + 1):
        started = time.perf_counter()
        model.train()
        results = [
            (_update(model, optimizer, noise.add(batch), settings), len(batch.labels))
            for batch in batches(train, settings.batch_size, random)
        ]
        schedule.step()
        loss, accuracy = _mean(results)
        validation_loss, validation_accuracy = evaluate(model, held_out, settings.final_weight)
        seconds = time.perf_counter() - started
        epoch = Epoch(number, loss, accuracy, validation_loss, validation_accuracy, seconds)
        history.append(epoch)
        on_epoch(epoch)
        if best is None or epoch.validation_loss < best.validation_loss:
            best, best_weights = epoch, copy.deepcopy(model.state_dict())
        elif number - best.epoch >= settings.patience:
            break
    model.load_state_dict(best_weights)
    model.eval()
    return Fitted(history, best.epoch if best else 0)


def evaluate(model: Sequential, batch: Batch, final_weight: float) -> tuple[float, float]:
    """(loss, accuracy at the last frame)."""
    model.eval()
    with torch.no_grad():
        logits = model.logits(batch.frames, mask=batch.mask)
    loss = classification_loss(logits, batch, final_weight)
    return loss.item(), correct(logits, batch).double().mean().item()


class _Noise:
    """Adds noise to a batch, from a generator of its own."""

    def __init__(self, train: Split, level: float, seed: int) -> None:
        self.scale: Tensor = level * torch.from_numpy(np.concatenate(train.frames).std(axis=0))
        self.generator = torch.Generator().manual_seed(seed)

    def add(self, batch: Batch) -> Batch:
        noise = torch.randn(batch.frames.shape, generator=self.generator)
        return Batch(batch.frames + self.scale * noise, batch.mask, batch.labels)


def _update(
    model: Sequential, optimizer: torch.optim.Optimizer, batch: Batch, settings: Settings
) -> tuple[float, float]:
    """One gradient step; (loss, accuracy) on `batch` before it."""
    logits = model.logits(batch.frames, mask=batch.mask)
    loss = classification_loss(logits, batch, settings.final_weight)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
    optimizer.step()
    return loss.item(), correct(logits, batch).double().mean().item()


def _mean(results: list[tuple[tuple[float, float], int]]) -> tuple[float, float]:
    """The means of (loss, accuracy), each weighted with its batch's size."""
    total = sum(size for _, size in results)
    loss = sum(loss * size for (loss, _), size in results) / total
    accuracy = sum(accuracy * size for (_, accuracy), size in results) / total
    return loss, accuracy

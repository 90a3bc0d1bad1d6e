"""Trains an example from its data to a run folder."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from models import runs
from models.training.batches import hold_out, pad
from models.training.fit import evaluate, fit
from models.training.history import draw, write_csv

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.examples import Example
    from models.training.fit import Epoch

VALIDATION_FRACTION = 0.15


@dataclass(frozen=True)
class Metrics:
    """What came out. Accuracies are shares of 1, at the last frame of each sequence.

    `baseline` is the accuracy on the test set of always answering its most frequent class.
    """

    example: str
    accuracy: float
    baseline: float
    validation_accuracy: float
    test_sequences: int
    training_sequences: int
    validation_sequences: int
    parameters: int
    seed: int
    epochs: int
    best_epoch: int
    seconds: float


def train_example(
    name: str,
    example: Example,
    output: Path,
    seed: int = 0,
    epochs: int | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Metrics:
    """Trains and writes the run folder `output`; `epochs`, if given, replaces the example's own.

    The test set is looked at once, at the end.
    """
    started = time.perf_counter()
    output.mkdir(parents=True, exist_ok=True)  # now, not after minutes of training
    settings = example.settings if epochs is None else replace(example.settings, epochs=epochs)
    everything, test = example.data()
    train, validation = hold_out(everything, VALIDATION_FRACTION, np.random.default_rng(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = example.model(train)
    fitted = fit(model, train, validation, settings, seed, on_epoch)
    _, accuracy = evaluate(model, pad(test), settings.final_weight)
    _, validation_accuracy = evaluate(model, pad(validation), settings.final_weight)
    metrics = Metrics(
        example=name,
        accuracy=accuracy,
        baseline=float(np.bincount(test.labels).max() / len(test)),
        validation_accuracy=validation_accuracy,
        test_sequences=len(test),
        training_sequences=len(train),
        validation_sequences=len(validation),
        parameters=model.count_params(),
        seed=seed,
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch,
        seconds=time.perf_counter() - started,
    )
    runs.save(output, model, name, vars(metrics))
    write_csv(output / runs.HISTORY, fitted)
    draw(output / runs.CURVE, fitted, example.description)
    return metrics

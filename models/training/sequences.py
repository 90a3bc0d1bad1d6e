"""Labelled sequences of different lengths as batches: padded at the end, with a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.training.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from models.datasets import Split


@dataclass(frozen=True)
class Sequences(Batch):
    """`frames (B, T, D)`, `mask (B, T)` true where a frame is real, `labels (B,)`."""

    frames: Tensor
    mask: Tensor
    labels: Tensor

    @property
    def lengths(self) -> Tensor:
        """The number of real frames of each sequence, `(B,)`."""
        return self.mask.sum(dim=1)


def pad(split: Split) -> Sequences:
    """All sequences of `split` as one batch, zeros behind the shorter ones."""
    lengths = torch.tensor([len(frames) for frames in split.frames])
    frames = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(frames) for frames in split.frames], batch_first=True
    )
    mask = torch.arange(frames.shape[1]) < lengths[:, None]
    return Sequences(frames, mask, torch.from_numpy(split.labels))


def hold_out(split: Split, fraction: float, random: np.random.Generator) -> tuple[Split, Split]:
    """(rest, held out): `fraction` of each class, at least one sequence of it, is held out.

    Raises ValueError where a class has too few sequences to leave one on either side.
    """
    held_out: list[int] = []
    for label in np.unique(split.labels):
        members = np.flatnonzero(split.labels == label)
        count = max(1, round(fraction * len(members)))
        if count >= len(members):
            raise ValueError(
                f"Class {label} has {len(members)} sequences: too few to hold out {count}."
            )
        held_out.extend(random.permutation(members)[:count].tolist())
    chosen = np.array(sorted(held_out), dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(split)), chosen)
    return split.take(rest), split.take(chosen)

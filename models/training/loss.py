"""Loss and accuracy of a classifier that answers at every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from models.training.sequences import Sequences


def classification_loss(logits: Tensor, batch: Sequences, final_weight: float) -> Tensor:
    """Cross-entropy of `logits (B, T, C)`: part for the last real frame, part for all of them.

    `final_weight` is the share of the last frame; the rest goes to the mean over a sequence's real
    frames, which teaches the model to answer early. Padding counts nowhere. A scalar.
    """
    per_frame = functional.cross_entropy(
        logits.transpose(1, 2),
        batch.labels[:, None].expand(-1, logits.shape[1]),
        reduction="none",
    )
    everywhere = torch.where(batch.mask, per_frame, 0.0).sum(dim=1) / batch.lengths
    blended = final_weight * at_last_frame(per_frame, batch) + (1 - final_weight) * everywhere
    return blended.mean()


def correct(outputs: Tensor, batch: Sequences) -> Tensor:
    """Whether the largest of `outputs (B, T, C)` at the last real frame is the label: `(B,)`."""
    return at_last_frame(outputs, batch).argmax(dim=-1) == batch.labels


def at_last_frame(values: Tensor, batch: Sequences) -> Tensor:
    """`values (B, T, …)` at each sequence's last real frame: `(B, …)`."""
    return values[torch.arange(len(values), device=values.device), batch.lengths - 1]

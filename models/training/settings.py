"""How to train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """Numbers for the loop.

    - `epochs`, at most; training ends after `patience` epochs without a better validation loss.
    - `learning_rate` of AdamW at the first epoch; it falls to zero along half a cosine over
      `epochs`. `weight_decay` is AdamW's.
    - `clip_norm`: the gradient, all weights taken together, is scaled down to this norm where it is
      larger; `math.inf` for never.
    - `chunk`: truncated back-propagation. Batches are consumed so many timesteps at a time, with a
      step of the optimiser after each; the model's recurrent layers are `stateful`. None: whole
      sequences.
    - `reset`: when stateful layers start from zero again. "batch": at each batch, which holds new
      sequences. "epoch": once per epoch, as each batch continues the sequences of the one before,
      row by row (the task does not shuffle).
    """

    epochs: int = 80
    patience: int = 30
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    chunk: int | None = None
    reset: Literal["batch", "epoch"] = "batch"

    def __post_init__(self) -> None:
        """ValueError for a number that makes no sense."""
        for name in ("epochs", "patience", "chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be 1 or more.")
        if not self.clip_norm > 0:
            raise ValueError(
                f"clip_norm is {self.clip_norm}; it must be above 0, math.inf for no clipping."
            )
        if self.reset not in ("batch", "epoch"):
            raise ValueError(f"reset is {self.reset!r}; it must be 'batch' or 'epoch'.")

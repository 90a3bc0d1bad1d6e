"""Input: what a model is fed with, for those who call it from outside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model, by the name of the argument that takes it.

    `shape` counts the batch axis, whose size is None. A size of None at axis 1 is time: any number
    of timesteps; all other sizes are known. `dtype` is numpy's name. A `constant` is given once,
    when a session begins, and is the same for all its requests.

    Values are from `low` to below `high`, where the model takes no others. If that is not said,
    whole numbers are the symbols that the model's embeddings know.

    Raises ValueError for another shape than that.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    constant: bool = False
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not self.shape or self.shape[0] is not None or None in self.shape[2:]:
            raise ValueError(
                "An input's shape is (None, …): the batch axis first; of the others only axis 1, "
                f"time, may be of unknown size. Not {self.shape}."
            )

    @property
    def time(self) -> bool:
        """Whether axis 1 counts timesteps."""
        return len(self.shape) > 1 and self.shape[1] is None

    def sized(self, batch: int, time: int) -> tuple[int, ...]:
        """The shape with these sizes."""
        known = (time if size is None else size for size in self.shape[1:])
        return (batch, *known)

"""What a model wants to be told about the sessions in a batch, beside what their clients send."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    from server.core.batch import Entry
    from server.core.session import Session

_BITS_64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Control:
    """An input of the model with one element for each row of the batch.

    `start`: the first timesteps of a session since it was opened or reset; `end`: the last ones of
    a request that ends it; `ready`: true for every row, as there are none without a request; `id`:
    the session's, a number. `shape` has at most one -1, the batch.
    """

    name: str
    signal: Literal["start", "end", "ready", "id"]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    false: float = 0
    true: float = 1

    def array(self, entries: Sequence[Entry], timesteps: int | None) -> NDArray[Any]:
        """The input for a run of `timesteps` timesteps; None: of whole requests."""
        rows = [entry for entry in entries for _ in range(entry.session.batch_size)]
        if self.signal == "id":  # the low bits, where the model takes fewer
            ids = [number_of(entry.session.id) & _BITS_64 for entry in rows]
            return np.array(ids, np.uint64).astype(self.dtype).reshape(self.shape)
        flags = [self._flag(entry, timesteps) for entry in rows]
        values = [self.true if flag else self.false for flag in flags]
        return np.array(values, self.dtype).reshape(self.shape)

    def column(self, sessions: Sequence[Session], start: NDArray[np.bool_]) -> NDArray[Any]:
        """The input for a run of a frame: sessions of one row; `start` tells which of them begin
        with it. No frame ends a session.
        """
        if self.signal == "id":
            ids = [number_of(session.id) & _BITS_64 for session in sessions]
            return np.array(ids, np.uint64).astype(self.dtype).reshape(self.shape)
        flags = start if self.signal == "start" else np.full(len(start), self.signal == "ready")
        return np.where(flags, self.true, self.false).astype(self.dtype).reshape(self.shape)

    def _flag(self, entry: Entry, timesteps: int | None) -> bool:
        session, step, *_ = entry
        if self.signal == "start":
            return session.fresh and step.position == 0
        if self.signal == "end":
            is_last = timesteps is None or step.position + timesteps >= step.timesteps
            return step.end and is_last
        return True


def number_of(id: Hashable) -> int:
    """The number of a session: its own where it is called by one, or else 63 bits made of its name,
    the same ones in every process.
    """
    called = getattr(id, "id", id)  # of a sequence, without the model that it belongs to
    if isinstance(called, int):
        return called
    digest = hashlib.blake2b(str(called).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1

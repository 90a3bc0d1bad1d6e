"""The sessions of one model, by column.

A session has a slot, and what changes with every step stands in arrays at that place: a frame moves
a thousand sessions on with a few numpy operations, a session that steps alone reads and writes its
own elements, and whoever looks for those that have been idle for long compares two columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from server.core.phases import Event, Phase, after_each
from server.errors import LimitReached

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from server.core.session import Session

CLOSED_SLOT = 0  # where all sessions stand that have come to their end
ON_HOST = -1  # in column `row`: the state was moved off the device

WIDE = 1  # in column `aside`: the session has several rows …
WAITING = 2  # … or requests of its own that wait for a frame to be done


class Table:
    """At most `max_sessions` sessions at a time.

    Columns, one element for each slot: `row` of the arena where the committed state stands (of a
    session with several, the first), `step`, the number of committed steps, `used_s` and `ttl_s`,
    when it was used and how long it lives without, its `phase`, whether it is `fresh`, `aside`, why
    it cannot share in a frame, `frames`, how many hold a step of it, the `generation` of the slot,
    and `record` and `place`, where the answer to its last step in a frame is remembered.

    Columns of which single elements are wanted at every step have a twin with an underscore behind
    the name, a memoryview: Python reads and writes elements of that much faster.
    """

    def __init__(self, max_sessions: int) -> None:
        size = max_sessions + 2  # the closed one's slot, and one for a session that may be refused
        self._size = size
        self.sessions: list[Session | None] = [None]
        self._free: list[int] = []
        # The system commits the pages of these when they are first written.
        self.row: NDArray[np.int64] = np.zeros(size, np.int64)
        self.step: NDArray[np.int64] = np.zeros(size, np.int64)
        self.used_s: NDArray[np.float64] = np.zeros(size, np.float64)
        self.ttl_s: NDArray[np.float64] = np.zeros(size, np.float64)
        self.phase: NDArray[np.uint8] = np.zeros(size, np.uint8)
        self.fresh: NDArray[np.bool_] = np.zeros(size, np.bool_)
        self.aside: NDArray[np.uint8] = np.zeros(size, np.uint8)
        self.frames: NDArray[np.uint32] = np.zeros(size, np.uint32)
        self.generation: NDArray[np.uint32] = np.zeros(size, np.uint32)
        self.record: NDArray[np.int64] = np.zeros(size, np.int64)
        self.place: NDArray[np.int32] = np.zeros(size, np.int32)
        self.row_, self.step_ = _elements(self.row), _elements(self.step)
        self.used_s_, self.ttl_s_ = _elements(self.used_s), _elements(self.ttl_s)
        self.phase_, self.fresh_ = _elements(self.phase), _elements(self.fresh)
        self.aside_, self.record_ = _elements(self.aside), _elements(self.record)

    def take(self, session: Session, ttl_s: float, now_s: float, *, wide: bool) -> int:
        """A slot for a new session, idle, with the initial state. Raises LimitReached."""
        if self._free:
            slot = self._free.pop()
            self.sessions[slot] = session
        elif len(self.sessions) < self._size:
            slot = len(self.sessions)
            self.sessions.append(session)
        else:
            raise LimitReached(
                f"no room for another session: {self._size - 2} are open; try again when others "
                "have closed"
            )
        self.row_[slot] = self.step_[slot] = 0
        if self.record_[slot]:  # writing would take memory for it
            self.record_[slot] = 0
        self.used_s_[slot], self.ttl_s_[slot] = now_s, ttl_s
        self.phase_[slot], self.fresh_[slot] = Phase.IDLE, True
        self.aside_[slot] = WIDE if wide else 0
        return slot

    def release(self, slot: int) -> None:
        """The session has come to its end: others may have its slot, in a new generation."""
        self.sessions[slot] = None
        self.phase_[slot] = Phase.CLOSED
        self.generation[slot] += 1
        self._free.append(slot)

    def apply(self, slots: NDArray[Any], event: Event) -> None:
        """The same event to many sessions. Raises IllegalTransition."""
        self.phase[slots] = after_each(self.phase[slots], event)

    def idle_too_long(self, now_s: float) -> NDArray[np.int64]:
        """The slots of sessions that nobody has used for their time to live."""
        count = len(self.sessions)
        overdue = self.used_s[:count] + self.ttl_s[:count] <= now_s
        return np.flatnonzero(overdue & (self.phase[:count] == Phase.IDLE))

    def __len__(self) -> int:
        return len(self.sessions) - 1 - len(self._free)

    def __repr__(self) -> str:
        return f"<Table {len(self)} sessions>"


def _elements(column: NDArray[Any]) -> Any:
    """The column for those who want Python's numbers, one at a time."""
    return memoryview(column)  # type: ignore[arg-type]

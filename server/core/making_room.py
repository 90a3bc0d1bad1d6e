"""Where the device has room for fewer sessions than there are: who makes room for others.

Those that were used least recently move to host memory; among sessions that have work, those whose
turn comes last. A session comes back with its next step, in the very run that makes the step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from server.core.batch import MoveOut
from server.core.phases import Phase
from server.core.requests import Step
from server.core.rows import INITIAL_ROW

if TYPE_CHECKING:
    from server.core.ledger import Ledger, Limits
    from server.core.requests import Arrays
    from server.core.session import Session
    from server.core.table import Table

AT_ONCE = 16  # of so many rows on the device one is freed at a time, a batch's at least


def job(table: Table, limits: Limits) -> MoveOut | None:
    """Who is to leave the device now; None if nobody can."""
    wanted = max(limits.max_batch_size, limits.resident_rows // AT_ONCE)
    sessions: list[Session] = []
    rows: list[int] = []
    for slot in _leaving_first(table):
        session = table.sessions[slot]
        assert session is not None
        if _may_leave(session):
            sessions.append(session)
            rows.extend(session.rows)
        if len(rows) >= wanted:
            break
    return MoveOut(tuple(sessions), tuple(rows)) if sessions else None


def moved(ledger: Ledger, job: MoveOut, states: Arrays) -> None:
    """The states have been read: their rows are free, unless somebody shares them."""
    start = 0
    for session in job.sessions:
        stop = start + session.batch_size
        unchanged = not session.closed and session.rows == job.rows[start:stop]
        if unchanged and _may_leave(session):
            own = {name: np.array(array[start:stop]) for name, array in states.items()}
            ledger.move_out(session, own)
        start = stop


def _leaving_first(table: Table) -> list[int]:
    """Slots of sessions that have rows on the device, first those that should leave first."""
    count = len(table.sessions)
    phase, used_s = table.phase[:count], table.used_s[:count]
    resident = table.row[:count] > INITIAL_ROW
    idle = np.flatnonzero(resident & (phase == Phase.IDLE))
    busy = np.flatnonzero(resident & ((phase == Phase.QUEUED) | (phase == Phase.FRAMED)))
    order = np.concatenate([idle[np.argsort(used_s[idle])], busy[np.argsort(-used_s[busy])]])
    return [int(slot) for slot in order]


def _may_leave(session: Session) -> bool:
    """Not who waits for its states to be read or written."""
    if session.phase is not Phase.QUEUED:
        return True
    first = session.first
    return isinstance(first, Step) and first.stepped is None

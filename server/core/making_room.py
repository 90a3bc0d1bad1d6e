"""Where the device has room for fewer sessions than there are: who makes room for others.

Those that were used least recently move to host memory; among sessions that have work, those whose
turn comes last. A session comes back with its next step, in the very run that makes the step.

Others may run while states are read. The rows are held until then, so that nobody writes them; and
who has begun a step meanwhile, or has other states, stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from server.core.batch import MoveOut
from server.core.phases import Phase
from server.core.requests import Step
from server.core.rows import INITIAL_ROW

if TYPE_CHECKING:
    from server.core.ledger import Ledger
    from server.core.requests import Arrays
    from server.core.session import Session
    from server.core.table import Table

AT_ONCE = 16  # of so many rows on the device one is freed at a time, a batch's at least


def job(table: Table, ledger: Ledger, *, frames_run: bool) -> MoveOut | None:
    """Who is to leave the device now; None if nobody can. `frames_run`: who stands in a frame may
    be running.
    """
    limits = ledger.limits
    wanted = max(limits.max_batch_size, limits.resident_rows // AT_ONCE)
    sessions: list[Session] = []
    rows: list[int] = []
    for slot in _leaving_first(table):
        session = table.sessions[slot]
        assert session is not None
        if _may_leave(session, frames_run):
            sessions.append(session)
            rows.extend(session.rows)
        if len(rows) >= wanted:
            break
    if not sessions:
        return None
    ledger.rows.share(rows)
    return MoveOut(tuple(sessions), tuple(rows))


def moved(ledger: Ledger, job: MoveOut, states: Arrays, *, frames_run: bool) -> None:
    """The states have been read: their rows are free, unless somebody shares them."""
    start = 0
    for session in job.sessions:
        stop = start + session.batch_size
        unchanged = not session.closed and session.rows == job.rows[start:stop]
        if unchanged and _may_leave(session, frames_run):
            own = {name: np.array(array[start:stop]) for name, array in states.items()}
            ledger.move_out(session, own)
        start = stop
    stay(ledger, job)


def stay(ledger: Ledger, job: MoveOut) -> None:
    """Nobody holds the rows for the job any more."""
    ledger.rows.give_back(job.rows)


def _leaving_first(table: Table) -> list[int]:
    """Slots of sessions that have rows on the device, first those that should leave first."""
    count = len(table.sessions)
    phase, used_s = table.phase[:count], table.used_s[:count]
    resident = table.row[:count] > INITIAL_ROW
    idle = np.flatnonzero(resident & (phase == Phase.IDLE))
    busy = np.flatnonzero(resident & ((phase == Phase.QUEUED) | (phase == Phase.FRAMED)))
    order = np.concatenate([idle[np.argsort(used_s[idle])], busy[np.argsort(-used_s[busy])]])
    return [int(slot) for slot in order]


def _may_leave(session: Session, frames_run: bool) -> bool:
    """Not who waits for its states to be read or written, nor whose states a run reads."""
    match session.phase:
        case Phase.QUEUED:
            first = session.first
            return isinstance(first, Step) and first.stepped is None
        case Phase.FRAMED:
            return not frames_run
        case phase:
            return phase is Phase.IDLE

"""What must hold of a core at any moment: every row has its owners or is free, all counts are
right, and nobody writes a row that counts.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from server.core.batch import Batch, MoveOut, WriteRows
from server.core.frame import FrameRun
from server.core.phases import Phase
from server.core.requests import Step
from server.core.table import ON_HOST, WAITING

if TYPE_CHECKING:
    from server.core.requests import Request
    from server.core.scheduler import Job
    from server.core.session import Session

    Core = Any  # of driven.py


def check(core: Core) -> None:
    _check_rows(core)
    _check_counts(core)
    _check_sessions(core)
    _check_remembered(core)
    core.collect()
    assert all(len(results) == 1 for results in core.answers.values())
    assert not any(request in core.answers for request in _waiting(core))


def check_job(core: Core, job: Job) -> None:
    """A job that is about to run, beside those that are under way."""
    written = _written(job)
    for other in core.jobs:
        assert set(written).isdisjoint(_written(other)), "a row is written twice"
        assert set(written).isdisjoint(read_by(other)), "a row is written that another job reads"
        assert set(read_by(job)).isdisjoint(_written(other)), "a row is read while it is written"
        assert _sessions(core, job).isdisjoint(_sessions(core, other)), "two steps of a session"
    assert min(written, default=1) > 0
    assert len(set(written)) == len(written)
    counting = {row for session in core.everyone for row in session.rows}
    assert counting.isdisjoint(written), "a row that counts is written"
    assert set(_working(core)).isdisjoint(written), "unfinished work is overwritten"
    if isinstance(job, Batch):
        assert 0 < job.size <= core.limits.max_batch_size
        assert len({id(entry.session) for entry in job.entries}) == len(job.entries)
        assert len({entry.step.shapes for entry in job.entries}) == 1
    elif isinstance(job, FrameRun):
        slots = [slot for part in job.parts for slot in part.slots.tolist()]
        assert 0 < job.size == len(set(slots)) == len(slots) <= core.limits.max_batch_size
        assert len({(part.frame.shapes, part.frame.timesteps) for part in job.parts}) == 1
    elif isinstance(job, MoveOut):
        assert job.rows == tuple(row for session in job.sessions for row in session.rows)
        assert all(session.phase is not Phase.RUNNING for session in job.sessions)


def _check_rows(core: Core) -> None:
    owners = Counter(row for session in core.everyone for row in session.rows if row > 0)
    for session in core.everyone:
        rows = session.rows
        assert session.on_host == (ON_HOST in rows) == (set(rows) == {ON_HOST})
        assert session.phase is Phase.CLOSED or rows[0] == core.table.row[session.slot]
    alone = [*_working(core), *(row for job in core.jobs for row in _written(job))]
    assert owners.keys().isdisjoint(alone), f"rows of sessions and of work: {owners} {alone}"
    owners.update(alone)
    owners.update(row for job in core.jobs if isinstance(job, MoveOut) for row in job.rows)
    assert owners == {row: core.pool.owners(row) for row in core.pool.out}
    assert core.pool.free + len(owners) == core.pool.size - 1


def _check_counts(core: Core) -> None:
    ledger, limits, waiting = core.ledger, core.limits, _waiting(core)
    frames = [frame for frame in core.frames if not frame.answered]
    pending = len(waiting) + sum(frame.enlisted for frame in frames)
    assert ledger.pending == core.scheduler.pending == pending <= limits.max_pending
    assert ledger.pending_bytes == sum(request.nbytes for request in [*waiting, *frames])
    steps = [request for request in waiting if isinstance(request, Step)]
    assert ledger.working_rows == sum(step.working_rows for step in steps)
    assert ledger.working_rows <= limits.max_working_rows
    assert ledger.reserved_rows == sum(session.batch_size for session in _living(core))
    assert ledger.reserved_rows <= limits.max_rows


def _check_sessions(core: Core) -> None:
    living, table = _living(core), core.table
    assert len(table) == len(living)
    for session in living:
        slot = session.slot
        assert table.sessions[slot] is session
        in_frames = sum(_holds(frame, slot) for frame in core.frames)
        assert table.frames[slot] == in_frames
        if session.phase is not Phase.CLOSING:
            assert (in_frames > 0) == (session.phase is Phase.FRAMED)
        if session.pending and session.phase is Phase.FRAMED:
            assert table.aside[slot] & WAITING
        if session.phase is Phase.IDLE:
            assert not table.aside[slot] & WAITING
            assert session.pending is None


def _holds(frame: Any, slot: int) -> bool:
    """Whether the frame holds a step of the session at `slot` that has no outcome yet."""
    return not frame.answered and any(
        frame.slots[position] == slot
        for position in frame.enlisted_positions
        if position not in frame.errors and not frame.steps[position]
    )


def _check_remembered(core: Core) -> None:
    kept = [answer for session in core.everyone for answer in session.answers or ()]
    remembered = core.scheduler._remembered
    records, shelf = remembered._records._by_number.values(), remembered._shelf
    assert shelf.nbytes == sum(each.nbytes for each in [*kept, *records])
    assert shelf.nbytes <= shelf.max_bytes


def _living(core: Core) -> list[Session]:
    return [session for session in core.everyone if session.phase is not Phase.CLOSED]


def _waiting(core: Core) -> list[Request]:
    return [request for session in core.everyone for request in session.pending or ()]


def _working(core: Core) -> list[int]:
    """Rows of unfinished work."""
    rows = [r for step in _waiting(core) if isinstance(step, Step) for r in step.rows]
    frames = core.scheduler._frames
    parts = [*frames._working, *(run.working for run in frames._running.values() if run.working)]
    return [*rows, *(row for working in parts for row in working.rows.tolist())]


def read_by(job: Job) -> list[int]:
    """Rows that the job reads, without those by which sessions come back."""
    if isinstance(job, Batch | FrameRun):
        back = job.back()
        own = set() if back is None else set(back.rows.tolist())
        return [row for row in job.read_rows().tolist() if row not in own]
    return [] if isinstance(job, WriteRows) else list(job.rows)


def _written(job: Job) -> list[int]:
    """Rows that the job writes, those by which sessions come back included."""
    if isinstance(job, Batch | FrameRun):
        back = job.back()
        return [*job.write_rows().tolist(), *([] if back is None else back.rows.tolist())]
    return list(job.rows) if isinstance(job, WriteRows) else []


def _sessions(core: Core, job: Job) -> set[Session]:
    """Those of which the job does a request."""
    if isinstance(job, Batch):
        return {entry.session for entry in job.entries}
    if isinstance(job, FrameRun):
        slots = [slot for part in job.parts for slot in part.slots.tolist()]
        return {core.table.sessions[slot] for slot in slots}
    return set() if isinstance(job, MoveOut) else {job.session}

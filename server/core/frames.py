"""The frames that wait or run: steps of many sessions at a time, by column.

A session that has nothing else to do is enlisted: it is `FRAMED` until no frame holds a step of it
any more, and whatever it is asked meanwhile waits. Frames run first come, first served, in parts of
at most `max_batch_size` sessions; a part runs to its end, in pieces of at most `max_chunk`
timesteps, before the next one begins. Frames that come close together share a run if they have the
same shapes and no session in common. Several parts may run at a time, of one frame or of several;
where a step of a session is among them, its next one waits, and so do the frames behind that.

Nothing here looks at a single session, unless it has to come back from the host or has failed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from server.core.batch import in_sequence, together
from server.core.frame import FrameRun, Part, Working
from server.core.outcomes import Outcomes
from server.core.phases import Event, Phase
from server.core.table import ON_HOST, WAITING, WIDE
from server.errors import InvalidRequest, RequestError, SessionClosed, StepFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from server.core.batch import Back, Layout
    from server.core.frame import Frame
    from server.core.ledger import Ledger
    from server.core.records import Records
    from server.core.remembered import Remembered
    from server.core.requests import Arrays
    from server.core.session import Session
    from server.core.table import Table

    Ints = NDArray[np.int64]


class Frames:
    """The frames of one model that wait or run."""

    def __init__(
        self,
        table: Table,
        ledger: Ledger,
        records: Records,
        remembered: Remembered,
        layout: Layout,
    ) -> None:
        self._table = table
        self._ledger = ledger
        self.outcomes = Outcomes(table, ledger, records, remembered)
        self._layout = layout
        self._limits = ledger.limits
        self._queue: deque[Frame] = deque()
        self._running: dict[int, FrameRun] = {}  # by the run's own id()
        self._working: deque[Working] = deque()  # those that wait for their next run
        self._knows_sessions = any(control.signal == "id" for control in layout.controls)

    def __bool__(self) -> bool:
        """Whether something waits to run."""
        return bool(self._queue) or bool(self._working)

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return bool(self._running)

    # ---- arriving -------------------------------------------------------------------------------

    def submit(self, frame: Frame, now_s: float) -> Ints:
        """Queue a frame. The positions of sessions that are busy with requests of their own: their
        steps have to queue there. Raises InvalidRequest or LimitReached; then nothing has changed.
        """
        table = self._table
        sound = np.ones(frame.count, np.bool_)
        sound[list(frame.errors)] = False
        slots = frame.slots[sound]
        ordered = np.sort(slots)
        if (ordered[1:] == ordered[:-1]).any():
            raise InvalidRequest("a session may stand in a frame only once")
        if (table.aside[slots] & WIDE).any():
            raise InvalidRequest("a session of several rows cannot step in a frame")
        phases = table.phase[slots]
        closed = (phases == Phase.CLOSED) | (phases == Phase.CLOSING)
        idle = ((phases == Phase.IDLE) | (phases == Phase.FRAMED)) & (table.aside[slots] == 0)
        positions = np.flatnonzero(sound)
        self._ledger.owe_frame(int(idle.sum()), frame.nbytes)
        frame.arrived_s = now_s
        frame.queue = positions[idle]
        frame.enlisted = len(frame.queue)
        frame.steps = np.zeros(frame.count, np.int64)
        frame.unsettled = len(positions)
        for position in positions[closed]:
            frame.put_error(int(position), SessionClosed("the session is closed"))
        table.used_s[slots] = now_s
        enlisted = slots[idle]
        table.apply(enlisted[phases[idle] == Phase.IDLE], Event.FRAME)
        table.frames[enlisted] += 1
        if frame.enlisted:
            self._queue.append(frame)
        self.outcomes.finish(frame)
        busy: Ints = positions[~idle & ~closed]
        return busy

    def cancel(self, frame: Frame) -> Ints:
        """What has not begun will not run. The slots of sessions that are in no frame any more."""
        positions, frame.queue = frame.queue, frame.queue[:0]
        if frame in self._queue:
            self._queue.remove(frame)
        for position in positions:
            frame.put_error(int(position), SessionClosed("cancelled"))
        self.outcomes.finish(frame)
        return self._release(frame.slots[positions])

    def refuse(self, error: RequestError) -> Ints:
        """The next part cannot run. The slots of sessions that are in no frame any more."""
        if self._working:
            working = self._working.popleft()
            (part,) = working.parts  # of one frame: it is a long one
            self._ledger.rows.give_back(working.rows.tolist())
            return self._refused(part, error)
        frame, most = self._queue[0], self._limits.max_batch_size
        part, frame.queue = Part(frame, frame.queue[:most]), frame.queue[most:]
        if not len(frame.queue):
            self._queue.popleft()
        return self._refused(part, error)

    def _refused(self, part: Part, error: RequestError) -> Ints:
        for position in part.positions:
            part.frame.put_error(int(position), error)
        part.frame.failed += len(part.positions)
        self.outcomes.finish(part.frame)
        return self._release(part.slots)

    # ---- running --------------------------------------------------------------------------------

    def next_run(self) -> tuple[FrameRun | None, Ints]:
        """What to run next, None if there is nothing before a run that is under way has ended; and
        the slots of sessions that are in no frame any more because there was nothing to run for
        them.
        """
        if self._working:
            working = self._working.popleft()
            return self._run(working.parts, working.rows, None, working), _NONE
        parts: list[Part] = []
        released: list[Ints] = []
        room = self._limits.max_batch_size
        while self._queue and room:
            frame = self._queue[0]
            if parts and not self._may_join(frame, parts):
                break
            most = min(room, frame.at_once or room)
            taken = frame.queue[:most]
            if self._running and self._are_running(frame.slots[taken]):
                break
            frame.queue = frame.queue[most:]
            ready, settled = self._ready(frame, taken)
            released.append(self._release(frame.slots[settled]))
            self.outcomes.finish(frame)
            if len(ready):
                parts.append(Part(frame, ready))
                room -= len(ready)
            if len(frame.queue):
                if len(ready):
                    break
                continue
            self._queue.popleft()
            if frame.at_once:
                break
        run = self._begin(tuple(parts)) if parts else None
        return run, np.concatenate(released) if released else _NONE

    def _may_join(self, frame: Frame, parts: list[Part]) -> bool:
        """Whether the frame can share a run with those before it."""
        first = parts[0].frame
        if (frame.shapes, frame.timesteps) != (first.shapes, first.timesteps) or frame.at_once:
            return False
        chunk = self._limits.max_chunk
        if chunk is not None and frame.timesteps > chunk:
            return False
        taken = np.concatenate([part.slots for part in parts])
        return not np.isin(frame.slots, taken).any()

    def _are_running(self, slots: Ints) -> bool:
        """Whether a step of one of the sessions is under way."""
        parts = [part for run in self._running.values() for part in run.parts]
        return any(np.isin(part.slots, slots).any() for part in parts)

    def _ready(self, frame: Frame, positions: Ints) -> tuple[Ints, Ints]:
        """Those of the positions whose step is to run now; the others, which are settled."""
        slots = frame.slots[positions]
        closed = self._table.phase[slots] != Phase.FRAMED
        for position in positions[closed]:
            frame.put_error(int(position), SessionClosed("the session was closed"))
        indices, expected = frame.indices[positions], self._table.step[slots] + 1
        is_next = (indices == 0) | (indices == expected)
        if not is_next[~closed].all():
            self.outcomes.settle_known(frame, positions[~closed & ~is_next])
        run = ~closed & is_next
        return positions[run], positions[~run]

    def _begin(self, parts: tuple[Part, ...]) -> FrameRun:
        slots = np.concatenate([part.slots for part in parts])
        read = self._table.row[slots]
        away = np.flatnonzero(read == ON_HOST)
        back = None
        if len(away):
            rows = self._ledger.rows.take(len(away))
            read[away] = rows
            kept = [self._session(slot).kept or {} for slot in slots[away]]
            back = together([((row,), states) for row, states in zip(rows, kept, strict=True)])
        return self._run(parts, read, back, None)

    def _run(
        self, parts: tuple[Part, ...], read: Ints, back: Back | None, working: Working | None
    ) -> FrameRun:
        slots = np.concatenate([part.slots for part in parts])
        chunk, whole = self._limits.max_chunk, parts[0].frame.timesteps
        position = working.position if working else 0
        run = FrameRun(
            parts,
            tuple(self._session(slot) for slot in slots) if self._knows_sessions else (),
            position,
            None if chunk is None else min(chunk, whole - position),
            read,
            np.array(self._ledger.rows.take(len(slots)), np.int64),
            back,
            self._table.fresh[slots] & (position == 0),
            self._layout,
            working,
        )
        self._running[id(run)] = run
        return run

    # ---- done -----------------------------------------------------------------------------------

    def complete(self, run: FrameRun, outputs: Arrays, now_s: float) -> Ints:
        """The run has succeeded. The slots of sessions that are in no frame any more."""
        self._end(run)
        pieces = [*run.working.pieces, outputs] if run.working else [outputs]
        if not run.is_last:
            assert run.timesteps is not None
            position = run.position + run.timesteps
            self._working.append(Working(run.parts, position, run.write, pieces))
            return _NONE
        try:
            outputs = in_sequence(pieces, self._layout)
        except StepFailed as error:
            return self._failed(run, error)
        start, released = 0, []
        for part in run.parts:
            stop = start + len(part.positions)
            own = {name: array[start:stop] for name, array in outputs.items()}
            released.append(self._commit(part, own, run.write[start:stop], now_s))
            if part.frame.at_once:  # it went well: more at a time
                part.frame.at_once *= 2
            self.outcomes.finish(part.frame)
            start = stop
        return np.concatenate(released)

    def fail(self, run: FrameRun, error: RequestError) -> Ints:
        """The run has failed: every session is as it was. Several are tried again in smaller parts,
        so that a bad one fails alone. The slots of sessions that are in no frame any more.
        """
        self._end(run)
        return self._failed(run, error)

    def _failed(self, run: FrameRun, error: RequestError) -> Ints:
        self._ledger.rows.give_back(run.write.tolist())
        if run.size == 1:
            return self._refused(run.parts[0], error)
        released = []
        for part in reversed(run.parts):
            frame = part.frame
            if frame.cancelled:
                released.append(self._refused(part, SessionClosed("cancelled")))
                continue
            frame.queue = np.concatenate([part.positions, frame.queue])
            frame.at_once = max(1, len(part.positions) // 2)
            if frame not in self._queue:
                self._queue.appendleft(frame)
        return np.concatenate([_NONE, *released])

    def _end(self, run: FrameRun) -> None:
        """It is not under way any more: what it has read and belongs to no session is free."""
        del self._running[id(run)]
        if run.working is not None:
            self._ledger.rows.give_back(run.working.rows.tolist())
        if run.come_back is not None:
            self._ledger.rows.give_back(run.come_back.rows.tolist())

    def _commit(self, part: Part, outputs: Arrays, rows: Ints, now_s: float) -> Ints:
        """The sessions of the part have made their steps, unless they were closed meanwhile."""
        frame, positions, slots, table = part.frame, part.positions, part.slots, self._table
        live = table.phase[slots] == Phase.FRAMED
        if not live.all():
            self._ledger.rows.give_back(rows[~live].tolist())
            for position in positions[~live]:
                frame.put_error(int(position), SessionClosed("the session was closed"))
            outputs = {name: array[live] for name, array in outputs.items()}
            positions, slots, rows = positions[live], slots[live], rows[live]
        old = table.row[slots]
        for slot in slots[old == ON_HOST]:
            self._session(slot).kept = None
        self._ledger.rows.give_back(old.tolist())
        table.row[slots] = rows
        table.step[slots] += 1
        table.fresh[slots] = False
        table.used_s[slots] = now_s
        self.outcomes.remember(frame, positions, slots, outputs)
        frame.put(positions, outputs, table.step[slots])
        frame.made += len(positions)
        return self._release(part.slots)

    def _release(self, slots: Ints) -> Ints:
        """One frame less that holds them; those of which none does any more."""
        if not len(slots):
            return slots
        self._table.frames[slots] -= 1
        free: Ints = slots[self._table.frames[slots] == 0]
        self._table.apply(free, Event.UNFRAME)
        return free

    def _session(self, slot: Any) -> Session:
        session: Session | None = self._table.sessions[slot]
        assert session is not None, f"no session at {slot}"
        return session

    def of_interest(self, slots: Ints) -> list[Session]:
        """Those of the sessions that somebody has to look at: their own requests wait, or they were
        closed meanwhile.
        """
        aside, phase = self._table.aside[slots] & WAITING, self._table.phase[slots]
        return [self._session(s) for s in slots[(aside != 0) | (phase == Phase.CLOSED)]]


_NONE: Ints = np.zeros(0, np.int64)

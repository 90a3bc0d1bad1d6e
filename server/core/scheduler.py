"""Decides what the engine of one model does next.

Sessions with work wait in lanes; sessions in one lane can share a batch. Whenever the engine is
free, `next_job` takes the lane whose first session has waited longest and fills a batch from it:
one request of each session, at most `max_batch_size` rows. In a model that may be cut a batch runs
as many timesteps as its shortest member still needs, never more than `max_chunk`, and whoever is
not done goes to the end of the lane: short requests join at every step and long ones hold nobody
back (cellular batching: Gao et al., EuroSys 2018). Where unfinished requests hold as many rows as
they may, new ones are parked until enough are finished; those who were parked first go first.

Frames, which hold a step of each of many sessions, take turns with the lanes. Where the device has
room for fewer sessions than there are, those that were used least recently make room first.

An engine of several instances does as many jobs at a time, which end in any order. They have
nothing to do with each other: a session whose step is in one is in no other, each writes rows of
its own, and the rows that it reads stay as they are until it ends.

The scheduler touches nothing outside itself: jobs come out of `next_job`, answers out of
`take_answers`, closed sessions go to `on_closed`, time comes in as an argument.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from server.core import making_room
from server.core.batch import Batch, Entry, Layout, MoveOut, ReadRows, WriteRows
from server.core.frame import Frame, FrameRun
from server.core.frames import Frames
from server.core.lanes import Lanes
from server.core.ledger import Ledger, Limits
from server.core.phases import Event
from server.core.queue_ledger import NEVER, QueueLedger
from server.core.ranked_lanes import RankedLanes
from server.core.records import Records
from server.core.remembered import Remembered, Shelf
from server.core.requests import (
    Done,
    Read,
    Request,
    Result,
    States,
    Step,
    Stepped,
    Write,
)
from server.core.table import WAITING, Table
from server.core.turns import EXCHANGE, Turns
from server.errors import InternalError, RequestError, SessionClosed, StepFailed, TimeoutExpired

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    from server.core.requests import Arrays
    from server.core.session import Session

Job: TypeAlias = Batch | FrameRun | ReadRows | WriteRows | MoveOut


class Scheduler:
    def __init__(
        self, layout: Layout, limits: Limits, on_closed: Callable[[Session], None] | None = None
    ) -> None:
        self.layout = layout
        self.limits = limits
        self._queue = QueueLedger(limits, limits.queueing) if limits.queueing else None
        self.ledger: Ledger = self._queue or Ledger(limits)
        self.table = Table(limits.max_rows)
        shelf = Shelf(limits.max_remembered_bytes)
        records = Records(self.table, shelf)
        self._remembered = Remembered(shelf, records)
        self._frames = Frames(self.table, self.ledger, records, self._remembered, layout)
        self._frames_next = False  # whose turn it is, if both wait
        self._under_way = 0  # jobs
        self._leaving = False  # whether one of them is a MoveOut
        self._lanes = RankedLanes() if self._queue else Lanes()
        self._gathers = False  # an idle engine waits for more to come
        self._turns = Turns(self.table, self.ledger, self._remembered, self._lanes, on_closed)

    @property
    def pending(self) -> int:
        """Requests that have no answer yet."""
        return self.ledger.pending

    @property
    def has_answers(self) -> bool:
        """Whether `take_answers` has something."""
        return self.ledger.has_answers

    def pending_of(self, session: Session) -> int:
        """Requests of the session that have no answer yet, steps in frames among them."""
        return len(session.pending or ()) + int(self.table.frames[session.slot])

    def remembered_from(self, session: Session) -> int:
        """The first step of the session whose answer is remembered; 0 if there is none."""
        return self._remembered.oldest(session)

    # ---- what clients want ----------------------------------------------------------------------

    def admit(self, session: Session) -> None:
        """Make room for a new session. Raises LimitReached."""
        self.ledger.admit(session)

    def submit(self, session: Session, request: Request, now_s: float) -> None:
        """Queue a request. Raises SessionClosed or LimitReached, and then nothing has changed."""
        self._turns.submit(session, request, now_s)

    def cancel(self, session: Session, request: Request) -> None:
        """Nobody waits for `request` any more: see `Turns.cancel`."""
        self._turns.cancel(session, request)

    def close(self, session: Session) -> None:
        """End the session now. What waits is answered with SessionClosed; what runs is finished."""
        self._turns.close(session)

    def hold(self, session: Session, request: Read, now_s: float) -> None:
        """Queue a request of an idle session that is not for the engine, and whose turn it is until
        `release`. Raises LimitReached, and then nothing has changed.
        """
        self._turns.submit(session, request, now_s)
        self._dispatch(session)

    def release(self, session: Session, error: RequestError | None, now_s: float) -> None:
        """The request that holds the session is done, or has failed."""
        result = error or States({}, session.step, session.fresh)
        self._turns.done(session, result, now_s)

    def submit_frame(self, frame: Frame, now_s: float) -> None:
        """Queue a step of each of many sessions. Raises InvalidRequest or LimitReached, and then
        nothing has changed.
        """
        for position in self._frames.submit(frame, now_s).tolist():
            session = self.table.sessions[frame.slots[position]]
            assert session is not None
            step = frame.single(position)
            step.answer = partial(self._frames.outcomes.settle, frame, position)
            frame.singles[position] = session, step
            try:
                self.submit(session, step, now_s)
            except RequestError as error:
                self._frames.outcomes.settle(frame, position, error)

    def cancel_frame(self, frame: Frame) -> None:
        """Nobody waits for the frame any more; what of it runs, counts, and the rest will not."""
        frame.cancelled = True
        self._unframed(self._frames.cancel(frame))
        for position, (session, step) in list(frame.singles.items()):
            self.cancel(session, step)
            self._frames.outcomes.settle(frame, position, SessionClosed("cancelled"))

    def take_answers(self) -> list[tuple[Request, Result]]:
        """The answers since the last call, those included that nobody waits for any more."""
        return self.ledger.take_answers()

    # ---- what the engine does -------------------------------------------------------------------

    def next_job(self) -> Job | None:
        """What to run now, to be given back to `complete` or `fail`. None if there is nothing, or
        nothing before one of the jobs under way is given back. At most `limits.instances` may be.
        """
        if self._gathers:
            return None
        if self.ledger.short_of_rows and self._somebody_waits:
            job = self._making_room()
        else:
            job = self._in_turn() if self._frames else self._from_lanes()
        if job is not None:
            self._under_way += 1
        return job

    def _making_room(self) -> Job | None:
        job: Job | None = None
        if not self._leaving:
            job = making_room.job(self.table, self.ledger, frames_run=self._frames.running)
            self._leaving = job is not None
        if job is None and not self._under_way:  # else some may leave then, or leave rows free
            job = self._exchange() or self._in_turn()  # who waits for that cannot leave before
        return job

    def _in_turn(self) -> Job | None:
        """From frames and lanes alternately, if there is something in both."""
        job: Job | None = None
        if self._frames_next or self._lanes.longest_waiting() is None:
            job = self._frame_run()
        # Whoever waits in a lane may have to wait outside.
        return job or self._from_lanes() or self._frame_run() or self._from_lanes()

    def _frame_run(self) -> FrameRun | None:
        if not self._frames:
            return None
        run, released = self._frames.next_run()
        self._unframed(released)
        self._frames_next = run is None
        return run

    def _from_lanes(self) -> Job | None:
        self._frames_next = True
        if self._lanes.parked:
            for session in self._lanes.unpark(self.ledger.working_room):
                self.ledger.begin(session)
        while (lane := self._lanes.longest_waiting()) is not None:
            job = self._exchange() if lane == EXCHANGE else self._batch(lane)
            if job is not None:
                return job
        return None

    @property
    def minds_the_clock(self) -> bool:
        """Whether `look` is to be called before `next_job`, and when it says."""
        return self._queue is not None

    def look(self, now_s: float) -> float:
        """Refuse, or put behind others, who has waited for longer than the model's queue allows.
        When to look again, should nothing else give cause to: infinity for never.
        """
        assert self._queue is not None
        while (place := self._queue.overdue(now_s)) is not None:
            assert place.waits is not None
            session, step = place.waits
            if self._queue.delays(place):
                place.late = True
                self._turns.put_behind(session, step)
            else:
                self._turns.refuse(session, step, TimeoutExpired("Request timeout expired"))
        gathers_until_s = self._queue.gathers_until_s()
        self._gathers = gathers_until_s > now_s
        return min(self._queue.next_deadline_s(), gathers_until_s if self._gathers else NEVER)

    def complete(self, job: Job, arrays: Arrays, now_s: float) -> None:
        """The engine did `job`; `arrays` are a batch's outputs, or the states that were read."""
        self._under_way -= 1
        match job:
            case Batch():
                for entry, outputs in zip(job.entries, job.split(arrays), strict=True):
                    self._advance(job, entry, outputs, now_s)
            case FrameRun():
                self._unframed(self._frames.complete(job, arrays, now_s))
            case ReadRows(session, Step(stepped=Stepped(outputs, step))):
                self._turns.done(session, Stepped(outputs, step, arrays), now_s)
            case ReadRows(session):
                self._turns.done(session, States(arrays, session.step, session.fresh), now_s)
            case MoveOut():
                self._leaving = False
                making_room.moved(self.ledger, job, arrays, frames_run=self._frames.running)
            case _:
                assert isinstance(job, WriteRows)
                self.ledger.commit(job.session, job.rows)
                self._turns.written(job.session, job.request)
                self._turns.done(job.session, Done(job.session.step), now_s)

    def fail(self, job: Job, error: RequestError, now_s: float) -> None:
        """The engine could not do `job`: every session is as it was. A batch of several sessions is
        tried again one by one, so that a bad request fails alone.
        """
        self._under_way -= 1
        if isinstance(job, FrameRun):
            self._unframed(self._frames.fail(job, error))
        elif isinstance(job, Batch):
            for entry in job.entries:
                self.ledger.rows.give_back(entry.write)
                self._give_back(entry)
                entry.step.alone = True
                if len(job.entries) == 1:
                    self._turns.done(entry.session, error, now_s)
                else:
                    self._turns.again(entry.session, now_s)
        elif isinstance(job, MoveOut):
            self._leaving = False
            making_room.stay(self.ledger, job)
            self._fail_first(error, now_s)
        else:
            if isinstance(job, WriteRows):
                self.ledger.rows.give_back(job.rows)
            self._turns.done(job.session, self._what_failed(job.session, error), now_s)

    @property
    def _somebody_waits(self) -> bool:
        lanes = self._lanes
        return bool(self._frames) or lanes.parked or lanes.longest_waiting() is not None

    def _fail_first(self, error: RequestError, now_s: float) -> None:
        """Who waits longest cannot have a row: it does not wait any longer."""
        lane = self._lanes.longest_waiting()
        session = None if lane is None else self._lanes.take(lane)
        if session is not None:
            self._dispatch(session)
            self._turns.done(session, self._what_failed(session, error), now_s)
        elif self._frames:
            self._unframed(self._frames.refuse(error))

    def _what_failed(self, session: Session, error: RequestError) -> RequestError:
        """The error, or that only the states of a step could not be read, which is committed."""
        request = session.first
        if not isinstance(request, Step) or request.peek or request.stepped is None:
            return error
        if request.index:
            self._remembered.keep(session, request, request.stepped)
        return InternalError(
            f"step {request.stepped.step} was made, but its states could not be read: {error}"
        )

    def _unframed(self, slots: NDArray[Any]) -> None:
        """These sessions are in no frame any more."""
        for session in self._frames.of_interest(slots):
            self.table.aside_[session.slot] &= ~WAITING
            if session.closed:
                self._turns.dismiss(session)
            else:
                self._turns.wait(session)

    # ---- choosing -------------------------------------------------------------------------------

    def _exchange(self) -> Job | None:
        session = self._lanes.take(EXCHANGE)
        if session is None:
            return None
        self._dispatch(session)
        request = session.first
        if isinstance(request, Write):
            assert request.states is not None
            return WriteRows(session, request, request.states, self._free_rows(session))
        assert isinstance(request, Read | Step)
        if isinstance(request, Step) and request.peek:
            return ReadRows(session, request, request.rows)
        return ReadRows(session, request, session.rows)

    def _dispatch(self, session: Session) -> None:
        session.apply(Event.DISPATCH)
        session.ticket = 0  # a number that Python keeps for everybody

    def _batch(self, lane: Hashable) -> Job | None:
        entries = []
        room = self.limits.max_batch_size
        while room and (session := self._lanes.take(lane)) is not None:
            if session.batch_size > room:
                self._lanes.rejoin(lane, session)
                break
            entry = self._entry(session)
            if entry is None:
                self._lanes.park(lane, session)
            else:
                entries.append(entry)
                room -= session.batch_size
        return Batch(tuple(entries), self._timesteps(entries), self.layout) if entries else None

    def _entry(self, session: Session) -> Entry | None:
        """The session's part in the batch, None if it may not begin now."""
        step = session.first
        assert isinstance(step, Step)
        if not step.working_rows:
            if self._lanes.parked or session.batch_size > self.ledger.working_room:
                return None
            self.ledger.begin(session)
        self._dispatch(session)
        if session.kept is not None and not step.rows:
            read, back = self._free_rows(session), session.kept
            return Entry(session, step, read, self._free_rows(session), back)
        return Entry(session, step, step.rows or session.rows, self._free_rows(session))

    def _free_rows(self, session: Session) -> tuple[int, ...]:
        return self.ledger.rows.take(session.batch_size)

    def _timesteps(self, entries: list[Entry]) -> int | None:
        if self.limits.max_chunk is None:
            return None
        needed = (entry.step.timesteps - entry.step.position for entry in entries)
        return min(self.limits.max_chunk, *needed)

    # ---- going on -------------------------------------------------------------------------------

    def _advance(self, batch: Batch, entry: Entry, outputs: Arrays, now_s: float) -> None:
        """One piece of a step has run: commit the step if it was the last one."""
        session, step = entry.session, entry.step
        self._give_back(entry)
        step.pieces.append(outputs)
        step.position += step.timesteps if batch.timesteps is None else batch.timesteps
        if step.position < step.timesteps:
            self.ledger.keep(step, entry.write)
            return self._turns.again(session, now_s)
        try:
            outputs = batch.join(step.pieces)
        except StepFailed as error:
            self.ledger.rows.give_back(entry.write)
            return self._turns.done(session, error, now_s)
        if step.peek:
            self.ledger.keep(step, entry.write)
        else:
            self.ledger.commit(session, entry.write)
            self.ledger.abandon(step)
            session.step += 1
            session.fresh = False
        stepped = Stepped(outputs, session.step)
        wanted = not step.cancelled or step.index > 0  # it may be asked again
        if step.return_state and wanted and not session.closed:
            step.stepped = stepped
            self._turns.again(session, now_s)
        else:
            self._turns.done(session, stepped, now_s)

    def _give_back(self, entry: Entry) -> None:
        """The rows by which the session's state came back for this batch."""
        if entry.back is not None:
            self.ledger.rows.give_back(entry.read)

    def __repr__(self) -> str:
        return f"<Scheduler {self._lanes!r} {self.ledger!r}>"

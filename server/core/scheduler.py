"""Decides what the engine of one model does next.

Sessions with work wait in lanes; sessions in one lane can share a batch. Whenever the engine is
free, `next_job` takes the lane whose first session has waited longest and fills a batch from it:
one request of each session, at most `max_batch_size` rows. In a model that may be cut a batch runs
as many timesteps as its shortest member still needs, never more than `max_chunk`, and whoever is
not done goes to the end of the lane: short requests join at every step and long ones hold nobody
back (cellular batching: Gao et al., EuroSys 2018). Where unfinished requests hold as many rows as
they may, new ones are parked until enough are finished; those who were parked first go first.

The scheduler touches nothing outside itself: jobs come out of `next_job`, answers out of
`take_answers`, closed sessions go to `on_closed`, time comes in as an argument.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from server.core.batch import Batch, Entry, Job, Layout, ReadRows, WriteRows
from server.core.lanes import Lanes
from server.core.ledger import Ledger, Limits
from server.core.requests import Close, Done, Read, Request, Result, States, Step, Stepped, Write
from server.core.rows import INITIAL_ROW
from server.core.session import Event, Phase, Session
from server.errors import RequestError, SessionClosed, StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from server.core.requests import Arrays

EXCHANGE = "exchange"  # the lane of those who want states read or written


class Scheduler:
    def __init__(
        self, layout: Layout, limits: Limits, on_closed: Callable[[Session], None] | None = None
    ) -> None:
        self.layout = layout
        self.limits = limits
        self.ledger = Ledger(limits)
        self._on_closed = on_closed
        self._lanes = Lanes()

    @property
    def pending(self) -> int:
        """Requests that have no answer yet."""
        return self.ledger.pending

    # ---- what clients want ----------------------------------------------------------------------

    def admit(self, session: Session) -> None:
        """Make room for a new session. Raises LimitReached."""
        self.ledger.admit(session)

    def submit(self, session: Session, request: Request, now_s: float) -> None:
        """Queue a request. Raises SessionClosed or LimitReached, and then nothing has changed.

        A `Close` may follow a request that ends the session, in case that one fails.
        """
        if session.closed if isinstance(request, Close) else session.ending:
            raise SessionClosed(f"session {session.id!r} is closed")
        self.ledger.owe(session)
        request.arrived_s = session.last_used_s = now_s
        if session.pending is None:
            session.pending = deque()
        session.pending.append(request)
        if session.phase is Phase.IDLE:
            self._wait(session)

    def cancel(self, session: Session, request: Request) -> None:
        """Nobody waits for `request` any more; it gets no answer. If it is running and this run
        finishes it, it counts; otherwise it will not run, and the session is as it was.
        """
        request.cancelled = True
        if not session.pending or request not in session.pending:
            return
        is_first = session.pending[0] is request
        if is_first and session.phase is Phase.QUEUED:
            session.apply(Event.WITHDRAW)
            stepped = request.stepped if isinstance(request, Step) else None
            self._end_first(session, stepped or SessionClosed("cancelled"))
        elif not is_first:
            session.pending.remove(request)
            self.ledger.answer(request, SessionClosed("cancelled"))

    def close(self, session: Session) -> None:
        """End the session now. What waits is answered with SessionClosed; what runs is finished."""
        was_running = session.phase is Phase.RUNNING
        session.apply(Event.CLOSE)
        waiting = session.pending or deque()
        session.pending = deque([waiting.popleft()]) if was_running else None
        for request in waiting:
            self.ledger.answer(request, SessionClosed(f"session {session.id!r} was closed"))
        if not was_running:
            self._dismiss(session)

    def take_answers(self) -> list[tuple[Request, Result]]:
        """The answers since the last call, for whoever waits."""
        return self.ledger.take_answers()

    # ---- what the engine does -------------------------------------------------------------------

    def next_job(self) -> Job | None:
        """What to run now, or None. Give it back to `complete` or `fail` before asking again."""
        if self._lanes.parked:
            for session in self._lanes.unpark(self.ledger.working_room):
                self.ledger.begin(session)
        while (lane := self._lanes.longest_waiting()) is not None:
            job = self._exchange() if lane == EXCHANGE else self._batch(lane)
            if job is not None:
                return job
        return None

    def complete(self, job: Job, arrays: Arrays, now_s: float) -> None:
        """The engine did `job`; `arrays` are a batch's outputs, or the states that were read."""
        match job:
            case Batch():
                for entry, outputs in zip(job.entries, job.split(arrays), strict=True):
                    self._advance(job, entry, outputs, now_s)
            case ReadRows(session, Step(stepped=Stepped(outputs, step))):
                self._done(session, Stepped(outputs, step, arrays), now_s)
            case ReadRows(session):
                self._done(session, States(arrays, session.step), now_s)
            case _:
                self.ledger.commit(job.session, job.rows)
                job.session.fresh = job.request.initial
                self._done(job.session, Done(job.session.step), now_s)

    def fail(self, job: Job, error: RequestError, now_s: float) -> None:
        """The engine could not do `job`: every session is as it was. A batch of several sessions is
        tried again one by one, so that a bad request fails alone.
        """
        if isinstance(job, Batch):
            for entry in job.entries:
                self.ledger.rows.give_back(entry.write)
                entry.step.alone = True
                if len(job.entries) == 1:
                    self._done(entry.session, error, now_s)
                else:
                    self._again(entry.session, now_s)
        else:
            if isinstance(job, WriteRows):
                self.ledger.rows.give_back(job.rows)
            self._done(job.session, error, now_s)

    # ---- waiting --------------------------------------------------------------------------------

    def _wait(self, session: Session) -> None:
        """Queue an idle session for its first request; what needs no engine is done on the way."""
        while session.pending:
            match session.pending[0]:
                case Step(stepped=None) as step:
                    return self._join(step if step.alone else step.shapes, session)
                case Step() | Read() | Write(states={}):
                    return self._join(EXCHANGE, session)
                case Write():
                    self.ledger.commit(session, (INITIAL_ROW,) * session.batch_size)
                    session.fresh = True
                    self.ledger.answer(session.pending.popleft(), Done(session.step))
                case other:
                    assert isinstance(other, Close)
                    self.ledger.answer(session.pending.popleft(), Done(session.step))
                    return self.close(session)
        session.pending = None

    def _join(self, lane: Hashable, session: Session) -> None:
        session.apply(Event.SUBMIT)
        self._lanes.join(lane, session)

    # ---- choosing -------------------------------------------------------------------------------

    def _exchange(self) -> Job:
        session = self._lanes.take(EXCHANGE)
        assert session is not None
        session.apply(Event.DISPATCH)
        request = session.first
        if isinstance(request, Write):
            assert request.states is not None
            return WriteRows(session, request, request.states, self._free_rows(session))
        assert isinstance(request, Read | Step)
        return ReadRows(session, request, session.rows)

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
        session.apply(Event.DISPATCH)
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
        step.pieces.append(outputs)
        step.position += step.timesteps if batch.timesteps is None else batch.timesteps
        if step.position < step.timesteps:
            self.ledger.keep(step, entry.write)
            return self._again(session, now_s)
        try:
            outputs = batch.join(step.pieces)
        except StepFailed as error:
            self.ledger.rows.give_back(entry.write)
            return self._done(session, error, now_s)
        self.ledger.commit(session, entry.write)
        session.step += 1
        session.fresh = False
        stepped = Stepped(outputs, session.step)
        if step.return_state and not session.closed and not step.cancelled:
            step.stepped = stepped
            self.ledger.abandon(step)
            self._again(session, now_s)
        else:
            self._done(session, stepped, now_s)

    def _again(self, session: Session, now_s: float) -> None:
        """The session's first request wants the engine once more, unless nobody wants it."""
        if session.closed or session.first.cancelled:
            return self._done(session, SessionClosed(f"session {session.id!r} was closed"), now_s)
        session.apply(Event.COMPLETE)
        self._wait(session)

    def _done(self, session: Session, result: Result, now_s: float) -> None:
        """The engine has done with the session's first request."""
        session.apply(Event.COMPLETE)
        session.last_used_s = now_s
        self._end_first(session, result)

    def _end_first(self, session: Session, result: Result) -> None:
        assert session.pending
        request = session.pending.popleft()
        self.ledger.answer(request, result)
        failed = isinstance(result, RequestError)
        if session.phase is Phase.CLOSED:
            self._dismiss(session)
        elif request.start if failed else request.end:
            self.close(session)
        else:
            self._wait(session)

    def _dismiss(self, session: Session) -> None:
        self.ledger.dismiss(session)
        if self._on_closed is not None:
            self._on_closed(session)

    def __repr__(self) -> str:
        return f"<Scheduler {self._lanes!r} {self.ledger!r}>"

"""The core driven by hand: a client, a driver and a home for sessions, with a fake engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from server.core.batch import Batch, MoveOut, ReadRows
from server.core.frame import Frame, FrameRun
from server.core.ledger import Limits
from server.core.requests import Close, Read, Share, Step, Write
from server.core.scheduler import Scheduler
from server.core.session import Session
from server.core.sessions import Sessions
from server.errors import RequestError
from tests.server.core.audit import check, check_job, read_by
from tests.server.core.fake_engine import LAYOUT, FakeEngine, PoisoningPool

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from server.core.requests import Arrays, Request, Result
    from server.core.scheduler import Job


class ShownFrame(Frame):
    """Remembers which of its positions were enlisted."""

    enlisted_positions: tuple[int, ...] = ()


class Core:
    """Scheduler, sessions and engine; the home of its sessions."""

    def __init__(self, *, max_sessions: int = 1000, **limits: Any) -> None:
        self.limits = Limits(**{"max_batch_size": 4, "max_rows": 32, "max_chunk": 4, **limits})
        self.engine = FakeEngine(self.limits.arena_rows)
        self.closed: list[Session] = []
        self.scheduler = Scheduler(LAYOUT, self.limits, self._on_closed)
        self.ledger = self.scheduler.ledger
        self.table = self.scheduler.table
        self.pool = self.ledger.rows = PoisoningPool(self.limits.arena_rows, self.engine)
        self.sessions = Sessions(max_sessions)
        self.now_s = 0.0
        self.everyone: list[Session] = []
        self.frames: list[ShownFrame] = []
        self.shares: list[Share] = []
        self.answers: dict[Request, list[Result]] = {}
        self.jobs: list[Job] = []  # under way, those that began first first
        self._seen: dict[int, Arrays] = {}  # by the job's id(): what stood in the rows it reads
        self.before_done: Callable[[Job, RequestError | None], None] = lambda job, error: None

    # ---- as home --------------------------------------------------------------------------------

    def admit(self, session: Session) -> None:
        self.scheduler.admit(session)

    def submit(self, session: Session, request: Request) -> None:
        self.scheduler.submit(session, request, self.now_s)

    def cancel(self, session: Session, request: Request) -> None:
        self.scheduler.cancel(session, request)

    def close(self, session: Session) -> None:
        self.scheduler.close(session)

    def _on_closed(self, session: Session) -> None:
        self.closed.append(session)
        self.sessions.forget(session)

    # ---- as client ------------------------------------------------------------------------------

    def open(self, id: Hashable = None, **kwargs: Any) -> Session:
        session = Session(object() if id is None else id, self, now_s=self.now_s, **kwargs)
        self.sessions.add(session)
        self.everyone.append(session)
        return session

    def step(self, session: Session, values: Sequence[int], **kwargs: Any) -> Step:
        """One step; every further row of the session gets the values plus 100 times its index."""
        x = np.array(values, np.int64)[None] + 100 * np.arange(session.batch_size)[:, None]
        how = {"shapes": ("x",), "nbytes": x.nbytes, **kwargs}
        step = Step(inputs={"x": x}, timesteps=len(values), **how)
        self.submit(session, step)
        return step

    def frame(
        self,
        sessions: Sequence[Session],
        values: Sequence[Sequence[int]],
        indices: Sequence[int] | None = None,
        errors: Mapping[int, RequestError] | None = None,
        **kwargs: Any,
    ) -> ShownFrame:
        """One step of each of the sessions, whose values are equally many."""
        x = np.array(values, np.int64)
        frame = ShownFrame(
            inputs={"x": x},
            slots=np.array([session.slot for session in sessions], np.int64),
            indices=np.array(indices or [0] * len(sessions), np.int64),
            errors=dict(errors or {}),
            **{"timesteps": x.shape[1], "shapes": ("x",), "nbytes": x.nbytes, **kwargs},
        )
        before = [session.pending[-1] if session.pending else None for session in sessions]
        self.scheduler.submit_frame(frame, self.now_s)
        after = [session.pending[-1] if session.pending else None for session in sessions]
        frame.enlisted_positions = tuple(
            position
            for position in range(frame.count)
            if after[position] is before[position] and position not in frame.errors
        )
        self.frames.append(frame)
        return frame

    def cancel_frame(self, frame: Frame) -> None:
        self.scheduler.cancel_frame(frame)

    def fork(self, session: Session, *, count_on: bool = True, **kwargs: Any) -> Session:
        """A new session with the state of this one; it is held until it has it."""
        target = self.open(batch_size=session.batch_size, **kwargs)
        self.scheduler.hold(target, Read(start=True), self.now_s)

        def shared(result: Result) -> None:
            error = result if isinstance(result, RequestError) else None
            self.scheduler.release(target, error, self.now_s)

        self.shares.append(Share(target=target, count_on=count_on, answer=shared))
        try:
            self.ask(target, Write(start=True, keep=True))
            self.ask(session, self.shares[-1])
        except RequestError as error:
            shared(error)
            raise
        return target

    def ask(self, session: Session, request: Request) -> Request:
        self.submit(session, request)
        return request

    def read(self, session: Session, **kwargs: Any) -> Request:
        return self.ask(session, Read(**kwargs))

    def write(self, session: Session, value: int | None, **kwargs: Any) -> Request:
        """Set all states, to `value` plus the row's index; None resets."""
        rows = np.arange(session.batch_size)
        states = None if value is None else {"value": value + rows, "count": 0 * rows}
        return self.ask(session, Write(states=states, **kwargs))

    def end(self, session: Session, **kwargs: Any) -> Request:
        return self.ask(session, Close(**kwargs))

    # ---- as driver ------------------------------------------------------------------------------

    @property
    def job(self) -> Job | None:
        """The one that has been under way for longest."""
        return self.jobs[0] if self.jobs else None

    @property
    def is_busy(self) -> bool:
        """Whether every instance is at a job."""
        return len(self.jobs) == self.limits.instances

    def begin(self) -> Job | None:
        """Take the next job, which then is under way."""
        assert not self.is_busy
        if self.scheduler.minds_the_clock:
            self.scheduler.look(self.now_s)
        while (job := self.scheduler.next_job()) is None and self.collect():
            pass  # an answer may have brought forth new work
        if job is not None:
            check_job(self, job)
            self.jobs.append(job)
            self._seen[id(job)] = self.engine.read(read_by(job))
            check(self)
        return job

    def begin_all(self) -> list[Job]:
        """Take jobs while there are some and instances are free. All that are under way."""
        while not self.is_busy and self.begin() is not None:
            pass
        return self.jobs

    def finish(self, error: RequestError | None = None, job: Job | None = None) -> None:
        """The engine is done with `job`, or with the one that has been under way for longest."""
        job = job or self.jobs[0]
        arrays: Arrays = {}
        try:
            if error is not None:
                raise error
            arrays = self._execute(job)
        except RequestError as raised:
            self.before_done(job, raised)
            self.drop(job)
            self.scheduler.fail(job, raised, self.now_s)
        else:
            self.before_done(job, None)
            self.drop(job)
            self.scheduler.complete(job, arrays, self.now_s)

    def drop(self, job: Job) -> None:
        """It is not under way any more, and what it reads is what it was when it began."""
        before, after = self._seen.pop(id(job)), self.engine.read(read_by(job))
        for name, values in before.items():
            assert values.tolist() == after[name].tolist(), "rows changed while they were read"
        self.jobs = [each for each in self.jobs if each is not job]

    def _execute(self, job: Job) -> Arrays:
        """As `server.driver.execute` does."""
        if isinstance(job, Batch | FrameRun):
            inputs, read, write = job.inputs(), job.read_rows(), job.write_rows()
            if (back := job.back()) is not None:
                self.engine.write(back.rows, back.states)
            outputs = self.engine.run(inputs, read, write)
            job.check(outputs)
            return outputs
        if isinstance(job, ReadRows | MoveOut):
            return self.engine.read(np.array(job.rows, np.int64))
        self.engine.write(np.array(job.rows, np.int64), dict(job.states))
        return {}

    def run(self, bad: Callable[[Job], RequestError | None] = lambda job: None) -> list[Job]:
        """Run until nothing is left to do; `bad` tells which jobs fail. All jobs, in order."""
        jobs: list[Job] = []
        while (job := self.job or self.begin()) is not None:
            jobs.append(job)
            assert len(jobs) < 1000, "it never ends"
            self.finish(bad(job))
            self.check()
        return jobs

    def result(self, request: Request) -> Any:
        """The one answer to `request`."""
        self.collect()
        (result,) = self.answers[request]
        return result

    def answered(self, request: Request) -> bool:
        self.collect()
        return request in self.answers

    def collect(self) -> int:
        """Deliver the answers, which may bring forth others; how many those were."""
        count = 0
        while answers := self.scheduler.take_answers():
            told = [answer for answer in answers if not answer[0].cancelled]
            count += len(told)
            for request, result in told:
                self.answers.setdefault(request, []).append(result)
                request.answer(result)
        return count

    # ---- as auditor -----------------------------------------------------------------------------

    def values(self, session: Session) -> list[int]:
        """The committed state."""
        return self.states(session)["value"].tolist()

    def states(self, session: Session) -> Arrays:
        if session.kept is not None:
            return session.kept
        return self.engine.read(np.array(session.rows))

    def check(self) -> None:
        check(self)

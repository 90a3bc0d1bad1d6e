"""The core with an engine that cannot make a mistake unnoticed: integers in an array of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from server.core.batch import Batch, Layout, ReadRows
from server.core.ledger import Limits
from server.core.phases import Phase
from server.core.requests import Close, Read, Step, Write
from server.core.rows import RowPool
from server.core.scheduler import Scheduler
from server.core.session import Session
from server.core.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from numpy.typing import NDArray

    from server.core.requests import Request, Result
    from server.core.scheduler import Job
    from server.errors import RequestError

INITIAL = 7
POISON = -999_999_999
MODULUS = 1_000_003
LAYOUT = Layout(inputs={"x": 1}, outputs={"y": 1, "last": None})


class FakeEngine:
    """`s' = 3 s + x` (mod a prime), so order counts, and a second state that counts timesteps.

    Outputs: `y` (batch, time), the state after each timestep, and `last` (batch,), after the last.
    """

    def __init__(self, rows: int) -> None:
        self.value = np.full(rows, POISON, np.int64)
        self.count = np.full(rows, POISON, np.int64)
        self.value[0], self.count[0] = INITIAL, 0
        self.runs: list[tuple[int, int]] = []  # (rows, timesteps)

    def run(
        self, inputs: dict[str, NDArray[Any]], read: NDArray[Any], write: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        x = inputs["x"]
        assert x.flags.c_contiguous
        assert len(x) == len(read) == len(write)
        value, count = self._checked(read)
        y = np.empty(x.shape, np.int64)
        for t in range(x.shape[1]):
            value = (3 * value + x[:, t]) % MODULUS
            y[:, t] = value
        self.value[write], self.count[write] = value, count + x.shape[1]
        self.runs.append((len(x), x.shape[1]))
        return {"y": y, "last": value}

    def read(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        value, count = self._checked(rows)
        return {"value": value, "count": count}

    def write(self, rows: NDArray[Any], states: dict[str, NDArray[Any]]) -> None:
        self.value[rows], self.count[rows] = states["value"], states["count"]

    def _checked(self, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        value, count = self.value[rows], self.count[rows]
        assert POISON not in value, f"a free row is read: {rows}"
        return value, count

    def poison(self, row: int) -> None:
        self.value[row] = self.count[row] = POISON


class PoisoningPool(RowPool):
    """Knows which rows are out, and spoils those that come back."""

    def __init__(self, size: int, engine: FakeEngine) -> None:
        super().__init__(size)
        self.out: set[int] = set()
        self._engine = engine

    def take(self, count: int) -> tuple[int, ...]:
        rows = super().take(count)
        assert self.out.isdisjoint(rows), f"{rows} handed out twice"
        assert 0 not in rows
        self.out.update(rows)
        return rows

    def give_back(self, rows: Iterable[int]) -> None:
        rows = tuple(rows)
        for row in rows:
            if row:
                self.out.remove(row)
                self._engine.poison(row)
        super().give_back(rows)


class Core:
    """Scheduler, sessions and engine, driven by hand; the home of its sessions."""

    def __init__(self, *, max_sessions: int = 1000, **limits: Any) -> None:
        self.limits = Limits(**{"max_batch_size": 4, "max_rows": 32, "max_chunk": 4, **limits})
        self.engine = FakeEngine(self.limits.arena_rows)
        self.closed: list[Session] = []
        self.last_steps: dict[Session, int] = {}
        self.scheduler = Scheduler(LAYOUT, self.limits, self._on_closed)
        self.ledger = self.scheduler.ledger
        self.table = self.scheduler.table
        self.pool = self.ledger.rows = PoisoningPool(self.limits.arena_rows, self.engine)
        self.sessions = Sessions(max_sessions)
        self.now_s = 0.0
        self.everyone: list[Session] = []
        self.answers: dict[Request, list[Result]] = {}
        self.job: Job | None = None

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
        self.last_steps[session] = session.step
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

    def begin(self) -> Job | None:
        """Take the next job, which then is running."""
        assert self.job is None
        self.job = self.scheduler.next_job()
        if self.job is not None:
            self._check_job(self.job)
        return self.job

    def finish(self, error: RequestError | None = None) -> None:
        """The engine is done with the running job."""
        job, self.job = self.job, None
        assert job is not None
        if error is not None:
            self.scheduler.fail(job, error, self.now_s)
        elif isinstance(job, Batch):
            outputs = self.engine.run(job.inputs(), job.read_rows(), job.write_rows())
            job.check(outputs)
            self.scheduler.complete(job, outputs, self.now_s)
        elif isinstance(job, ReadRows):
            self.scheduler.complete(job, self.engine.read(np.array(job.rows)), self.now_s)
        else:
            self.engine.write(np.array(job.rows), job.states)
            self.scheduler.complete(job, {}, self.now_s)

    def run(self, bad: Callable[[Job], RequestError | None] = lambda job: None) -> list[Job]:
        """Run until nothing is left to do; `bad` tells which jobs fail. All jobs, in order."""
        jobs = []
        while (job := self.job or self.begin()) is not None:
            jobs.append(job)
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

    def collect(self) -> None:
        for request, result in self.scheduler.take_answers():
            self.answers.setdefault(request, []).append(result)

    # ---- as auditor -----------------------------------------------------------------------------

    def values(self, session: Session) -> list[int]:
        """The committed state."""
        return self.engine.read(np.array(session.rows))["value"].tolist()

    def check(self) -> None:
        """Every row belongs to one owner or is free, and all counts are right."""
        waiting = [
            request for session in self.everyone if session.pending for request in session.pending
        ]
        steps = [request for request in waiting if isinstance(request, Step)]
        owned = [row for session in self.everyone for row in session.rows if row]
        working = [row for step in steps for row in step.rows]
        writing = list(self._written(self.job))
        rows = [*owned, *working, *writing]
        assert len(set(rows)) == len(rows), f"rows owned twice: {owned} {working} {writing}"
        assert set(rows) == self.pool.out
        assert self.pool.free + len(rows) == self.pool.size - 1
        assert self.ledger.pending == self.scheduler.pending == len(waiting)
        assert self.ledger.working_rows == sum(step.working_rows for step in steps)
        assert self.ledger.working_rows <= self.limits.max_working_rows
        assert self.ledger.reserved_rows == sum(
            session.batch_size for session in self.everyone if session.phase is not Phase.CLOSED
        )
        assert self.ledger.reserved_rows <= self.limits.max_rows
        self.collect()
        assert all(len(results) == 1 for results in self.answers.values())
        assert not any(request.cancelled for request in self.answers if request in waiting)

    def _check_job(self, job: Job) -> None:
        written = list(self._written(job))
        assert 0 not in written
        assert len(set(written)) == len(written)
        counting = {row for session in self.everyone for row in session.rows}
        counting |= {
            row
            for session in self.everyone
            for request in session.pending or ()
            if isinstance(request, Step)
            for row in request.rows
        }
        assert counting.isdisjoint(written), "a row that counts is written"
        if isinstance(job, Batch):
            assert 0 < job.size <= self.limits.max_batch_size
            assert len({id(entry.session) for entry in job.entries}) == len(job.entries)
            assert len({entry.step.shapes for entry in job.entries}) == 1
        self.check()

    @staticmethod
    def _written(job: Job | None) -> Iterable[int]:
        if isinstance(job, Batch):
            return [row for entry in job.entries for row in entry.write]
        return () if job is None or isinstance(job, ReadRows) else job.rows


def alone(state: int, values: Iterable[int]) -> list[int]:
    """The states after each of `values`, by nothing but the equation."""
    states = []
    for value in values:
        state = (3 * state + value) % MODULUS
        states.append(state)
    return states


@pytest.fixture
def make_core() -> type[Core]:
    return Core


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def lone() -> Callable[[int, Iterable[int]], list[int]]:
    """`lone(state, values)`: the states after each of `values`."""
    return alone


@pytest.fixture
def initial() -> int:
    """The value of the initial state."""
    return INITIAL

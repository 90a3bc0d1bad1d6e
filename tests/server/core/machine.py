"""Random clients against a random engine: what the engine does, and what must hold after it.

`machine_sessions.py` has what sessions are asked for, `machine_frames.py` the frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.core.batch import Batch, MoveOut, ReadRows, WriteRows
from server.core.phases import Phase
from server.core.queueing import Queueing, QueuePolicy
from server.core.requests import Step
from server.errors import LimitReached, SessionClosed, StepFailed
from tests.server.core.asked import Asked
from tests.server.core.driven import Core
from tests.server.core.fake_engine import BAD
from tests.server.core.reference import Client, SentFrame

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.core.frame import FrameRun
    from server.core.requests import Request
    from server.core.scheduler import Job
    from server.core.session import Session
    from server.errors import RequestError

MAX_SESSIONS = 10
MAX_PENDING = 25
MAX_PENDING_PER_SESSION = 5
LITTLE = 300  # bytes
SOMETIMES = st.sampled_from([False] * 4 + [True])
RARELY = st.sampled_from([False] * 15 + [True])
VALUES = st.lists(st.integers(0, 3), min_size=1, max_size=8)
WHICH = st.integers(0, 2)  # of the jobs under way
SPOILED = st.sampled_from([False] * 9 + [True])
REFUSING = Queueing(2, 2, QueuePolicy(timeout_s=10, may_be_lowered=True))
DELAYING = Queueing(3, 1, QueuePolicy(timeout_s=10, delays=True), {3: QueuePolicy(timeout_s=5)})


class Machine(RuleBasedStateMachine):
    @initialize(
        max_batch_size=st.integers(2, 4),
        max_chunk=st.sampled_from([None, 1, 3]),
        max_rows=st.integers(4, 16),
        max_resident_rows=st.sampled_from([None, 1, 1]),
        max_remembered_bytes=st.sampled_from([2**28, 2**28, 3000]),
        max_pending_bytes=st.sampled_from([2**30, 2**30, LITTLE]),
        queueing=st.sampled_from([None, None, REFUSING, DELAYING]),
        batch_sizes=st.lists(st.integers(1, 2), min_size=2, max_size=6),
        instances=st.integers(1, 3),
    )
    def start(self, batch_sizes: list[int], **limits: Any) -> None:
        self.core = Core(
            max_pending_per_session=MAX_PENDING_PER_SESSION,
            max_pending=MAX_PENDING,
            max_sessions=MAX_SESSIONS,
            **limits,
        )
        self.core.before_done = self.before_done
        self.lossy = self.core.limits.max_remembered_bytes == 3000
        self.clients: list[Client] = []
        self.by_request: dict[Any, Asked] = {}
        self.silent: set[Request] = set()
        self.recounted: set[Session] = set()  # whose steps were counted anew
        self.sent: list[SentFrame] = []
        for batch_size in batch_sizes:
            self.open(batch_size, float("inf"))

    # ---- clients --------------------------------------------------------------------------------

    def open(self, batch_size: int, ttl: float) -> None:
        core = self.core
        try:
            session = core.open(batch_size=batch_size, idle_ttl_s=ttl)
        except LimitReached:
            assert len(core.sessions) == MAX_SESSIONS or self.is_full(batch_size)
        else:
            self.client_of(session)

    def client_of(self, session: Session) -> Client:
        client = Client(session, lossy=self.lossy)
        self.clients.append(client)
        return client

    def is_full(self, batch_size: int) -> bool:
        return self.core.ledger.reserved_rows + batch_size > self.core.limits.max_rows

    def draw(self, data: Any) -> Client:
        """Mostly one whose session is open, often one that the engine is at."""
        ended = [client for client in self.clients if client.session.ending]
        clients = [client for client in self.clients if client not in ended] * 4 + ended
        leaving = self.leaving()
        clients += [client for client in self.clients if client.session in leaving] * 8
        client: Client = data.draw(st.sampled_from(clients))
        return client

    def leaving(self) -> set[Session]:
        """Those whose states are read so that they can leave the device."""
        moves = [job for job in self.core.jobs if isinstance(job, MoveOut)]
        return {session for job in moves for session in job.sessions}

    def send(
        self, client: Client, kind: str, submit: Callable[[], Request], **what: Any
    ) -> Asked | None:
        """Ask a session for something; None where that is refused."""
        session = client.session
        before = self.queue_of(session)
        try:
            request = submit()
        except SessionClosed:
            assert session.ending
        except LimitReached:
            assert self.is_crowded(session)
        else:
            asked = Asked(kind, request, **what)
            self.by_request[request] = asked
            client.asked.append(asked)
            if isinstance(request, Step) and request.acknowledged:
                client.acknowledge(request.acknowledged)
            return asked
        assert before == self.queue_of(session)
        return None

    def is_crowded(self, session: Session, count: int = 1) -> bool:
        """Whether so many more requests may be too many."""
        ledger = self.core.ledger
        return (
            len(session.pending or ()) == MAX_PENDING_PER_SESSION
            or ledger.pending + count > ledger.limits.max_pending_in_frames
            or (ledger.limits.max_pending_bytes == LITTLE and ledger.pending_bytes > 0)
        )

    def queue_of(self, session: Session) -> tuple[Any, ...]:
        ledger = self.core.ledger
        waiting = len(session.pending or ())
        return session.phase, waiting, ledger.pending, ledger.pending_bytes

    # ---- the engine -----------------------------------------------------------------------------

    @precondition(lambda self: not self.core.is_busy)
    @rule()
    def begin(self) -> None:
        core = self.core
        core.begin()
        assert core.jobs or core.ledger.pending == 0, "somebody waits for nothing"

    @rule()
    def begin_all(self) -> None:
        self.core.begin_all()

    @precondition(lambda self: self.core.jobs)
    @rule(which=WHICH, broken=RARELY)
    def finish(self, which: int, broken: bool) -> None:
        jobs = self.core.jobs
        self.core.finish(StepFailed("no") if broken else None, jobs[which % len(jobs)])

    @rule(which=WHICH)
    def go_on(self, which: int) -> None:
        """A job ends, and others begin."""
        if self.core.jobs:
            self.finish(which, broken=False)
            self.all_is_well()
        self.core.begin_all()

    @rule(which=WHICH)
    def run(self, which: int = 0) -> None:
        core = self.core
        for _ in range(1000):
            if not core.begin_all():
                break
            self.finish(which, broken=False)
            self.all_is_well()
        else:
            raise AssertionError("it never ends")
        assert core.ledger.pending == 0

    def before_done(self, job: Job, error: RequestError | None) -> None:
        """Note what the engine did, for the reference."""
        if isinstance(job, ReadRows):
            asked = self.by_request[job.request]
            asked.unread = asked.failed = error is not None
        elif isinstance(job, WriteRows):
            asked = self.by_request[job.request]
            asked.ran, asked.failed = error is None, error is not None
        elif isinstance(job, MoveOut):
            if error is not None:
                self.may_fail()
        else:
            steps = self.steps_of(job)
            for asked, finished in steps:
                asked.ran = error is None and finished
                asked.failed = error is not None and len(steps) == 1

    def may_fail(self) -> None:
        """Nobody can leave the device: one of those whose turn it is has to give up."""
        for asked in (client.asked[0] for client in self.clients if client.asked):
            asked.failed, asked.unread = not asked.ran, asked.ran

    def steps_of(self, job: Batch | FrameRun) -> list[tuple[Asked, bool]]:
        """What ran, and whether this run finishes it, for a session that is there to see it."""
        if isinstance(job, Batch):
            return [
                (self.by_request[step], step.position + (job.timesteps or 99) >= step.timesteps)
                for step in (entry.step for entry in job.entries)
            ]
        phases = self.core.table.phase
        return [
            (
                self.by_request[part.frame, position],
                job.is_last and phases[part.frame.slots[position]] == Phase.FRAMED,
            )
            for part in job.parts
            for position in part.positions.tolist()
        ]

    # ---- what must hold -------------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "core"):
            self.core.check()
            for client in self.clients:
                client.follow(self.core)
            for client in self.clients:
                client.check(self.core)
            for frame in self.sent:
                frame.check(self.core)
            assert self.silent.isdisjoint(self.core.answers)

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.run()
            self.all_is_well()
            assert not any(client.asked for client in self.clients)
            assert all(frame.over for frame in self.sent)
            for session in self.core.sessions:
                self.core.close(session)
            self.core.check()
            assert self.core.pool.out == set()


def spoil(values: list[int], spoiled: bool) -> list[int]:
    """With an input that makes the engine fail."""
    return [*values[:-1], BAD] if spoiled else values

"""Random clients against a random engine: every session must equal a lone run of its requests."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import Phase as Effort
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from server.core import ledger
from server.core.batch import Batch
from server.core.phases import Phase
from server.core.requests import Done, States, Step, Stepped, Write
from server.errors import LimitReached, RequestError, SessionClosed, StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from server.core.requests import Request
    from server.core.session import Session

    Core = Any  # of conftest.py

NUMBERS = st.integers(0, 50)
SOMETIMES = st.sampled_from([False] * 4 + [True])
RARELY = st.sampled_from([False] * 15 + [True])


class Client:
    """What a session's owner expects: the states after every request that counted."""

    def __init__(self, session: Session, initial: int) -> None:
        self.session = session
        self.state = [initial] * session.batch_size
        self.count = 0
        self.step = 0
        self.sent: deque[tuple[Request, list[int] | int | None]] = deque()


class Machine(RuleBasedStateMachine):
    make_core: Callable[..., Core]
    lone: Callable[..., list[int]]
    initial: int

    @initialize(
        max_batch_size=st.integers(2, 4),
        max_chunk=st.sampled_from([None, 1, 3]),
        max_rows=st.integers(4, 12),
        batch_sizes=st.lists(st.integers(1, 3), min_size=2, max_size=5),
    )
    def start(self, batch_sizes: list[int], **limits: Any) -> None:
        self.core = type(self).make_core(
            max_pending_per_session=5, max_pending=20, max_sessions=8, **limits
        )
        self.clients: list[Client] = []
        self.checked: set[Request] = set()
        self.bad: set[Request] = set()
        self.silent: set[Request] = set()
        for batch_size in batch_sizes:
            self.open(batch_size, float("inf"))

    # ---- clients --------------------------------------------------------------------------------

    @rule(batch_size=st.integers(1, 3), ttl=st.sampled_from([5.0, 50.0, float("inf")]))
    def open_one(self, batch_size: int, ttl: float) -> None:
        self.open(batch_size, ttl)

    def open(self, batch_size: int, ttl: float) -> None:
        batch_size = min(batch_size, self.core.limits.max_batch_size)
        try:
            session = self.core.open(batch_size=batch_size, idle_ttl_s=ttl)
        except LimitReached:
            taken = self.core.ledger.reserved_rows
            assert len(self.core.sessions) == 8 or taken + batch_size > self.core.limits.max_rows
        else:
            self.clients.append(Client(session, type(self).initial))

    @precondition(lambda self: self.clients)
    @rule(
        data=st.data(),
        values=st.lists(NUMBERS, min_size=1, max_size=8),
        options=st.fixed_dictionaries(
            {
                "return_state": st.booleans(),
                "start": RARELY,
                "end": RARELY,
                "shapes": st.sampled_from(["red", "red", "blue"]),
            }
        ),
        bad=SOMETIMES,
    )
    def any_step(self, data: Any, **what: Any) -> None:
        self.step(self.draw(data), **what)

    def step(self, client: Client, values: list[int], options: dict[str, Any], bad: bool) -> None:
        if self.core.limits.max_chunk is None:
            options["shapes"] = len(values)
        step = self.send(client, lambda: self.core.step(client.session, values, **options), values)
        if bad and step is not None:
            self.bad.add(step)

    @precondition(lambda self: self.clients)
    @rule(lengths=st.lists(st.integers(0, 9), min_size=2, max_size=8))
    def many_steps(self, lengths: list[int]) -> None:
        """One of every session, but for those of length 0."""
        for client, length in zip(self.clients[::-1], lengths, strict=False):
            if length:
                self.step(client, list(range(length)), {"shapes": "red"}, bad=length == 9)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def get(self, data: Any) -> None:
        client = self.draw(data)
        self.send(client, lambda: self.core.read(client.session), None)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), value=st.none() | NUMBERS)
    def set_or_reset(self, data: Any, value: int | None) -> None:
        client = self.draw(data)
        self.send(client, lambda: self.core.write(client.session, value), value)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), politely=st.booleans())
    def close(self, data: Any, politely: bool) -> None:
        client = self.draw(data)
        if politely:
            self.send(client, lambda: self.core.end(client.session), None)
        elif not client.session.closed:
            self.core.close(client.session)

    @precondition(lambda self: any(client.sent for client in self.clients))
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        client = data.draw(st.sampled_from([each for each in self.clients if each.sent]))
        request, what = data.draw(st.sampled_from(list(client.sent)))
        if not self.core.answered(request):
            self.silent.add(request)
        self.core.cancel(client.session, request)
        if request not in (client.session.pending or ()) and not self.core.answered(request):
            client.sent.remove((request, what))  # it has not run and never will

    @rule(seconds=st.sampled_from([1.0, 6.0, 60.0]))
    def expire(self, seconds: float) -> None:
        self.core.now_s += seconds
        for session in self.core.sessions.expire(self.core.now_s):
            assert session.pending is None
            assert session.last_used_s + session.idle_ttl_s <= self.core.now_s

    # ---- the engine -----------------------------------------------------------------------------

    @precondition(lambda self: self.core.job is None)
    @rule()
    def begin(self) -> None:
        job = self.core.begin()
        assert (job is None) == (self.core.ledger.pending == 0), "somebody waits for nothing"

    @precondition(lambda self: self.core.job is not None)
    @rule(broken=RARELY)
    def finish(self, broken: bool) -> None:
        self.core.finish(StepFailed("no") if broken or self.is_bad(self.core.job) else None)

    @rule()
    def run(self) -> None:
        if self.core.job is not None:
            self.finish(broken=False)
            self.all_is_well()
        self.core.run(lambda job: StepFailed("no") if self.is_bad(job) else None)
        assert self.core.ledger.pending == 0

    def is_bad(self, job: Any) -> bool:
        return isinstance(job, Batch) and any(entry.step in self.bad for entry in job.entries)

    # ---- what must hold -------------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "core"):
            self.core.check()
            assert self.silent.isdisjoint(self.core.answers)
            for client in self.clients:
                self.follow(client)
                if client.session.phase is not Phase.CLOSED:
                    assert self.core.values(client.session) == client.state
                    assert client.session.step == client.step

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.run()
            self.all_is_well()
            for session in self.core.sessions:
                self.core.close(session)
            self.core.check()
            assert self.core.pool.out == set()

    # ---- the reference --------------------------------------------------------------------------

    def draw(self, data: Any) -> Client:
        """Mostly one whose session is open."""
        ended = [client for client in self.clients if client.session.ending]
        clients = [client for client in self.clients if client not in ended] * 4 + ended
        client: Client = data.draw(st.sampled_from(clients))
        return client

    def send(self, client: Client, submit: Callable[[], Request], what: Any) -> Request | None:
        session = client.session
        before = (session.phase, len(session.pending or ()), self.core.ledger.pending)
        try:
            request = submit()
        except SessionClosed:
            assert session.ending
        except LimitReached:
            assert before[1] == 5 or before[2] == 20
        else:
            client.sent.append((request, what))
            return request
        assert before == (session.phase, len(session.pending or ()), self.core.ledger.pending)
        return None

    def follow(self, client: Client) -> None:
        """Take in what has been done since, in the order in which it was asked for."""
        waiting = list(client.session.pending or ())
        while client.sent:
            request, what = client.sent[0]
            if request in waiting and getattr(request, "stepped", None) is None:
                return
            if request in waiting:  # committed, but its answer waits for the states
                if request not in self.checked:
                    self.checked.add(request)
                    self.commit(client, request, what)
                return
            client.sent.popleft()
            self.settle(client, request, what)

    def settle(self, client: Client, request: Request, what: Any) -> None:
        (result,) = self.core.answers.get(request) or [None]
        assert (result is not None) or request.cancelled, "no answer"
        if request in self.checked:
            if isinstance(result, Stepped):
                self.compare(client, result)
        elif result is None:
            self.guess(client, request, what)
        elif not isinstance(result, RequestError):
            assert request not in self.bad
            expected = self.commit(client, request, what)
            assert result.step == client.step
            if isinstance(result, Stepped):
                assert result.outputs["y"].tolist() == expected
                assert result.outputs["last"].tolist() == [row[-1] for row in expected]
                self.compare(client, result)
            elif isinstance(result, States):
                self.compare(client, result)
            else:
                assert isinstance(result, Done)

    def guess(self, client: Client, request: Request, what: Any) -> None:
        """A request that was cancelled while it ran has counted, or has left no trace."""
        step = self.core.last_steps.get(client.session, client.session.step)
        counted = isinstance(request, Step) and step > client.step
        if isinstance(request, Write) and client.session.phase is not Phase.CLOSED:
            states = self.core.engine.read(list(client.session.rows))
            expected = client.state, [client.count] * client.session.batch_size
            counted = (states["value"].tolist(), states["count"].tolist()) != expected
        if counted:
            self.commit(client, request, what)

    def commit(self, client: Client, request: Request, what: Any) -> list[list[int]]:
        rows = range(client.session.batch_size)
        if isinstance(request, Step):
            states = [
                type(self).lone(client.state[row], [value + 100 * row for value in what])
                for row in rows
            ]
            client.state = [row[-1] for row in states]
            client.count += len(what)
            client.step += 1
            return states
        if isinstance(request, Write):
            client.state = [type(self).initial if what is None else what + row for row in rows]
            client.count = 0
        return []

    def compare(self, client: Client, result: Stepped | States) -> None:
        if result.states is not None:
            assert result.states["value"].tolist() == client.state
            assert result.states["count"].tolist() == [client.count] * client.session.batch_size


def test_random_clients(
    make_core: Callable[..., Core],
    lone: Callable[..., list[int]],
    initial: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "MAX_WORKING_BATCHES", 1)  # so that many have to wait outside
    ours = {
        "make_core": staticmethod(make_core),
        "lone": staticmethod(lone),
        "initial": initial,
    }
    run_state_machine_as_test(
        type("RandomClients", (Machine,), ours),
        settings=settings(
            max_examples=150,
            phases=[Effort.generate],  # shrinking takes minutes; the steps are printed as they are
            report_multiple_bugs=False,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

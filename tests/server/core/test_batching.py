"""Which sessions share a run of the model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from server.core.batch import Batch, Entry, Layout, ReadRows, WriteRows
from server.core.ledger import Limits
from server.core.requests import Step
from server.core.scheduler import Scheduler
from server.core.session import Session
from server.core.table import Table
from server.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    Core = Any  # of driven.py


def who(job: Batch) -> list[Any]:
    return [entry.session for entry in job.entries]


def test_sessions_share_a_batch_oldest_first(core: Core) -> None:
    a, b, c, d, e = (core.open() for _ in range(5))
    for session in (c, a, e, d, b):
        core.step(session, [1])
    first, second = core.run()
    assert who(first) == [c, a, e, d]
    assert who(second) == [b]


def test_at_most_one_step_of_each_session(core: Core) -> None:
    a, b = core.open(), core.open()
    for value in (1, 2, 3):
        core.step(a, [value])
    core.step(b, [4])
    jobs = core.run()
    assert [who(job) for job in jobs] == [[a, b], [a], [a]]


def test_a_session_with_more_to_do_waits_behind_the_others(core: Core) -> None:
    sessions = [core.open() for _ in range(6)]
    for session in sessions:
        core.step(session, [1])
        core.step(session, [2])
    jobs = core.run()
    assert [who(job) for job in jobs] == [
        sessions[:4],
        [*sessions[4:], *sessions[:2]],
        sessions[2:],
    ]


def test_a_batch_holds_whole_sessions(core: Core) -> None:
    a, b, c = core.open(batch_size=3), core.open(batch_size=2), core.open(batch_size=1)
    for session in (a, b, c):
        core.step(session, [1])
    first, second = core.run()
    assert who(first) == [a]  # b does not fit, and c does not overtake it
    assert who(second) == [b, c]
    assert core.engine.runs == [(3, 1), (3, 1)]


def test_each_session_gets_its_own_rows_of_the_outputs(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    sessions = [core.open(batch_size=size) for size in (1, 2, 1)]
    steps = [core.step(session, [10 * n]) for n, session in enumerate(sessions)]
    (job,) = core.run()
    assert who(job) == sessions
    seen = [core.result(step).outputs["last"].tolist() for step in steps]
    assert seen == [
        lone(initial, [0]),
        [lone(initial, [10])[0], lone(initial, [110])[0]],
        lone(initial, [20]),
    ]


def test_different_shapes_never_share_a_batch(core: Core) -> None:
    a, b, c, d = (core.open() for _ in range(4))
    core.step(a, [1], shapes="red")
    core.step(b, [1], shapes="blue")
    core.step(c, [1], shapes="red")
    core.step(d, [1], shapes="blue")
    jobs = core.run()
    assert [who(job) for job in jobs] == [[a, c], [b, d]]


def test_the_lane_whose_first_session_has_waited_longest_goes_first(core: Core) -> None:
    a, b = core.open(), core.open()
    core.step(a, [1], shapes="red")
    core.step(b, [1], shapes="blue")
    core.begin()  # a runs
    core.step(a, [2], shapes="red")
    core.finish()
    assert [who(job) for job in core.run()] == [[b], [a]]


def test_reads_and_writes_take_turns_with_batches(core: Core) -> None:
    a, b, c, d = (core.open() for _ in range(4))
    core.step(a, [1])
    core.read(b)
    core.write(c, 5)
    core.step(d, [1])
    jobs = core.run()
    assert [type(job) for job in jobs] == [Batch, ReadRows, WriteRows]
    assert who(jobs[0]) == [a, d]


def test_what_arrives_while_a_batch_runs_shares_the_next(core: Core) -> None:
    a, b, c = (core.open() for _ in range(3))
    core.step(a, [1])
    core.begin()
    core.step(b, [1])
    core.step(c, [1])
    core.finish()
    assert [who(job) for job in core.run()] == [[b, c]]


def test_nothing_to_do_is_no_job(core: Core) -> None:
    assert core.begin() is None
    core.open()
    assert core.begin() is None


def test_a_step_that_was_withdrawn_is_passed_over(core: Core) -> None:
    a, b, c = (core.open() for _ in range(3))
    steps = [core.step(session, [1]) for session in (a, b, c)]
    core.cancel(b, steps[1])
    core.step(b, [2])  # queues again, behind the others
    assert [who(job) for job in core.run()] == [[a, c, b]]


def test_inputs_that_no_request_gives_are_left_to_the_model() -> None:
    layout = Layout({"x": 1, "maybe": None}, {"y": 1})
    step = Step(inputs={"x": np.zeros((1, 2))}, timesteps=2)
    session: Any = SimpleNamespace(batch_size=1)
    batch = Batch((Entry(session, step, (0,), (1,)),), None, layout)
    assert list(batch.inputs()) == ["x"]


def test_inputs_without_time_are_fed_to_every_piece() -> None:
    layout = Layout({"x": 1, "place": None}, {"y": 1})
    inputs = {"x": np.arange(6).reshape(1, 6), "place": np.array([[3, 4]])}
    step = Step(inputs=inputs, timesteps=6, position=2)
    session: Any = SimpleNamespace(batch_size=1)
    batch = Batch((Entry(session, step, (0,), (1,)),), 3, layout)
    assert batch.inputs()["x"].tolist() == [[2, 3, 4]]
    assert batch.inputs()["place"].tolist() == [[3, 4]]


def test_a_scheduler_needs_nobody_to_tell_of_closed_sessions(core: Core) -> None:
    scheduler = Scheduler(Layout({}, {}), Limits(max_batch_size=1, max_rows=1))
    session = core.open()
    scheduler.admit(session)
    scheduler.close(session)
    assert session.closed


def test_many_lanes_are_served_in_the_order_of_their_first_sessions(
    make_core: Callable[..., Core],
) -> None:
    core = make_core(max_rows=200)
    sessions = [core.open() for _ in range(100)]
    for n, session in enumerate(sessions):
        core.step(session, [n], shapes=n * 37 % 50)  # two in each lane
    jobs = core.run()
    assert [who(job)[0] for job in jobs] == sessions[:50]
    assert {len(job.entries) for job in jobs} == {2}


def test_a_lane_costs_nothing_once_it_is_empty(core: Core) -> None:
    session = core.open()
    for n in range(1000):
        core.step(session, [n], shapes=n)
        core.run()
    assert len(core.scheduler._lanes._heads) <= 1


def test_a_lane_that_is_always_busy_is_announced_once(core: Core) -> None:
    sessions = [core.open(batch_size=size) for size in (3, 2, 3)]
    for n in range(100):
        for session in sessions:
            if not session.pending:
                core.step(session, [n])
        core.begin()
        core.finish()
    assert len(core.scheduler._lanes._heads) <= 4


def test_an_output_without_any_axis_fits_no_batch() -> None:
    step = Step(inputs={})
    entry = Entry(Session("s", cast("Any", SimpleNamespace(table=Table(1)))), step, (0,), (1,))
    batch = Batch((entry, entry), None, Layout({}, {"y": None}))
    batch.check({"y": np.zeros(2)})
    for wrong in (np.zeros(()), np.zeros(3), np.zeros((1, 2))):
        with pytest.raises(StepFailed, match="output 'y' has shape"):
            batch.check({"y": wrong})
    Batch((entry,), None, batch.layout).check({"y": np.zeros(())})

"""One session: steps, reads, writes, start and end, in the order in which they were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from server.core.phases import Phase
from server.core.requests import Close, Done, Request, States, Stepped
from server.errors import LimitReached, SessionClosed, StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    Core = Any  # of driven.py


def test_a_step_answers_with_outputs_and_advances(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    step = core.step(session, [4, 5])
    assert session.phase is Phase.QUEUED
    core.run()
    result = core.result(step)
    assert isinstance(result, Stepped)
    assert result.outputs["y"].tolist() == [lone(initial, [4, 5])]
    assert result.outputs["last"].tolist() == lone(initial, [4, 5])[-1:]
    assert (result.step, result.states) == (1, None)
    assert session.phase is Phase.IDLE
    assert session.pending is None  # an idle session holds no queue


def test_steps_follow_each_other_one_at_a_time(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    steps = [core.step(session, [value]) for value in (1, 2, 3)]
    assert len(core.run()) == 3
    assert [core.result(step).outputs["last"].item() for step in steps] == lone(initial, [1, 2, 3])
    assert [core.result(step).step for step in steps] == [1, 2, 3]


def test_a_session_of_several_rows_keeps_them_apart(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open(batch_size=3)
    step = core.step(session, [1, 2])
    core.run()
    expected = [lone(initial, [1 + 100 * row, 2 + 100 * row]) for row in range(3)]
    assert core.result(step).outputs["y"].tolist() == expected
    assert core.values(session) == [row[-1] for row in expected]


def test_return_state_gives_the_states_after_the_step_and_before_the_next(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open(batch_size=2)
    step = core.step(session, [1, 2, 3], return_state=True)
    later = core.step(session, [9])
    core.run()
    result = core.result(step)
    assert isinstance(result, Stepped)
    assert result.outputs["y"].shape == (2, 3)
    expected = [lone(initial, [1 + d, 2 + d, 3 + d])[-1] for d in (0, 100)]
    assert result.states["value"].tolist() == expected
    assert result.states["count"].tolist() == [3, 3]
    assert (result.step, core.result(later).step) == (1, 2)


def test_reads_and_writes_keep_their_place_between_steps(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    requests = [
        core.read(session),
        core.step(session, [5]),
        core.read(session),
        core.write(session, 40),
        core.read(session),
        core.step(session, [6]),
        core.write(session, None),
        core.read(session),
        core.step(session, [7]),
    ]
    core.run()
    results = [core.result(request) for request in requests]
    assert [type(result) for result in results] == [
        States, Stepped, States, Done, States, Stepped, Done, States, Stepped,
    ]  # fmt: skip
    seen = [
        result.states["value"].item() if isinstance(result, States) else result.outputs["last"][0]
        for result in results
        if not isinstance(result, Done)
    ]
    assert seen == [
        initial,
        *lone(initial, [5]),
        *lone(initial, [5]),
        40,
        *lone(40, [6]),
        initial,
        *lone(initial, [7]),
    ]
    assert [result.step for result in results] == [0, 1, 1, 1, 1, 2, 2, 2, 3]


def test_a_reset_of_an_idle_session_needs_no_engine(core: Core, initial: int) -> None:
    session = core.open(batch_size=2)
    core.write(session, 100)
    core.run()
    assert core.values(session) == [100, 101]
    reset = core.write(session, None)
    assert core.begin() is None
    assert core.result(reset) == Done(0)
    assert core.values(session) == [initial, initial]
    core.check()


def test_a_session_that_only_waits_shares_the_initial_row(core: Core) -> None:
    for _ in range(20):
        core.open()
    assert core.pool.out == set()


def test_a_request_with_end_closes_after_it_has_run(core: Core) -> None:
    session = core.open()
    first, last = core.step(session, [1]), core.step(session, [2], end=True)
    assert session.ending
    assert not session.closed
    with pytest.raises(SessionClosed):
        core.step(session, [3])
    core.run()
    assert [core.result(step).step for step in (first, last)] == [1, 2]
    assert core.closed == [session]
    assert session.phase is Phase.CLOSED
    assert len(core.sessions) == 0


def test_end_with_return_state_still_gives_the_states(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1], end=True, return_state=True)
    core.run()
    assert core.result(step).states["count"].tolist() == [1]
    assert core.closed == [session]


def test_an_end_that_fails_does_not_close(core: Core) -> None:
    session = core.open()
    core.step(session, [1], end=True)
    core.run(lambda job: StepFailed("no"))
    assert core.closed == []
    assert session.phase is Phase.IDLE
    core.step(session, [1])  # and the session goes on
    core.run()
    assert session.step == 1


def test_a_start_that_fails_closes_the_session_and_what_waits_behind_it(core: Core) -> None:
    session = core.open()
    start, later = core.step(session, [1], start=True), core.step(session, [2])
    core.run(lambda job: StepFailed("no"))
    assert isinstance(core.result(start), StepFailed)
    assert isinstance(core.result(later), SessionClosed)
    assert core.closed == [session]


def test_a_start_that_succeeds_leaves_the_session_open(core: Core) -> None:
    session = core.open()
    start = core.step(session, [1], start=True)
    core.run()
    assert core.result(start).step == 1
    assert core.closed == []


@pytest.mark.parametrize("busy", [False, True])
def test_a_close_request_waits_its_turn(core: Core, busy: bool) -> None:
    session = core.open()
    step = core.step(session, [1]) if busy else None
    close = core.end(session)
    assert session.closed is not busy
    core.run()
    assert core.result(close) == Done(int(busy))
    assert core.closed == [session]
    assert step is None or core.result(step).step == 1


def test_a_close_may_follow_an_end_in_case_that_fails(core: Core) -> None:
    session = core.open()
    core.step(session, [1], end=True)
    core.ask(session, Close())
    core.run(lambda job: StepFailed("no"))
    assert core.closed == [session]


def test_a_close_behind_an_end_that_succeeds_finds_the_session_closed(core: Core) -> None:
    session = core.open()
    core.step(session, [1], end=True)
    close = core.ask(session, Close())
    core.run()
    assert isinstance(core.result(close), SessionClosed)
    assert core.closed == [session]


def test_a_closed_session_takes_no_requests(core: Core) -> None:
    session = core.open()
    core.close(session)
    for request in (Close(), Request()):
        with pytest.raises(SessionClosed, match="is closed"):
            core.ask(session, request)
    core.check()


def test_last_use_is_the_arrival_and_then_the_end_of_a_request(core: Core) -> None:
    session = core.open(idle_ttl_s=10.0)
    core.now_s = 3.0
    core.step(session, [1])
    assert session.last_used_s == 3.0
    core.now_s = 5.0
    core.run()
    assert session.last_used_s == 5.0


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({"max_pending_per_session": 2}, "2 requests of session .* wait already"),
        ({"max_pending": 2}, "2 requests wait already"),
        ({"max_pending_bytes": 20}, "carry 16 bytes"),
    ],
)
def test_a_request_over_the_limit_changes_nothing(
    make_core: Callable[..., Core], limits: dict[str, int], match: str
) -> None:
    core = make_core(**limits)
    session = core.open(idle_ttl_s=10.0)
    steps = [core.step(session, [value]) for value in (1, 2)]
    core.now_s = 5.0
    with pytest.raises(LimitReached, match=match) as caught:
        core.step(session, [3], end=True)
    assert caught.value.retry_after_s > 0
    assert not session.ending
    assert session.last_used_s == 0.0
    core.check()
    core.run()
    assert [core.result(step).step for step in steps] == [1, 2]
    core.step(session, [3])  # there is room again


def test_rows_over_the_limit_are_refused_and_change_nothing(
    make_core: Callable[..., Core],
) -> None:
    core = make_core(max_rows=5)
    first = core.open(batch_size=3)
    with pytest.raises(LimitReached, match="session of 3 rows: 3 of 5 are taken"):
        core.open(batch_size=3)
    core.check()
    core.open(batch_size=2)
    core.close(first)
    core.open(batch_size=3)


def test_a_session_wider_than_a_batch_is_a_bug_of_the_caller(core: Core) -> None:
    with pytest.raises(AssertionError, match="batch_size 5"):
        core.open(batch_size=5)


def test_the_arena_is_large_enough_for_everybody_at_once(make_core: Callable[..., Core]) -> None:
    core = make_core(max_rows=20)
    sessions = [core.open() for _ in range(20)]
    for session in sessions:
        core.step(session, [1])
    core.run()
    assert core.pool.free == core.limits.spare_rows
    for session in sessions:
        core.step(session, [1] * 100)
    for _ in range(8):
        core.begin()
        core.finish()
    core.begin()
    assert core.pool.free == 0 or core.ledger.working_rows == core.limits.max_working_rows
    core.run()


def test_everything_says_what_it_is(core: Core) -> None:
    session = core.open("ada")
    core.step(session, [1])
    assert repr(session) == "<Session 'ada' QUEUED step=0 rows=(0,) pending=1>"
    assert repr(core.ledger) == "<Ledger reserved=1 working=0 pending=1 <RowPool 60 of 61 free>>"
    assert repr(core.sessions) == "<Sessions 1 of 1000>"
    assert repr(core.scheduler).startswith("<Scheduler <Lanes {('x',): 1} parked: 0>")


def test_a_single_input_is_handed_over_without_a_copy(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1, 2])
    job = core.begin()
    assert np.shares_memory(job.inputs()["x"], step.inputs["x"])
    core.finish()

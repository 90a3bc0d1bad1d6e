"""Callers that go away, and sessions that end, in every phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core.phases import IllegalTransition, Phase
from server.core.requests import Stepped
from server.errors import SessionClosed, StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    Core = Any  # of driven.py


def test_cancel_while_queued_and_first(core: Core, initial: int) -> None:
    session = core.open()
    step = core.step(session, [1])
    core.cancel(session, step)
    assert session.phase is Phase.IDLE
    assert core.run() == []
    assert not core.answered(step)
    assert core.values(session) == [initial]
    core.check()


def test_cancel_while_queued_lets_the_next_one_run(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    first, second, third = (core.step(session, [value]) for value in (1, 2, 3))
    core.cancel(session, first)
    core.check()
    core.run()
    assert not core.answered(first)
    assert core.result(second).outputs["last"].tolist() == lone(initial, [2])
    assert core.result(third).step == 2


def test_cancel_while_behind_another(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    first, second, third = (core.step(session, [value]) for value in (1, 2, 3))
    core.begin()
    core.cancel(session, second)
    core.check()
    core.finish()
    core.run()
    assert core.result(first).step == 1
    assert not core.answered(second)
    assert core.result(third).outputs["last"].tolist() == lone(initial, [1, 3])[-1:]


def test_cancel_while_running_lets_the_run_count(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1])
    core.begin()
    core.cancel(session, step)
    core.finish()
    core.check()
    assert not core.answered(step)
    assert session.step == 1


def test_cancel_while_running_with_more_pieces_to_come(core: Core, initial: int) -> None:
    session = core.open()
    step = core.step(session, range(10))
    core.begin()
    core.cancel(session, step)
    core.finish()
    core.check()
    assert core.run() == []
    assert session.step == 0
    assert core.values(session) == [initial]
    assert session.phase is Phase.IDLE


def test_cancel_between_two_pieces(core: Core, initial: int) -> None:
    session = core.open()
    step, later = core.step(session, range(10)), core.step(session, [5])
    core.begin()
    core.finish()
    core.cancel(session, step)
    core.check()
    core.run()
    assert not core.answered(step)
    assert core.result(later).step == 1


def test_cancel_while_a_batch_runs_that_fails(core: Core) -> None:
    a, b = core.open(), core.open()
    gone, stays = core.step(a, [1]), core.step(b, [1])
    core.begin()
    core.cancel(a, gone)
    core.finish(StepFailed("no"))
    core.check()
    assert a.phase is Phase.IDLE
    core.run()
    assert core.result(stays).step == 1
    assert a.step == 0


def test_cancel_of_a_start_closes_the_session(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1], start=True)
    core.cancel(session, step)
    assert core.closed == [session]


def test_cancel_of_an_end_keeps_the_session_open(core: Core) -> None:
    session = core.open()
    core.step(session, [1])
    end = core.step(session, [2], end=True)
    core.cancel(session, end)
    core.step(session, [3])
    core.run()
    assert session.step == 2
    assert core.closed == []


def test_cancel_of_an_end_that_is_running_still_ends(core: Core) -> None:
    session = core.open()
    end = core.step(session, [2], end=True)
    core.begin()
    core.cancel(session, end)
    core.finish()
    assert core.closed == [session]


@pytest.mark.parametrize("when", ["running", "before its read", "during its read"])
@pytest.mark.parametrize("end", [False, True])
def test_cancel_of_a_step_that_returns_its_state(core: Core, when: str, end: bool) -> None:
    session = core.open()
    step = core.step(session, [1], return_state=True, end=end)
    core.begin()
    if when != "running":
        core.finish()
        if when == "during its read":
            core.begin()
    core.cancel(session, step)
    core.check()
    if core.job is not None:
        core.finish()
    core.run()
    assert not core.answered(step)
    assert end or session.step == 1  # it had been computed
    assert core.closed == [session] * end
    core.check()


def test_cancel_of_a_step_that_was_answered_already(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1])
    core.run()
    core.cancel(session, step)
    assert core.result(step).step == 1
    core.check()


def test_cancel_of_a_step_whose_answer_was_not_taken_yet(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1])
    core.begin()
    core.finish()
    core.cancel(session, step)
    assert not core.answered(step)
    assert session.step == 1


def test_cancel_of_reads_and_writes(core: Core, initial: int) -> None:
    session = core.open()
    write, read = core.write(session, 50), core.read(session)
    core.cancel(session, write)
    core.cancel(session, read)
    assert core.run() == []
    assert core.values(session) == [initial]
    write = core.write(session, 50)
    core.begin()
    core.cancel(session, write)
    core.finish()
    core.check()
    assert core.values(session) == [50]


def test_close_while_idle(core: Core) -> None:
    session = core.open(batch_size=2)
    core.step(session, [1])
    core.run()
    core.close(session)
    assert core.closed == [session]
    assert core.pool.out == set()
    core.check()


def test_close_while_queued_answers_all_that_waits(core: Core) -> None:
    session = core.open()
    requests = [core.step(session, [1]), core.read(session), core.write(session, 3)]
    core.close(session)
    core.check()
    assert all(isinstance(core.result(request), SessionClosed) for request in requests)
    assert core.run() == []
    assert core.closed == [session]


def test_close_while_running_waits_for_the_engine(core: Core) -> None:
    session = core.open()
    running, waiting = core.step(session, [1]), core.step(session, [2])
    core.begin()
    core.close(session)
    assert session.phase is Phase.CLOSING
    assert isinstance(core.result(waiting), SessionClosed)
    assert not core.answered(running)
    assert core.closed == []
    core.check()
    core.finish()
    core.check()
    assert isinstance(core.result(running), Stepped)
    assert core.closed == [session]
    assert core.pool.out == set()


@pytest.mark.parametrize("error", [None, StepFailed("no")])
@pytest.mark.parametrize("company", [False, True])
def test_close_while_a_piece_is_running(core: Core, error: Any, company: bool) -> None:
    session = core.open()
    step = core.step(session, range(10))
    if company:
        core.step(core.open(), range(10))
    core.begin()
    core.close(session)
    core.finish(error)
    core.check()
    assert isinstance(core.result(step), SessionClosed if company or not error else StepFailed)
    assert core.closed == [session]
    core.run()


def test_close_between_two_pieces(core: Core) -> None:
    session = core.open()
    step = core.step(session, range(10))
    core.begin()
    core.finish()
    core.close(session)
    core.check()
    assert isinstance(core.result(step), SessionClosed)
    assert core.pool.out == set()


@pytest.mark.parametrize("when", ["running", "before its read", "during its read"])
def test_close_around_a_step_that_returns_its_state(core: Core, when: str) -> None:
    session = core.open()
    step = core.step(session, [1], return_state=True)
    core.begin()
    if when != "running":
        core.finish()
        if when == "during its read":
            core.begin()
    core.close(session)
    core.check()
    if core.job is not None:
        core.finish()
    core.check()
    result = core.result(step)
    assert isinstance(result, SessionClosed if when == "before its read" else Stepped)
    assert core.closed == [session]
    assert core.pool.out == set()


@pytest.mark.parametrize("ask", ["read", "write"])
def test_close_while_states_are_exchanged(core: Core, ask: str) -> None:
    session = core.open()
    request = core.read(session) if ask == "read" else core.write(session, 5)
    core.begin()
    core.close(session)
    core.finish()
    core.check()
    assert core.answered(request)
    assert core.pool.out == set()


def test_cancel_in_a_session_that_is_closing(core: Core) -> None:
    session = core.open()
    step = core.step(session, range(10))
    core.begin()
    core.close(session)
    core.cancel(session, step)
    core.finish()
    core.check()
    assert not core.answered(step)
    assert core.closed == [session]


def test_closing_what_is_closed_is_a_bug_of_the_caller(core: Core) -> None:
    session = core.open()
    core.close(session)
    with pytest.raises(IllegalTransition):
        core.close(session)

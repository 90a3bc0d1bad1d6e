"""Numbered steps that begin or end their session, and come again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core import sessions
from server.core.phases import Phase
from server.core.remembered import OVERHEAD
from server.errors import SessionClosed, StepConflict, StepFailed, StepForgotten

if TYPE_CHECKING:
    from server.core.session import Session

    Core = Any  # of driven.py


def last(core: Core, step: Any) -> int:
    """What the step came to."""
    return core.result(step).outputs["last"].item()


def made(core: Core, session: Session, count: int = 1, **kwargs: Any) -> list[Any]:
    """So many numbered steps, done."""
    first = session.step + 1
    steps = [core.step(session, [i], index=i, **kwargs) for i in range(first, first + count)]
    core.run()
    return steps


def test_the_last_step_may_be_asked_for_again_while_it_runs(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1], index=1, end=True)
    core.begin()
    again = core.step(session, [1], index=1, end=True)
    with pytest.raises(SessionClosed):
        core.step(session, [2])
    further = core.step(session, [2], index=2)
    core.run()
    assert session.phase is Phase.CLOSED
    assert last(core, again) == last(core, step)
    assert isinstance(core.result(further), SessionClosed)


def test_the_last_answers_of_a_session_that_has_ended_are_kept_by_its_id(core: Core) -> None:
    session = core.open("s")
    made(core, session)
    step = core.step(session, [2], index=2, end=True)
    core.run()
    (*_, answer) = core.sessions.last_answers("s")
    assert answer.again(step).outputs["last"].item() == last(core, step)
    other = core.step(core.open(), [3], index=2)
    assert isinstance(answer.again(other), StepConflict)
    core.open("s")
    assert core.sessions.last_answers("s") == ()


def test_the_last_answer_of_an_ended_session_may_be_forgotten(make_core: type[Core]) -> None:
    core = make_core(max_remembered_bytes=2 * OVERHEAD)
    step = core.step(core.open("s"), [1], index=1, end=True)
    core.run()
    (answer,) = core.sessions.last_answers("s")
    made(core, core.open(), 2)
    assert isinstance(answer.again(step), StepForgotten)


def test_the_last_answers_of_so_many_ids_are_kept(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_TOMBSTONES", 2)
    for id in "abc":
        core.step(core.open(id), [1], index=1, end=True)
        core.run()
    assert [len(core.sessions.last_answers(id)) for id in "abc"] == [0, 1, 1]


def test_the_end_of_a_step_that_was_made_before(core: Core) -> None:
    session = core.open()
    made(core, session)
    again = core.step(session, [1], index=1, end=True)
    assert core.result(again).step == 1
    assert session.phase is Phase.CLOSED


def test_a_session_that_is_closed_forgets_its_answers(core: Core) -> None:
    session = core.open("s")
    made(core, session, 2)
    core.begin()
    again = core.step(core.open(), [1])
    core.close(session)
    assert session.answers is None
    assert core.sessions.last_answers("s") == ()
    core.run()
    assert core.result(again).step == 1


def test_who_waits_for_a_step_again_when_the_session_is_closed(core: Core) -> None:
    session = core.open()
    made(core, session)
    core.step(session, [2], index=2)
    again = [core.step(session, [index], index=index) for index in (1, 3)]
    core.close(session)
    assert [type(core.result(step)) for step in again] == [StepForgotten, SessionClosed]


# ---- the step that begins one --------------------------------------------------------------------


def test_a_first_step_that_fails_and_comes_again_begins_the_session(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1], index=1, start=True)
    again = core.step(session, [1], index=1)
    core.begin()
    core.finish(StepFailed("no"))
    core.run()
    assert isinstance(core.result(step), StepFailed)
    assert core.result(again).step == session.step == 1
    assert session.phase is Phase.IDLE


def test_a_first_step_that_comes_again_and_fails_closes_the_session(core: Core) -> None:
    session = core.open()
    steps = [core.step(session, [1], index=1, start=number == 0) for number in range(2)]
    core.run(lambda job: StepFailed("no"))
    assert [type(core.result(step)) for step in steps] == [StepFailed, StepFailed]
    assert session.phase is Phase.CLOSED


@pytest.mark.parametrize("index", [0, 2])
def test_another_step_does_not_begin_the_session_instead(core: Core, index: int) -> None:
    session = core.open()
    core.step(session, [1], index=1, start=True)
    other = core.step(session, [1], index=index)
    core.run(lambda job: StepFailed("no"))
    assert isinstance(core.result(other), SessionClosed)
    assert session.phase is Phase.CLOSED

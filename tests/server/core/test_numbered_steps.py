"""Steps that say which one they are run once, however often they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core.phases import Phase
from server.core.requests import Stepped
from server.errors import StepConflict, StepFailed, StepForgotten, StepGap

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_the_next_step_runs(core: Core, lone: Callable[..., list[int]], initial: int) -> None:
    session = core.open()
    steps = made(core, session, 3)
    assert [last(core, step) for step in steps] == lone(initial, [1, 2, 3])
    assert [core.result(step).step for step in steps] == [1, 2, 3]


def test_a_step_that_was_made_is_answered_once_more_and_does_not_run(core: Core) -> None:
    session = core.open(batch_size=2)
    (step,) = made(core, session)
    runs = len(core.engine.runs)
    again = core.step(session, [1], index=1)
    assert session.phase is Phase.IDLE
    assert core.result(again).outputs["y"].tolist() == core.result(step).outputs["y"].tolist()
    assert core.result(again).step == session.step == 1
    assert len(core.engine.runs) == runs


@pytest.mark.parametrize("running", [False, True])
def test_a_step_that_is_under_way_is_waited_for(core: Core, running: bool) -> None:
    session = core.open()
    step = core.step(session, [1], index=1)
    if running:
        core.begin()
    again = core.step(session, [1], index=1)
    assert not core.answered(again)
    assert len(core.run()) == 1
    assert last(core, again) == last(core, step)
    assert session.step == 1


def test_a_long_step_is_waited_for_to_its_end(core: Core) -> None:
    session = core.open()
    step = core.step(session, range(9), index=1)
    core.begin()
    core.finish()
    again = core.step(session, range(9), index=1)
    core.run()
    assert core.result(again).outputs["y"].tolist() == core.result(step).outputs["y"].tolist()
    assert session.step == 1


def test_steps_may_be_sent_ahead(core: Core) -> None:
    session = core.open()
    steps = made(core, session, 5)
    assert [core.result(step).step for step in steps] == [1, 2, 3, 4, 5]


def test_a_step_that_lies_further_ahead_is_a_gap(core: Core) -> None:
    session = core.open()
    made(core, session)
    early = core.step(session, [3], index=3)
    error = core.result(early)
    assert isinstance(error, StepGap)
    assert error.expected_step == 2
    assert "expected step 2" in str(error)
    assert session.step == 1


def test_the_same_number_with_other_inputs_is_a_conflict(core: Core) -> None:
    session = core.open()
    made(core, session)
    values = core.values(session)
    assert isinstance(core.result(core.step(session, [2], index=1)), StepConflict)
    assert isinstance(core.result(core.step(session, [1, 0], index=1)), StepConflict)
    assert core.values(session) == values


def test_a_step_without_a_number_is_not_remembered(core: Core) -> None:
    session = core.open()
    core.step(session, [1])
    core.run()
    error = core.result(core.step(session, [1], index=1))
    assert isinstance(error, StepForgotten)
    assert "go on with the next step" in str(error)


def test_a_step_that_failed_may_be_sent_again(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1], index=1)
    core.begin()
    core.finish(StepFailed("no"))
    assert isinstance(core.result(step), StepFailed)
    again = core.step(session, [2], index=1)
    core.run()
    assert core.result(again).step == session.step == 1


def test_those_behind_a_step_that_failed_are_gaps(core: Core) -> None:
    session = core.open()
    steps = [core.step(session, [index], index=index) for index in (1, 2, 3)]
    core.begin()
    core.finish(StepFailed("no"))
    core.run()
    assert [type(core.result(step)) for step in steps] == [StepFailed, StepGap, StepGap]
    assert session.step == 0


def test_a_step_that_was_cancelled_before_it_ran_may_be_sent_again(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1], index=1)
    core.cancel(session, step)
    again = core.step(session, [2], index=1)
    core.run()
    assert core.result(again).step == 1
    assert not core.answered(step)


def test_a_step_that_was_cancelled_while_it_ran_is_remembered(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    step = core.step(session, [1], index=1)
    core.begin()
    core.cancel(session, step)
    core.finish()
    again = core.step(session, [1], index=1)
    assert last(core, again) == lone(initial, [1])[-1]
    assert session.step == 1
    assert not core.answered(step)


@pytest.mark.parametrize("when", ["running", "waiting for the states", "reading them"])
def test_a_cancelled_step_is_remembered_with_its_states(core: Core, when: str) -> None:
    session = core.open()
    step = core.step(session, [1], index=1, return_state=True)
    core.begin()
    if when != "running":
        core.finish()
    if when == "reading them":
        core.begin()
    core.cancel(session, step)
    core.run()
    again = core.step(session, [1], index=1, return_state=True)
    assert core.result(again).states["value"].tolist() == core.values(session)
    assert not core.answered(step)


def test_counting_anew_forgets_the_answers(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    made(core, session, 2)
    core.write(session, None, step=0)
    assert session.step == 0
    step = core.step(session, [8], index=1)
    core.run()
    assert last(core, step) == lone(initial, [8])[-1]
    assert last(core, core.step(session, [8], index=1)) == last(core, step)
    (second,) = made(core, session)
    assert last(core, second) == lone(initial, [8, 2])[-1]


def test_counting_goes_on_after_a_reset(core: Core) -> None:
    session = core.open()
    made(core, session)
    core.write(session, None)
    assert isinstance(core.result(core.step(session, [1], index=1)), Stepped)
    (step,) = made(core, session)
    assert core.result(step).step == 2


def test_counting_may_begin_anywhere(core: Core) -> None:
    session = core.open()
    core.write(session, 5, step=41)
    core.run()
    step = core.step(session, [1], index=42)
    early = core.step(session, [1], index=44)
    core.run()
    assert core.result(step).step == 42
    assert core.result(early).expected_step == 43
    assert isinstance(core.result(core.step(session, [1], index=41)), StepForgotten)


def test_a_first_step_out_of_order_closes_the_session(core: Core) -> None:
    session = core.open()
    step = core.step(session, [1], index=7, start=True)
    behind = core.answered(step)
    assert behind
    assert isinstance(core.result(step), StepGap)
    assert session.phase is Phase.CLOSED

"""Requests that replace the states once, and where they belong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core.requests import Done
from server.errors import StepFailed, StepGap

if TYPE_CHECKING:
    from collections.abc import Callable

    Core = Any  # of conftest.py


@pytest.mark.parametrize("value", [None, 50])
def test_a_write_that_comes_twice_is_done_once(
    core: Core, lone: Callable[..., list[int]], initial: int, value: int | None
) -> None:
    session = core.open()
    core.step(session, [1])
    first = core.write(session, value, id=71, after=1)
    core.step(session, [2])
    core.run()
    late = core.write(session, value, id=71, after=1)
    core.run()
    assert core.result(first) == Done(1)
    assert isinstance(core.result(late), StepGap)
    assert core.values(session) == lone(initial if value is None else value, [2])
    core.check()


def test_a_late_write_does_not_undo_a_later_one(core: Core) -> None:
    session = core.open()
    core.write(session, 50, id=71)
    core.write(session, 60, id=72)
    late = core.write(session, 50, id=71)
    core.run()
    assert core.result(late) == Done(0)
    assert core.values(session) == [60]


def test_a_write_that_was_given_up_does_not_come_after_later_steps(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    core.step(session, [1])
    core.run()
    core.step(session, [2])
    late = core.write(session, None, id=71, after=1)
    core.run()
    assert isinstance(core.result(late), StepGap)
    assert core.result(late).expected_step == 3
    assert core.values(session) == [lone(initial, [1, 2])[-1]]


def test_two_writes_alike_are_two(core: Core, lone: Callable[..., list[int]]) -> None:
    """Somebody else may have replaced the states in between."""
    session = core.open()
    core.write(session, 50, id=71)
    core.write(session, 60, id=72)
    core.write(session, 50, id=73)
    core.run()
    assert core.values(session) == [50]


def test_the_same_id_after_another_step_is_another_write(core: Core) -> None:
    session = core.open()
    core.write(session, 50, id=71)
    core.step(session, [1])
    core.write(session, 60, id=71, after=1)
    core.run()
    assert core.values(session) == [60]


def test_a_write_that_fails_may_come_again(core: Core) -> None:
    session = core.open()
    failing = core.write(session, 50, id=71)
    core.run(lambda job: StepFailed("no"))
    assert isinstance(core.result(failing), StepFailed)
    again = core.write(session, 50, id=71)
    core.run()
    assert core.result(again) == Done(0)
    assert core.values(session) == [50]


def test_a_new_session_has_its_own_writes(core: Core) -> None:
    first = core.open()
    core.write(first, 50, id=71)
    core.run()
    core.close(first)
    second = core.open()
    assert second.slot != 0
    core.write(second, 60, id=71)
    core.run()
    assert core.values(second) == [60]

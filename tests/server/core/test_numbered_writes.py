"""Requests that replace the states once, and where they belong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core import turns
from server.core.requests import Done
from server.errors import StepFailed, StepGap

if TYPE_CHECKING:
    from collections.abc import Callable

    Core = Any  # of driven.py


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


@pytest.mark.parametrize("running", [False, True])
def test_a_copy_of_a_write_that_is_under_way(core: Core, running: bool) -> None:
    session = core.open()
    writes = [core.write(session, 30, id=7)]
    if running:
        core.begin()
    writes.append(core.write(session, 30, id=7))
    assert len(core.run()) == 1
    assert [core.result(write) for write in writes] == [Done(0)] * 2


def test_a_first_write_out_of_order_closes_the_session(core: Core) -> None:
    session = core.open()
    write = core.write(session, 30, id=7, after=3, start=True)
    assert isinstance(core.result(write), StepGap)
    assert session.closed


def test_so_many_are_known_and_none_of_a_session_that_is_closed(
    core: Core, monkeypatch: pytest.MonkeyPatch, initial: int
) -> None:
    monkeypatch.setattr(turns, "MAX_WRITES", 2)
    session = core.open()
    for id in range(1, 6):
        core.write(session, None, id=id)
    core.write(session, 30, id=4)
    assert core.run() == []
    core.write(session, 30, id=1)
    core.run()
    assert core.values(session) == [30]
    core.close(session)
    assert core.scheduler._turns._writes == {}

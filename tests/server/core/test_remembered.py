"""Answers that are kept for whoever asks again: which, for how long, in how many bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from server.core import remembered
from server.core.remembered import OVERHEAD, Shelf
from server.core.requests import Stepped
from server.errors import StepForgotten

if TYPE_CHECKING:
    import pytest

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


def test_what_the_client_has_is_forgotten(core: Core) -> None:
    session = core.open()
    made(core, session, 3)
    core.step(session, [4], index=4, acknowledged=2)
    core.run()
    again = [core.step(session, [index], index=index) for index in (1, 2, 3, 4)]
    kinds = [type(core.result(step)) for step in again]
    assert kinds == [StepForgotten, StepForgotten, Stepped, Stepped]
    core.step(session, [5], acknowledged=9)
    assert session.answers is None
    core.check()


def test_states_come_again_if_they_were_asked_for(core: Core, initial: int) -> None:
    session = core.open()
    (step,) = made(core, session, return_state=True)
    again = core.step(session, [1], index=1, return_state=True)
    assert core.result(again).states["value"].tolist() == [3 * initial + 1]
    assert core.result(again).states["count"].tolist() == core.result(step).states["count"].tolist()


def test_states_that_were_not_asked_for_are_not_there_later(core: Core) -> None:
    session = core.open()
    made(core, session)
    again = core.step(session, [1], index=1, return_state=True)
    assert isinstance(core.result(again), StepForgotten)
    assert isinstance(core.result(core.step(session, [1], index=1)), Stepped)


def test_only_so_many_answers_of_a_session_are_kept(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "MAX_PER_SESSION", 2)
    session = core.open()
    made(core, session, 3)
    kinds = [type(core.result(core.step(session, [i], index=i))) for i in (1, 2, 3)]
    assert kinds == [StepForgotten, Stepped, Stepped]


def test_the_oldest_answers_go_where_bytes_are_short(make_core: type[Core]) -> None:
    core = make_core(max_remembered_bytes=2 * (OVERHEAD + 16))
    one, other = core.open(), core.open()
    made(core, one)
    made(core, other, 2)
    kinds = [
        type(core.result(core.step(session, [index], index=index)))
        for session, index in [(one, 1), (other, 1), (other, 2)]
    ]
    assert kinds == [StepForgotten, Stepped, Stepped]


def test_an_answer_that_is_larger_than_everything_is_not_kept(make_core: type[Core]) -> None:
    core = make_core(max_remembered_bytes=100)
    session = core.open()
    (step,) = made(core, session)
    assert core.result(step).step == 1
    assert isinstance(core.result(core.step(session, [1], index=1)), StepForgotten)


def test_a_remembered_answer_is_a_copy(core: Core) -> None:
    session = core.open()
    (step,) = made(core, session)
    expected = last(core, step)
    core.result(step).outputs["last"][:] = -1
    assert last(core, core.step(session, [1], index=1)) == expected


class Thing:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.dropped = False

    def drop(self) -> None:
        assert not self.dropped
        self.dropped = True


def test_the_shelf_does_not_grow_with_what_was_taken_off_it() -> None:
    shelf = Shelf(1000)
    kept = Thing(1)
    shelf.put(kept)
    for _ in range(3000):
        thing = Thing(10)
        shelf.put(thing)
        shelf.drop(thing)
        shelf.drop(thing)  # again: nothing happens
    assert shelf.nbytes == 1
    assert len(shelf._oldest_first) < 1500
    shelf.put(Thing(1000))
    assert kept.dropped
    assert shelf.nbytes == 1000


def test_bytes_are_counted_as_long_as_answers_are_kept(core: Core) -> None:
    session = core.open()
    made(core, session, 2, return_state=True)
    shelf = core.scheduler._remembered._shelf
    arrays = 4 * np.dtype(np.int64).itemsize  # y, last, value, count
    assert shelf.nbytes == 2 * (OVERHEAD + arrays)
    core.close(session)
    assert shelf.nbytes == 0

"""To look at what a step would give, and leave the session as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core.phases import Phase
from server.core.requests import Stepped
from server.errors import SessionClosed, StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    Core = Any  # of driven.py


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_peek_gives_the_outputs_and_changes_nothing(
    core: Core, lone: Callable[..., list[int]], initial: int, batch_size: int
) -> None:
    session = core.open(batch_size=batch_size)
    core.step(session, [1])
    peek = core.step(session, [5, 6], peek=True)
    step = core.step(session, [5, 6])
    core.run()
    assert core.result(peek).outputs["y"].tolist() == core.result(step).outputs["y"].tolist()
    assert core.result(peek).outputs["y"].tolist()[0] == lone(initial, [1, 5, 6])[1:]
    assert core.result(peek).step == 1
    assert session.step == 2


def test_a_fresh_session_stays_fresh(core: Core, initial: int) -> None:
    session = core.open()
    core.step(session, [5], peek=True)
    core.run()
    assert (session.fresh, session.step, session.rows) == (True, 0, (0,))
    assert core.values(session) == [initial]
    assert core.pool.out == set()


@pytest.mark.parametrize("timesteps", [1, 10])
def test_a_peek_may_ask_for_the_states_that_would_be(
    core: Core, lone: Callable[..., list[int]], initial: int, timesteps: int
) -> None:
    session = core.open()
    peek = core.step(session, range(timesteps), peek=True, return_state=True)
    core.run()
    states = core.result(peek).states
    assert states["value"].tolist() == lone(initial, range(timesteps))[-1:]
    assert states["count"].tolist() == [timesteps]
    assert core.values(session) == [initial]


def test_a_peek_shares_a_batch_with_steps(core: Core) -> None:
    one, other = core.open(), core.open()
    core.step(one, [1], peek=True)
    core.step(other, [1])
    assert len(core.run()) == 1
    assert (one.step, other.step) == (0, 1)


def test_a_peek_of_several_pieces_is_no_step(core: Core, initial: int) -> None:
    session = core.open()
    peek = core.step(session, range(10), peek=True)
    core.begin()
    core.finish()
    core.check()
    assert core.values(session) == [initial]
    core.run()
    assert core.result(peek).outputs["y"].shape == (1, 10)


def test_a_peek_that_fails_changes_nothing(core: Core, initial: int) -> None:
    session = core.open()
    peek = core.step(session, [1], peek=True)
    core.begin()
    core.finish(StepFailed("no"))
    assert isinstance(core.result(peek), StepFailed)
    assert core.values(session) == [initial]
    core.check()


def test_states_of_a_peek_that_cannot_be_read(core: Core) -> None:
    session = core.open()
    peek = core.step(session, [1], peek=True, return_state=True)
    core.begin()
    core.finish()
    core.begin()
    core.finish(StepFailed("no"))
    assert isinstance(core.result(peek), StepFailed)
    assert core.pool.out == set()
    core.check()


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_a_cancelled_peek_lets_go_of_its_rows(core: Core, pieces: int) -> None:
    session = core.open()
    peek = core.step(session, range(8), peek=True, return_state=True)
    for _ in range(pieces):
        core.begin()
        core.finish()
    core.cancel(session, peek)
    assert core.run() == []
    assert not core.answered(peek)
    assert session.phase is Phase.IDLE
    assert core.pool.out == set()
    assert core.ledger.working_rows == 0


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_closing_lets_go_of_the_rows_of_a_peek(core: Core, pieces: int) -> None:
    session = core.open()
    peek = core.step(session, range(8), peek=True, return_state=True)
    for _ in range(pieces):
        core.begin()
        core.finish()
    core.close(session)
    assert isinstance(core.result(peek), SessionClosed)
    assert core.pool.out == set()
    core.check()


def test_a_peek_does_not_count_for_numbers(core: Core) -> None:
    session = core.open()
    core.step(session, [1], index=1)
    core.step(session, [9], peek=True)
    step = core.step(session, [2], index=2)
    core.run()
    assert isinstance(core.result(step), Stepped)
    assert session.step == 2

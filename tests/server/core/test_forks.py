"""Forks share rows with the session that they come from, until one of both goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core.phases import Phase
from server.core.requests import Read, Share
from server.errors import SessionClosed, StepForgotten

if TYPE_CHECKING:
    from collections.abc import Callable

    Core = Any  # of driven.py


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_fork_has_the_state_and_goes_its_own_way(
    core: Core, lone: Callable[..., list[int]], initial: int, batch_size: int
) -> None:
    session = core.open(batch_size=batch_size)
    core.step(session, [1])
    core.run()
    fork = core.fork(session)
    core.check()
    assert fork.rows == session.rows
    assert len(core.pool.out) == batch_size
    core.step(session, [2])
    core.step(fork, [3])
    core.run()
    assert core.values(session)[0] == lone(initial, [1, 2])[-1]
    assert core.values(fork)[0] == lone(initial, [1, 3])[-1]
    assert (session.step, fork.step) == (2, 2)
    assert len(core.pool.out) == 2 * batch_size


def test_a_fork_comes_after_what_was_asked_before_and_before_the_rest(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    core.step(session, [1])
    fork = core.fork(session)
    core.step(session, [2])
    step = core.step(fork, [3])
    assert fork.phase is Phase.RUNNING  # it is held
    core.run()
    assert core.result(step).outputs["last"].tolist() == lone(initial, [1, 3])[1:]


def test_a_fork_of_a_session_in_a_frame(core: Core) -> None:
    session = core.open()
    core.frame([session], [[1]])
    fork = core.fork(session)
    core.frame([session], [[2]])
    core.run()
    core.check()
    assert core.values(fork) == [22]
    assert (fork.step, session.step) == (1, 2)


def test_forks_of_forks_share_one_row(core: Core) -> None:
    session = core.open()
    core.step(session, [1])
    core.run()
    forks = [core.fork(session)]
    core.check()
    for _ in range(3):
        forks.append(core.fork(forks[-1]))
        core.check()
    assert len(core.pool.out) == 1
    for each in [session, *forks[:-1]]:
        core.close(each)
        core.check()
    assert core.values(forks[-1]) == [22]
    core.close(forks[-1])
    assert core.pool.out == set()


def test_a_fork_of_a_fresh_session_is_fresh(core: Core, initial: int) -> None:
    fork = core.fork(core.open())
    core.check()
    assert (fork.fresh, fork.step, fork.rows) == (True, 0, (0,))
    assert core.values(fork) == [initial]


def test_a_fork_of_a_session_that_has_begun_is_not_fresh(core: Core) -> None:
    session = core.open()
    core.step(session, [1])
    core.run()
    fork = core.fork(session, count_on=False)
    core.check()
    assert (fork.fresh, fork.step) == (False, 0)


def test_a_fork_goes_on_counting_and_remembers_nothing(core: Core) -> None:
    session = core.open()
    core.step(session, [1], index=1)
    core.run()
    fork = core.fork(session)
    core.check()
    assert isinstance(core.result(core.step(fork, [1], index=1)), StepForgotten)
    step = core.step(fork, [2], index=2)
    core.run()
    assert core.result(step).step == 2


def test_unfinished_work_is_not_shared(core: Core, initial: int) -> None:
    session = core.open()
    step = core.step(session, range(9))
    core.begin()
    core.finish()
    fork = core.fork(session)
    core.run()
    assert core.values(fork) == core.values(session) != [initial]
    assert core.result(step).step == fork.step == 1


def test_a_reset_of_one_leaves_the_other(core: Core, initial: int) -> None:
    session = core.open()
    core.write(session, 30)
    core.run()
    fork = core.fork(session)
    core.check()
    core.write(session, None)
    assert core.values(session) == [initial]
    assert core.values(fork) == [30]
    core.write(fork, 31)
    core.run()
    assert (core.values(session), core.values(fork)) == ([initial], [31])


def test_a_fork_that_is_closed_before_it_has_the_state(core: Core) -> None:
    session = core.open()
    core.step(session, [1])
    fork = core.fork(session)
    core.begin()
    core.close(fork)
    assert fork.phase is Phase.CLOSING
    core.run()
    assert fork.phase is Phase.CLOSED
    assert core.pool.out == set(session.rows)


def test_a_fork_of_a_session_that_closes_first(core: Core) -> None:
    session = core.open()
    core.step(session, [1])
    fork = core.fork(session)
    step = core.step(fork, [1])
    core.close(session)
    core.check()
    assert fork.phase is Phase.CLOSED
    assert isinstance(core.result(step), SessionClosed)


def test_sharing_may_be_cancelled(core: Core, initial: int) -> None:
    session, target = core.open(), core.open()
    core.step(session, [1])
    share = core.ask(session, Share(target=target))
    core.cancel(session, share)
    core.run()
    assert not core.answered(share)
    assert core.values(target) == [initial]


def test_a_fork_of_a_session_on_the_host(make_core: type[Core]) -> None:
    core = make_core(max_batch_size=2, max_resident_rows=4)
    sessions = [core.open() for _ in range(9)]
    for session in sessions:
        core.step(session, [1])
        core.run()
    assert sessions[0].on_host
    fork = core.fork(sessions[0])
    core.check()
    assert fork.on_host
    core.step(fork, [2])
    core.run()
    assert not fork.on_host
    assert sessions[0].on_host
    assert (core.values(sessions[0]), core.values(fork)) == ([22], [68])


def test_a_held_session_reads_what_it_has(core: Core) -> None:
    session = core.open()
    core.step(session, [1])
    fork = core.fork(session)
    read = core.ask(fork, Read())
    core.run()
    assert core.result(read).states["value"].tolist() == [22]
    assert core.result(read).step == 1

"""Frames that are cancelled, and sessions that are closed while they stand in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core.phases import Phase
from server.errors import SessionClosed

if TYPE_CHECKING:
    Core = Any  # of driven.py


def lasts(core: Core, frame: Any) -> list[int]:
    return core.result(frame).outputs["last"].tolist()


def kinds(core: Core, frame: Any) -> dict[int, type]:
    """Of its errors."""
    return {position: type(error) for position, error in core.result(frame).errors.items()}


def sizes(jobs: list[Any]) -> list[int]:
    return [job.size for job in jobs]


# ---- closed -------------------------------------------------------------------------------------


def test_a_session_that_was_closed_before_has_an_error(core: Core) -> None:
    gone, there = core.open(), core.open()
    core.close(gone)
    frame = core.frame([gone, there], [[1], [2]])
    core.run()
    assert kinds(core, frame) == {0: SessionClosed}
    assert lasts(core, frame) == [0, 23]


@pytest.mark.parametrize("when", ["waiting", "running", "between pieces"])
def test_a_session_that_is_closed_meanwhile(core: Core, when: str) -> None:
    gone, there = core.open(), core.open()
    frame = core.frame([gone, there], [range(6), range(6)])
    if when != "waiting":
        core.begin()
    if when == "between pieces":
        core.finish()
    core.close(gone)
    assert gone.phase is Phase.CLOSING
    assert core.closed == []
    core.run()
    assert kinds(core, frame) == {0: SessionClosed}
    assert core.result(frame).steps.tolist() == [0, 1]
    assert gone.phase is Phase.CLOSED
    assert core.closed == [gone]


def test_all_sessions_of_a_frame_are_closed_while_it_runs(core: Core) -> None:
    sessions = [core.open(), core.open()]
    frame = core.frame(sessions, [[1], [2]])
    core.begin()
    for session in sessions:
        core.close(session)
    core.run()
    assert kinds(core, frame) == {0: SessionClosed, 1: SessionClosed}
    assert core.pool.out == set()


def test_a_closed_session_leaves_when_the_last_of_its_frames_is_done(core: Core) -> None:
    session = core.open()
    frames = [core.frame([session], [[value]]) for value in (1, 2)]
    read = core.read(session)
    core.begin()
    core.close(session)
    assert isinstance(core.result(read), SessionClosed)
    core.finish()
    assert session.phase is Phase.CLOSING
    core.run()
    assert session.phase is Phase.CLOSED
    assert [kinds(core, frame) for frame in frames] == [{0: SessionClosed}] * 2


def test_a_session_in_a_frame_does_not_expire(core: Core) -> None:
    session = core.open(idle_ttl_s=5.0)
    core.frame([session], [[1]])
    core.now_s = 60.0
    assert core.sessions.expire(60.0) == []
    core.run()
    core.now_s = 64.0
    assert core.sessions.expire(64.0) == []
    assert core.sessions.expire(65.0) == [session]


# ---- cancelled ----------------------------------------------------------------------------------


def test_a_cancelled_frame_does_not_run(core: Core) -> None:
    sessions = [core.open(), core.open()]
    frame = core.frame(sessions, [[1], [2]])
    core.cancel_frame(frame)
    assert core.run() == []
    assert not core.answered(frame)
    assert [session.phase for session in sessions] == [Phase.IDLE] * 2
    assert core.ledger.pending == core.ledger.pending_bytes == 0


def test_what_runs_when_a_frame_is_cancelled_counts(core: Core) -> None:
    sessions = [core.open() for _ in range(6)]
    frame = core.frame(sessions, [[1]] * 6)
    core.begin()
    core.cancel_frame(frame)
    core.cancel_frame(frame)
    core.run()
    assert [session.step for session in sessions] == [1, 1, 1, 1, 0, 0]
    assert not core.answered(frame)


def test_a_frame_that_is_cancelled_between_pieces(core: Core) -> None:
    sessions = [core.open() for _ in range(6)]
    frame = core.frame(sessions, [range(6)] * 6)
    core.begin()
    core.finish()
    core.cancel_frame(frame)
    core.run()
    assert [session.step for session in sessions] == [1, 1, 1, 1, 0, 0]
    assert not core.answered(frame)
    assert not core.scheduler._frames


def test_another_frame_goes_on_when_one_is_cancelled(core: Core) -> None:
    session = core.open()
    frames = [core.frame([session], [[value]], [1]) for value in (1, 2)]
    core.cancel_frame(frames[0])
    core.run()
    assert lasts(core, frames[1]) == [23]
    assert session.step == 1


def test_cancel_of_a_frame_cancels_steps_that_wait_elsewhere(core: Core) -> None:
    busy, idle = core.open(), core.open()
    core.step(busy, [1])
    frame = core.frame([busy, idle], [[2], [3]])
    core.cancel_frame(frame)
    core.run()
    assert (busy.step, idle.step) == (1, 0)
    assert not core.answered(frame)
    core.check()


def test_a_frame_whose_answer_is_there_may_be_cancelled(core: Core) -> None:
    session = core.open()
    frame = core.frame([session], [[1]])
    core.begin()
    core.finish()
    core.cancel_frame(frame)
    assert not core.answered(frame)
    assert session.step == 1


def test_cancel_of_the_only_request_behind_a_frame(core: Core) -> None:
    session = core.open()
    frame = core.frame([session], [[1]])
    step = core.step(session, [2])
    core.cancel(session, step)
    again = core.frame([session], [[3]])
    read = core.read(session)
    core.run()
    assert core.result(frame).steps.tolist() == [1]
    assert core.result(again).steps.tolist() == [2]
    assert core.result(read).step == 2
    assert not core.answered(step)

"""Frames: a step of each of many sessions in one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core.frame import FrameRun
from server.core.phases import Phase
from server.core.requests import Framed
from server.errors import InvalidRequest, LimitReached, SessionNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    Core = Any  # of driven.py


def lasts(core: Core, frame: Any) -> list[int]:
    return core.result(frame).outputs["last"].tolist()


def kinds(core: Core, frame: Any) -> dict[int, type]:
    """Of its errors."""
    return {position: type(error) for position, error in core.result(frame).errors.items()}


def sizes(jobs: list[Any]) -> list[int]:
    return [job.size for job in jobs]


def test_every_session_makes_its_step(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    sessions = [core.open() for _ in range(3)]
    core.step(sessions[1], [9])
    core.run()
    frame = core.frame(sessions, [[1, 2], [3, 4], [5, 6]])
    assert [session.phase for session in sessions] == [Phase.FRAMED] * 3
    (job,) = core.run()
    assert isinstance(job, FrameRun)
    result = core.result(frame)
    assert isinstance(result, Framed)
    expected = [lone(initial, [1, 2]), lone(initial, [9, 3, 4])[1:], lone(initial, [5, 6])]
    assert result.outputs["y"].tolist() == expected
    assert result.outputs["last"].tolist() == [row[-1] for row in expected]
    assert result.steps.tolist() == [1, 2, 1]
    assert result.errors == {}
    assert [core.values(session) for session in sessions] == [[row[-1]] for row in expected]
    assert [session.phase for session in sessions] == [Phase.IDLE] * 3
    assert not any(session.fresh for session in sessions)


def test_a_large_frame_runs_in_parts(core: Core) -> None:
    sessions = [core.open() for _ in range(10)]
    frame = core.frame(sessions, [[value] for value in range(10)])
    jobs = core.run()
    assert sizes(jobs) == [4, 4, 2]
    assert lasts(core, frame) == [21 + value for value in range(10)]


def test_a_long_frame_runs_in_pieces_and_a_part_to_its_end(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    sessions = [core.open() for _ in range(6)]
    frame = core.frame(sessions, [range(i, i + 10) for i in range(6)])
    jobs = core.run()
    assert [(job.size, job.position, job.timesteps) for job in jobs] == [
        (4, 0, 4), (4, 4, 4), (4, 8, 2), (2, 0, 4), (2, 4, 4), (2, 8, 2),
    ]  # fmt: skip
    y = core.result(frame).outputs["y"].tolist()
    assert y == [lone(initial, range(i, i + 10)) for i in range(6)]


def test_where_requests_run_whole_so_do_frames(make_core: type[Core]) -> None:
    core = make_core(max_chunk=None)
    frame = core.frame([core.open(), core.open()], [range(9), range(9)])
    (job,) = core.run()
    assert job.timesteps is None
    assert core.result(frame).outputs["y"].shape == (2, 9)


def test_frames_that_come_together_share_a_run(core: Core) -> None:
    sessions = [core.open() for _ in range(6)]
    frames = [core.frame(sessions[i : i + 2], [[1], [2]]) for i in (0, 2, 4)]
    jobs = core.run()
    assert sizes(jobs) == [4, 2]
    assert [lasts(core, frame) for frame in frames] == [[22, 23]] * 3


def test_a_frame_may_fill_up_the_run_of_another(core: Core) -> None:
    sessions = [core.open() for _ in range(6)]
    frames = [core.frame(sessions[:3], [[1]] * 3), core.frame(sessions[3:], [[2]] * 3)]
    assert sizes(core.run()) == [4, 2]
    assert [lasts(core, frame) for frame in frames] == [[22] * 3, [23] * 3]


@pytest.mark.parametrize("other", ["shapes", "timesteps", "length", "session"])
def test_frames_that_cannot_share_a_run_do_not(core: Core, other: str) -> None:
    one, two = core.open(), core.open()
    values = [1] * 5 if other == "length" else [1]
    core.frame([one], [values])
    core.frame(
        [one if other == "session" else two],
        [values * 2 if other == "timesteps" else values],
        shapes=("y",) if other == "shapes" else ("x",),
    )
    assert all(job.size == 1 for job in core.run())
    assert one.step + two.step == 2


def test_frames_of_the_same_sessions_run_one_after_the_other(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    sessions = [core.open(), core.open()]
    frames = [core.frame(sessions, [[i], [i]], [i, i]) for i in (1, 2, 3)]
    assert len(core.run()) == 3
    expected = lone(initial, [1, 2, 3])
    assert [lasts(core, frame) for frame in frames] == [[each] * 2 for each in expected]
    assert core.result(frames[2]).steps.tolist() == [3, 3]


def test_frames_and_single_steps_take_turns(core: Core) -> None:
    sessions = [core.open() for _ in range(9)]
    core.frame(sessions[:8], [[1]] * 8)
    core.step(sessions[8], [1])
    core.step(sessions[8], [2])
    jobs = core.run()
    kinds = [isinstance(job, FrameRun) for job in jobs]
    assert kinds in ([True, False, True, False], [False, True, False, True])


def test_a_session_that_is_busy_steps_when_its_turn_comes(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    busy, idle = core.open(), core.open()
    step = core.step(busy, [1])
    frame = core.frame([busy, idle], [[2], [3]])
    assert (busy.phase, idle.phase) == (Phase.QUEUED, Phase.FRAMED)
    core.run()
    assert core.result(step).outputs["last"].tolist() == lone(initial, [1])
    assert lasts(core, frame) == [lone(initial, [1, 2])[-1], lone(initial, [3])[-1]]
    assert core.result(frame).steps.tolist() == [2, 1]


def test_what_a_session_in_a_frame_is_asked_waits_and_frames_behind_that_too(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    frames = [core.frame([session], [[1]])]
    write = core.write(session, 5)
    frames.append(core.frame([session], [[2]]))
    read = core.read(session)
    core.run()
    assert [lasts(core, frame) for frame in frames] == [lone(initial, [1]), lone(5, [2])]
    assert core.result(write).step == 1
    assert core.result(read).step == 2


def test_a_step_that_does_not_get_a_place_in_its_queue(make_core: type[Core]) -> None:
    core = make_core(max_pending_per_session=1)
    busy, idle = core.open(), core.open()
    core.step(busy, [1])
    frame = core.frame([busy, idle], [[2], [3]])
    core.run()
    assert kinds(core, frame) == {0: LimitReached}
    assert lasts(core, frame) == [0, 24]
    assert (busy.step, idle.step) == (1, 1)


def test_positions_that_are_wrong_already_are_not_looked_at(core: Core) -> None:
    session = core.open()
    frame = core.frame([session] * 3, [[1]] * 3, errors=dict.fromkeys((0, 2), SessionNotFound()))
    core.run()
    assert kinds(core, frame) == {0: SessionNotFound, 2: SessionNotFound}
    assert lasts(core, frame) == [0, 22, 0]
    assert core.result(frame).steps.tolist() == [0, 1, 0]


def test_a_frame_in_which_everything_is_wrong_is_answered_at_once(core: Core) -> None:
    frame = core.frame([core.open()], [[1]], errors={0: SessionNotFound("no")})
    assert core.result(frame).outputs == {}
    assert core.begin() is None
    assert not core.scheduler._frames


def test_a_session_may_stand_in_a_frame_only_once(core: Core) -> None:
    session = core.open()
    with pytest.raises(InvalidRequest, match="only once"):
        core.frame([session, session], [[1], [2]])
    assert session.phase is Phase.IDLE
    core.check()


def test_a_session_of_several_rows_has_no_place_in_a_frame(core: Core) -> None:
    session = core.open(batch_size=2)
    with pytest.raises(InvalidRequest, match="several rows"):
        core.frame([session], [[1]])
    core.check()


@pytest.mark.parametrize("limits", [{"max_pending": 3}, {"max_pending_bytes": 20}])
def test_a_frame_that_is_too_much_is_refused_whole(
    make_core: type[Core], limits: dict[str, int]
) -> None:
    """Frames may fill three quarters of what may wait."""
    core = make_core(**limits)
    sessions = [core.open() for _ in range(3)]
    core.step(sessions[0], [1])
    with pytest.raises(LimitReached, match="wait already"):
        core.frame(sessions, [[1]] * 3)
    assert [session.phase for session in sessions[1:]] == [Phase.IDLE] * 2
    core.run()
    frame = core.frame(sessions[1:], [[1]] * 2)
    core.run()
    assert core.result(frame).errors == {}


def test_as_many_frames_may_hold_a_session_as_may_be_pending(core: Core) -> None:
    session = core.open()
    core.frame([session], [[1]])
    assert core.limits.max_pending >= 2**16
    core.table.frames[session.slot] = 2**16 - 1
    frame = core.frame([session], [[1]])
    assert core.table.frames[session.slot] == 2**16
    core.table.frames[session.slot] = 2
    core.run()
    assert core.result(frame).steps.tolist() == [2]

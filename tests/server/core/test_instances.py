"""Several jobs under way at a time, which end in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core.batch import Batch, MoveOut, ReadRows, WriteRows
from server.core.frame import FrameRun
from server.core.ledger import Limits
from server.errors import SessionClosed, StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.core.session import Session

    Core = Any  # of driven.py
    Lone = Callable[..., list[int]]


@pytest.fixture
def two(make_core: type[Core]) -> Core:
    return make_core(instances=2, max_batch_size=2)


def kinds(jobs: list[Any]) -> list[type]:
    return [type(job) for job in jobs]


def test_rows_are_set_aside_for_every_instance() -> None:
    one, three = (Limits(10, 1000, 50, instances=count) for count in (1, 3))
    assert (one.max_working_rows, three.max_working_rows) == (40, 60)
    assert (one.spare_rows, three.spare_rows) == (40 + 30, 60 + 90)
    assert (one.resident_rows, three.resident_rows) == (50, 60)


def test_what_has_no_room_in_a_batch_runs_beside_it(two: Core, lone: Lone, initial: int) -> None:
    sessions = [two.open() for _ in range(5)]
    steps = [two.step(session, [value]) for value, session in enumerate(sessions)]
    first, second = two.begin_all()
    assert [job.size for job in (first, second)] == [2, 2]
    two.finish(job=second)
    assert [two.answered(step) for step in steps] == [False, False, True, True, False]
    assert two.begin().size == 1
    two.finish()
    two.finish()
    for value, step in enumerate(steps):
        assert two.result(step).outputs["last"].tolist() == lone(initial, [value])
    two.check()


def test_a_sessions_steps_come_one_after_the_other(two: Core, lone: Lone, initial: int) -> None:
    session = two.open()
    steps = [two.step(session, [value]) for value in range(3)]
    for count in range(3):
        assert len(two.begin_all()) == 1
        assert [two.answered(step) for step in steps] == [True] * count + [False] * (3 - count)
        two.finish()
    assert [two.result(step).outputs["last"].item() for step in steps] == lone(initial, range(3))


def test_a_long_request_and_short_ones(two: Core, lone: Lone, initial: int) -> None:
    """Whoever is not done goes on beside whoever came meanwhile."""
    long, short = two.step(two.open(), range(10)), two.step(two.open(), range(3))
    two.begin()  # three timesteps of both
    other = two.step(two.open(), [5])
    assert len(two.begin_all()) == 2
    two.finish()
    two.begin_all()
    two.finish(job=two.jobs[1])
    assert not two.answered(other)
    two.run()
    for step, values in ((long, range(10)), (short, range(3)), (other, [5])):
        assert two.result(step).outputs["y"].tolist() == [lone(initial, values)]


def test_states_are_read_and_written_beside_a_run(make_core: type[Core], initial: int) -> None:
    core = make_core(instances=3)
    sessions = [core.open() for _ in range(3)]
    step = core.step(sessions[0], [1])
    core.begin()
    read, write = core.read(sessions[1]), core.write(sessions[2], 5)
    assert kinds(core.begin_all()) == [Batch, ReadRows, WriteRows]
    after = core.step(sessions[2], [1])
    core.finish(job=core.jobs[2])
    core.finish(job=core.jobs[1])
    assert core.result(read).states["value"].tolist() == [initial]
    assert core.result(write).step == 0
    core.run()
    assert core.result(step).outputs["last"].tolist() == [3 * initial + 1]
    assert core.result(after).outputs["last"].tolist() == [3 * 5 + 1]


def test_a_batch_that_fails_beside_another(two: Core) -> None:
    sessions = [two.open() for _ in range(4)]
    steps = [two.step(session, [value]) for value, session in enumerate(sessions)]
    first, second = two.begin_all()
    two.finish(StepFailed("no"), first)
    assert [entry.step for entry in two.begin().entries] == steps[:1]  # by itself
    two.finish(StepFailed("no"), two.jobs[1])
    two.finish(job=second)
    two.run()
    assert isinstance(two.result(steps[0]), StepFailed)
    assert [two.result(step).step for step in steps[1:]] == [1, 1, 1]


def test_sessions_close_while_they_run(two: Core) -> None:
    sessions = [two.open() for _ in range(4)]
    steps = [two.step(session, [1]) for session in sessions]
    later = two.step(sessions[0], [2])
    first, second = two.begin_all()
    two.close(sessions[0])
    two.cancel(sessions[2], steps[2])
    two.finish(job=second)
    assert (two.closed, sessions[2].step) == ([], 1)
    two.finish(job=first)
    assert two.closed == [sessions[0]]
    assert isinstance(two.result(later), SessionClosed)
    two.check()


# ---- frames -------------------------------------------------------------------------------------


def test_the_parts_of_a_frame_run_beside_each_other(two: Core, lone: Lone, initial: int) -> None:
    sessions = [two.open() for _ in range(6)]
    frame = two.frame(sessions, [range(value, value + 9) for value in range(6)])
    started: list[Session] = []
    while jobs := two.begin_all():
        assert len(jobs) <= 2
        started += [two.table.sessions[slot] for job in jobs for slot in job.parts[0].slots]
        two.finish(job=jobs[-1])
        two.check()
    expected = [lone(initial, range(value, value + 9)) for value in range(6)]
    assert two.result(frame).outputs["y"].tolist() == expected
    assert set(started[:4]) == set(sessions[:4])  # the third part waits for an end


def test_a_frame_waits_for_the_one_before_it_that_has_a_session_of_it(
    two: Core, lone: Lone, initial: int
) -> None:
    shared, other = two.open(), two.open()
    first, second = two.frame([shared], [[1]]), two.frame([other, shared], [[2], [3]])
    third = two.frame([two.open()], [[4]])
    assert two.begin() is not None
    assert two.begin() is None
    single = two.step(two.open(), [5])  # is not held up
    assert kinds(two.begin_all()) == [FrameRun, Batch]
    two.finish(StepFailed("no"))
    two.run()
    assert isinstance(two.result(first).errors[0], StepFailed)
    assert two.result(second).outputs["last"].tolist() == [3 * initial + 2, 3 * initial + 3]
    assert two.result(third).outputs["last"].tolist() == lone(initial, [4])
    assert two.result(single).step == 1


def test_frames_of_different_sessions_run_beside_each_other(two: Core) -> None:
    frames = [two.frame([two.open(), two.open()], [[1], [2]]) for _ in range(2)]
    assert kinds(two.begin_all()) == [FrameRun, FrameRun]
    two.finish(job=two.jobs[1])
    assert [two.answered(frame) for frame in frames] == [False, True]
    two.finish()
    assert two.answered(frames[0])


def test_a_part_that_fails_beside_another_is_tried_again_before_later_frames(
    two: Core, lone: Lone, initial: int
) -> None:
    sessions = [two.open() for _ in range(4)]
    frame = two.frame(sessions, [[value] for value in range(4)])
    later = two.frame(sessions, [[9]] * 4)
    first, second = two.begin_all()
    two.finish(StepFailed("no"), first)
    (again,) = [job for job in two.begin_all() if job is not second]
    assert again.parts[0].positions.tolist() == [0]
    two.finish(job=second)
    two.run()
    assert two.result(frame).errors == {}
    expected = [lone(initial, [value, 9])[-1] for value in range(4)]
    assert two.result(later).outputs["last"].tolist() == expected


def test_a_frame_that_is_cancelled_between_its_pieces(two: Core) -> None:
    sessions = [two.open() for _ in range(6)]
    frame = two.frame(sessions, [range(9)] * 6)
    first, second = two.begin_all()
    two.finish(job=first)
    two.cancel_frame(frame)
    two.begin_all()
    two.finish(StepFailed("no"), second)
    two.run()
    assert [session.step for session in sessions] == [1, 1, 0, 0, 0, 0]
    assert not two.answered(frame)
    two.check()


# ---- making room --------------------------------------------------------------------------------


@pytest.fixture
def full(make_core: type[Core]) -> Core:
    """Six sessions that have stepped: the device has room for them and one batch."""
    core = make_core(instances=2, max_batch_size=2, max_resident_rows=1)
    assert core.limits.resident_rows == 8
    for _ in range(6):
        core.step(core.open(), [0])
        core.run()
    assert not core.ledger.short_of_rows
    return core


def begin_move(full: Core) -> MoveOut:
    """Somebody needs a row, and those who leave for that are on their way."""
    for _ in range(2):
        full.step(full.open(), [0])
    full.run()
    full.step(full.open(), [1])
    assert kinds(full.begin_all()) == [MoveOut]
    return full.jobs[0]


def test_who_needs_room_waits_until_it_is_made(full: Core) -> None:
    begin_move(full)
    assert full.begin() is None
    full.finish()
    assert kinds(full.begin_all()) == [Batch]
    full.run()
    assert [session.on_host for session in full.everyone] == [True] * 2 + [False] * 7


def test_who_stands_in_a_frame_stays_while_frames_run(full: Core) -> None:
    frame = full.frame(full.everyone, [[1]] * 6)
    assert kinds(full.begin_all()) == [FrameRun]  # as that may need rows, there is no room now
    step = full.step(full.open(), [1])
    assert full.begin() is None
    full.finish()
    full.run()
    assert full.result(step).step == 1
    assert full.result(frame).outputs["last"].tolist() == [3 * 21 + 1] * 6


@pytest.fixture
def leaving(full: Core) -> Core:
    """The states of the first two sessions are read, and there is room again."""
    assert begin_move(full).sessions == tuple(full.everyone[:2])
    for session in full.everyone[4:8]:
        full.close(session)
    assert kinds(full.begin_all()) == [MoveOut, Batch]
    full.finish(job=full.jobs[1])
    return full


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("framed", [False, True])
def test_who_steps_while_its_states_are_read_stays(
    leaving: Core, lone: Lone, initial: int, framed: bool, ended: bool
) -> None:
    first, second, *_ = leaving.everyone
    values = [1, 2] if ended else [1]
    for value in values:
        if framed:
            leaving.frame([first], [[value]])
        else:
            leaving.step(first, [value])
    (move,) = leaving.jobs
    while leaving.begin() is not None and ended:
        leaving.finish(job=leaving.jobs[1])
    leaving.finish(job=move)
    leaving.check()
    assert [first.on_host, second.on_host] == [False, True]
    leaving.run()
    assert leaving.values(first) == lone(initial, [0, *values])[-1:]


def test_rows_whose_states_are_read_are_nobody_elses_until_then(leaving: Core) -> None:
    (move,) = leaving.jobs
    first, second, *_ = leaving.everyone
    for session in (first, second):
        leaving.write(session, None)  # at once: their rows are theirs no more
        leaving.step(session, [5])
    assert {first.rows, second.rows} == {(0,)}
    while leaving.begin() is not None:
        leaving.finish(job=leaving.jobs[1])
    leaving.finish(job=move)
    assert not first.on_host
    assert leaving.pool.out.isdisjoint(move.rows)
    leaving.check()

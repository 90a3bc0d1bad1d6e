"""Where the device has room for fewer sessions than there are, the idle ones move to the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core.batch import MoveOut
from server.core.ledger import Limits
from server.core.phases import Phase
from server.core.requests import States
from server.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    Core = Any  # of driven.py


@pytest.fixture
def small(make_core: type[Core]) -> Core:
    """Room for four rows of sessions, a batch of two runs at a time."""
    return make_core(max_batch_size=2, max_rows=64, max_resident_rows=4)


def stepped(core: Core, count: int, batch_size: int = 1) -> list[Any]:
    """Sessions that have made a step, one after the other."""
    sessions = [core.open(batch_size=batch_size) for _ in range(count)]
    for value, session in enumerate(sessions):
        core.now_s += 1
        core.step(session, [value])
        core.run()
    return sessions


def away(sessions: list[Any]) -> list[bool]:
    return [session.on_host for session in sessions]


def test_there_is_room_for_some_batches_at_least() -> None:
    assert Limits(max_batch_size=8, max_rows=100, max_resident_rows=1).resident_rows == 16
    assert Limits(max_batch_size=8, max_rows=100, max_resident_rows=50).resident_rows == 50
    assert Limits(max_batch_size=8, max_rows=100, max_resident_rows=500).resident_rows == 100
    assert Limits(max_batch_size=8, max_rows=100).resident_rows == 100


def test_nobody_leaves_while_there_is_room(small: Core) -> None:
    sessions = stepped(small, 2)
    assert away(sessions) == [False] * 2


def test_those_who_were_used_least_recently_leave_first(small: Core) -> None:
    sessions = stepped(small, 3)
    assert not any(away(sessions))  # room is made when somebody needs it
    small.now_s += 1
    small.step(sessions[0], [1])
    small.run()
    assert away(sessions) == [False, True, True]
    assert small.closed == []


def test_no_more_rows_are_on_the_device_than_there_is_room_for(small: Core) -> None:
    sessions = stepped(small, 20)
    assert sum(not session.on_host for session in sessions) <= 4
    assert len(small.pool.out) <= 4


def test_a_session_comes_back_with_its_next_step(
    small: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    sessions = stepped(small, 6)
    assert sessions[0].on_host
    small.now_s += 1
    step = small.step(sessions[0], [7])
    small.run()
    assert small.result(step).outputs["last"].tolist() == lone(initial, [0, 7])[1:]
    assert not sessions[0].on_host
    assert sessions[0].kept is None


def test_sessions_of_several_rows_move_whole(small: Core, initial: int) -> None:
    sessions = stepped(small, 6, batch_size=2)
    assert away(sessions[:4]) == [True] * 4
    assert sessions[0].rows == (-1, -1)
    small.step(sessions[0], [7])
    small.run()
    first = [3 * initial, 3 * initial + 100]
    assert small.values(sessions[0]) == [3 * first[0] + 7, 3 * first[1] + 107]


def test_frames_bring_sessions_back(
    small: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    sessions = stepped(small, 6)
    frame = small.frame(sessions, [range(9)] * 6)
    small.run()
    expected = [lone(initial, [value, *range(9)])[-1] for value in range(6)]
    assert small.result(frame).outputs["last"].tolist() == expected
    assert [small.values(session) for session in sessions] == [[value] for value in expected]


def test_a_frame_of_sessions_that_come_back_and_others(small: Core) -> None:
    sessions = stepped(small, 5)
    mixed = [sessions[0], sessions[4]]
    assert away(mixed) == [True, False]
    frame = small.frame(mixed, [[1], [1]])
    small.run()
    assert small.result(frame).outputs["last"].tolist() == [3 * 21 + 1, 3 * 25 + 1]


@pytest.mark.parametrize("framed", [False, True])
def test_a_run_that_fails_leaves_the_session_on_the_host(small: Core, framed: bool) -> None:
    session = stepped(small, 6)[0]
    request = small.frame([session], [[1]]) if framed else small.step(session, [1])
    small.run(lambda job: None if isinstance(job, MoveOut) else StepFailed("no"))
    result = small.result(request)
    assert isinstance(result.errors[0] if framed else result, StepFailed)
    assert session.on_host
    assert small.values(session) == [21]


def test_a_peek_leaves_the_session_on_the_host(small: Core) -> None:
    session = stepped(small, 6)[0]
    peek = small.step(session, range(9), peek=True, return_state=True)
    small.run()
    assert small.result(peek).states["count"].tolist() == [10]
    assert session.on_host
    assert small.values(session) == [21]


def test_a_session_on_the_host_is_read_without_the_engine(small: Core) -> None:
    session = stepped(small, 6)[0]
    read = small.read(session)
    result = small.result(read)
    assert isinstance(result, States)
    assert result.states["value"].tolist() == [21]
    assert (result.step, result.fresh) == (1, False)


@pytest.mark.parametrize("value", [None, 5])
def test_a_session_on_the_host_is_written(small: Core, initial: int, value: int | None) -> None:
    session = stepped(small, 6)[0]
    small.now_s += 1
    small.write(session, value)
    small.run()
    assert not session.on_host
    assert small.values(session) == [initial if value is None else value]


def test_a_session_on_the_host_is_closed(small: Core) -> None:
    session = stepped(small, 6)[0]
    small.close(session)
    small.check()
    assert session.kept is None


def test_sessions_that_have_not_begun_take_no_room(small: Core) -> None:
    fresh = [small.open() for _ in range(30)]
    stepped(small, 2)
    assert not any(away(fresh))
    small.check()


def test_who_waits_for_its_turn_may_leave_as_well(small: Core) -> None:
    sessions = stepped(small, 4)
    steps = [small.step(session, [1]) for session in sessions * 3]
    small.run()
    assert [small.result(step).step for step in steps] == [2] * 4 + [3] * 4 + [4] * 4


def test_a_long_step_goes_on_although_its_session_has_left(
    small: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    sessions = stepped(small, 4)
    step = small.step(sessions[3], range(20))
    others = [small.open() for _ in range(8)]
    for other in others:
        small.step(other, range(3))
    small.run()
    assert small.result(step).outputs["y"].tolist()[0] == lone(initial, [3, *range(20)])[1:]


def test_who_waits_for_the_states_makes_room_as_well(small: Core) -> None:
    sessions = [small.open() for _ in range(64)]
    steps = [small.step(session, [1], return_state=True) for session in sessions]
    small.run()
    assert [small.result(step).states["value"].item() for step in steps] == [22] * 64
    assert len(small.pool.out) <= 4


def test_many_writes_make_room_as_well(small: Core) -> None:
    sessions = stepped(small, 40)
    for session in sessions:
        small.write(session, 5)
    small.run()
    assert [small.values(session) for session in sessions] == [[5]] * 40


@pytest.fixture
def leaving(small: Core) -> Any:
    """A session whose states are read right now, so that it can leave."""
    stepped(small, 3)
    small.step(small.open(), [1])
    job = small.begin()
    assert isinstance(job, MoveOut)
    return job.sessions[0]


@pytest.mark.parametrize("value", [None, 5])
def test_a_session_that_is_written_while_its_states_are_read(
    small: Core, leaving: Any, initial: int, value: int | None
) -> None:
    small.write(leaving, value)
    small.finish()
    small.check()
    assert not leaving.on_host
    small.run()
    assert small.values(leaving) == [initial if value is None else value]


def test_a_session_that_is_closed_while_its_states_are_read(small: Core, leaving: Any) -> None:
    small.close(leaving)
    small.finish()
    small.check()
    assert leaving.kept is None
    small.run()


def test_a_session_that_is_to_be_read_stays(small: Core, leaving: Any) -> None:
    read = small.read(leaving)
    small.finish()
    assert (leaving.on_host, leaving.phase) == (False, Phase.QUEUED)
    small.run()
    assert isinstance(small.result(read), States)


def test_a_session_that_is_to_step_leaves_and_comes_back(small: Core, leaving: Any) -> None:
    before = small.values(leaving)
    step = small.step(leaving, [1])
    small.finish()
    assert leaving.on_host
    small.run()
    assert small.result(step).outputs["last"].item() == 3 * before[0] + 1


def test_a_session_that_shares_its_rows_leaves_by_itself(small: Core) -> None:
    sessions = stepped(small, 2)
    fork = small.fork(sessions[0])
    small.check()
    stepped(small, 6)
    assert small.values(fork) == small.values(sessions[0]) == [21]
    small.check()


def test_where_all_rows_are_at_work_nobody_leaves(small: Core) -> None:
    sessions = [small.open() for _ in range(8)]
    steps = [small.step(session, range(9)) for session in sessions]
    for _ in range(3):
        assert not isinstance(small.begin(), MoveOut)
        small.finish()
    assert small.ledger.short_of_rows
    small.run()
    assert [small.result(step).step for step in steps] == [1] * 8


def test_nobody_waits_any_more_when_the_states_cannot_be_read(small: Core) -> None:
    sessions = stepped(small, 3)
    step = small.step(sessions[0], [1])
    assert isinstance(small.begin(), MoveOut)
    small.cancel(sessions[0], step)
    small.finish(StepFailed("no"))
    assert small.begin() is None
    assert not any(away(sessions))
    small.check()


def no_leaving(job: Any) -> StepFailed | None:
    return StepFailed("no") if isinstance(job, MoveOut) else None


def test_states_that_cannot_be_read_do_not_stop_the_others(small: Core) -> None:
    sessions = stepped(small, 3)
    steps = [small.step(small.open(), [1]) for _ in range(2)]
    small.begin()
    small.finish(StepFailed("no"))
    small.run()
    assert isinstance(small.result(steps[0]), StepFailed)  # it waited longest
    assert small.result(steps[1]).step == 1
    assert away(sessions) == [True, True, False]


def test_where_nobody_can_leave_somebody_is_told_so(small: Core) -> None:
    steps = [small.step(small.open(), [1]) for _ in range(40)]
    small.run(no_leaving)
    results = [small.result(step) for step in steps]
    made = [result for result in results if not isinstance(result, StepFailed)]
    assert 0 < len(made) < 40
    assert sum(session.step for session in small.everyone) == len(made)
    assert [session.phase for session in small.everyone] == [Phase.IDLE] * 40


@pytest.mark.parametrize("timesteps", [1, 9])
def test_where_nobody_can_leave_frames_are_told_so(small: Core, timesteps: int) -> None:
    sessions = [small.open() for _ in range(12)]
    frame = small.frame(sessions, [[1] * timesteps] * 12)
    small.run(no_leaving)
    failed = small.result(frame).errors
    assert 0 < len(failed) < 12
    assert all(isinstance(error, StepFailed) for error in failed.values())
    steps = [int(position not in failed) for position in range(12)]
    assert [session.step for session in sessions] == steps


def test_a_committed_step_that_waits_when_nobody_can_leave(small: Core) -> None:
    sessions = [small.open() for _ in range(20)]
    for session in sessions:
        small.step(session, [1], index=1, return_state=True)
        small.step(session, [2], index=2, return_state=True)
    small.run(no_leaving)
    steps = [session.step for session in sessions]
    again = [small.step(session, [1], index=1) for session in sessions]
    small.run()
    assert [small.result(step).step for step in again] == [1] * 20
    assert sum(steps) >= 1

"""Long requests run in pieces, and short ones join between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.errors import SessionClosed, StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.core.batch import Batch

    Core = Any  # of driven.py

MAX_WORKING_ROWS = 16  # four batches of four


def who(job: Batch) -> list[Any]:
    return [entry.session for entry in job.entries]


def test_a_long_request_runs_in_pieces_and_is_answered_as_one(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open(batch_size=2)
    step = core.step(session, range(10))
    core.run()
    assert core.engine.runs == [(2, 4), (2, 4), (2, 2)]
    result = core.result(step)
    assert result.outputs["y"].tolist() == [
        lone(initial, range(10)),
        lone(initial, range(100, 110)),
    ]
    assert result.outputs["last"].tolist() == [row[-1] for row in result.outputs["y"].tolist()]
    assert result.step == session.step == 1
    assert core.engine.read(list(session.rows))["count"].tolist() == [10, 10]


def test_the_session_stays_as_it_was_until_the_last_piece(core: Core, initial: int) -> None:
    session = core.open()
    core.step(session, range(10))
    for _ in range(2):
        core.begin()
        core.finish()
        assert core.values(session) == [initial]
        assert session.step == 0
    core.begin()
    core.finish()
    assert core.values(session) != [initial]
    core.check()


def test_a_piece_ends_where_the_shortest_ends(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    long, short = core.open(), core.open()
    steps = [core.step(long, range(7)), core.step(short, [1, 2, 3])]
    core.run()
    assert core.engine.runs == [(2, 3), (1, 4)]
    assert core.result(steps[0]).outputs["y"].tolist() == [lone(initial, range(7))]
    assert core.result(steps[1]).outputs["y"].tolist() == [lone(initial, [1, 2, 3])]


def test_short_requests_join_between_the_pieces_of_a_long_one(core: Core) -> None:
    long, short = core.open(), core.open()
    core.step(long, range(12))
    core.begin()
    late = core.step(short, [1, 2])
    core.finish()
    job = core.begin()
    assert who(job) == [short, long]
    core.finish()
    assert core.answered(late)
    core.run()
    assert core.engine.runs == [(1, 4), (2, 2), (1, 4), (1, 2)]


def test_a_full_batch_of_long_requests_makes_room_for_short_ones(core: Core) -> None:
    longs = [core.open() for _ in range(4)]
    for session in longs:
        core.step(session, range(40))
    core.begin()
    short = core.step(core.open(), [1])
    core.finish()
    core.begin()
    core.finish()
    assert core.answered(short)
    core.run()


def test_a_model_that_may_not_be_cut_runs_requests_whole(
    make_core: Callable[..., Core], lone: Callable[..., list[int]], initial: int
) -> None:
    core = make_core(max_chunk=None)
    a, b, c = core.open(), core.open(), core.open()
    steps = [
        core.step(a, range(9), shapes=9),
        core.step(b, range(9), shapes=9),
        core.step(c, range(2), shapes=2),
    ]
    core.run()
    assert core.engine.runs == [(2, 9), (1, 2)]
    assert [core.result(step).outputs["y"].tolist()[0] for step in steps] == [
        lone(initial, range(9)),
        lone(initial, range(9)),
        lone(initial, range(2)),
    ]


def test_requests_beyond_the_working_rows_wait_outside(core: Core) -> None:
    sessions = [core.open(batch_size=4) for _ in range(6)]
    steps = [core.step(session, range(8)) for session in sessions]
    for _ in range(5):
        core.begin()
        core.finish()
        core.check()
    assert core.ledger.working_rows == MAX_WORKING_ROWS - 4  # the first is done
    assert "parked: 2" in repr(core.scheduler)
    core.run()
    assert all(core.result(step).step == 1 for step in steps)
    assert core.ledger.working_rows == 0


def hold_all_working_rows(core: Core) -> list[Any]:
    sessions = [core.open() for _ in range(MAX_WORKING_ROWS)]
    for session in sessions:
        core.step(session, range(400))
    for _ in range(4):
        core.begin()
        core.finish()
    assert core.ledger.working_rows == MAX_WORKING_ROWS
    return sessions


@pytest.mark.parametrize("leave", ["cancel", "close", "fail"])
def test_the_parked_come_back_when_those_inside_leave_early(core: Core, leave: str) -> None:
    inside = hold_all_working_rows(core)
    outside = [core.step(core.open(), [1]) for _ in range(3)]
    go_round(core)
    for session in inside:
        if leave == "cancel":
            core.cancel(session, session.first)
        elif leave == "close":
            core.close(session)
        core.check()
    ours = {id(session) for session in inside}
    core.run(lambda job: StepFailed("no") if {id(session) for session in who(job)} & ours else None)
    assert all(core.result(step).step == 1 for step in outside)
    assert core.ledger.working_rows == 0


@pytest.mark.parametrize("leave", ["cancel", "close"])
def test_the_parked_may_leave_too(core: Core, leave: str) -> None:
    inside = hold_all_working_rows(core)
    outside = [core.open() for _ in range(3)]
    steps = [core.step(session, [1]) for session in outside]
    go_round(core)
    assert "parked: 3" in repr(core.scheduler)
    if leave == "cancel":
        core.cancel(outside[0], steps[0])
        core.cancel(outside[1], steps[1])
        again = core.step(outside[1], [5])
    else:
        core.close(outside[0])
        assert isinstance(core.result(steps[0]), SessionClosed)
    for session in inside:
        core.cancel(session, session.first)
    core.run()
    assert core.result(steps[2]).step == 1
    if leave == "cancel":
        assert core.result(again).step == 1
        assert not core.answered(steps[0])
        assert not core.answered(steps[1])


def go_round(core: Core) -> None:
    """Enough runs for everybody in the lane to have a turn."""
    for _ in range(6):
        core.begin()
        core.finish()


def test_the_parked_that_have_left_take_no_room(core: Core) -> None:
    """A wide session that waited outside and left must not keep others there."""
    inside = hold_all_working_rows(core)
    wide, narrow = core.open(batch_size=4), core.open()
    step = core.step(wide, [1])
    core.step(narrow, [1])
    go_round(core)
    assert "parked: 2" in repr(core.scheduler)
    core.cancel(wide, step)
    core.cancel(inside[-1], inside[-1].first)  # room for one row
    go_round(core)
    assert narrow.step == 1


def test_the_parked_go_first_when_there_is_room(core: Core) -> None:
    inside = hold_all_working_rows(core)
    first, second = core.open(), core.open()
    core.step(first, range(400))
    go_round(core)
    core.step(second, range(400))
    core.cancel(inside[0], inside[0].first)
    go_round(core)
    assert (bool(first.first.working_rows), bool(second.first.working_rows)) == (True, False)


def test_a_wide_session_is_not_overtaken_forever_by_narrow_ones(core: Core) -> None:
    """One row gets free at a time; whoever takes it must not be a newcomer."""
    inside = hold_all_working_rows(core)
    step = core.step(core.open(batch_size=4), [1])
    go_round(core)
    for session in inside[:5]:
        core.cancel(session, session.first)
        core.step(core.open(), range(400))  # wants the row that has just become free
        go_round(core)
        core.check()
    assert core.answered(step)


def test_those_who_come_back_keep_their_order(core: Core) -> None:
    inside = hold_all_working_rows(core)
    outside = [core.open() for _ in range(4)]
    for session in outside:
        core.step(session, [1])
    go_round(core)
    for session in inside:
        core.cancel(session, session.first)
    job = core.begin()
    assert who(job) == outside
    core.finish()


def test_the_room_of_whoever_was_let_in_is_free_again_when_it_leaves(core: Core) -> None:
    inside = hold_all_working_rows(core)
    session = core.open()
    step = core.step(session, [1])
    go_round(core)
    core.cancel(inside[0], inside[0].first)
    core.step(core.open(), [1], shapes="other")
    core.read(core.open())  # takes the next turn
    core.begin()  # lets the session in
    core.cancel(session, step)
    core.finish()
    core.check()
    core.run()
    assert core.ledger.working_rows == 0


def test_a_lane_of_parked_sessions_does_not_stop_other_lanes(core: Core) -> None:
    hold_all_working_rows(core)
    core.step(core.open(), [1], shapes="other")
    read = core.read(core.open())
    for _ in range(5):
        core.begin()
        core.finish()
    assert core.answered(read)

"""Numbered steps in frames: the same session may be asked in a frame and by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from server.core import records
from server.core.records import hash_rows
from server.core.requests import Stepped
from server.errors import StepConflict, StepFailed, StepForgotten, StepGap

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    Core = Any  # of driven.py


def kinds(core: Core, frame: Any) -> dict[int, type]:
    """Of its errors."""
    return {position: type(error) for position, error in core.result(frame).errors.items()}


def made(core: Core, sessions: list[Any], values: list[list[int]], index: int = 1) -> Any:
    frame = core.frame(sessions, values, [index] * len(sessions))
    core.run()
    return frame


def outputs(core: Core, frame: Any) -> dict[str, Any]:
    return {name: array.tolist() for name, array in core.result(frame).outputs.items()}


def test_a_frame_that_was_made_is_answered_once_more_and_does_not_run(core: Core) -> None:
    sessions = [core.open() for _ in range(6)]
    values = [[i, i + 1] for i in range(6)]
    frame = made(core, sessions, values)
    runs = len(core.engine.runs)
    again = made(core, sessions, values)
    assert outputs(core, again) == outputs(core, frame)
    assert core.result(again).steps.tolist() == [1] * 6
    assert len(core.engine.runs) == runs


def test_a_frame_that_runs_is_waited_for(core: Core) -> None:
    sessions = [core.open(), core.open()]
    frame = core.frame(sessions, [[1], [2]], [1, 1])
    core.begin()
    again = core.frame(sessions, [[1], [2]], [1, 1])
    core.run()
    assert outputs(core, again) == outputs(core, frame)
    assert [session.step for session in sessions] == [1, 1]


def test_a_frame_that_was_cancelled_while_it_ran_is_remembered(core: Core) -> None:
    session = core.open()
    frame = core.frame([session], [[1]], [1])
    core.begin()
    core.cancel_frame(frame)
    core.finish()
    again = made(core, [session], [[1]])
    assert outputs(core, again)["last"] == core.values(session)
    assert session.step == 1


def test_what_was_made_and_what_is_new_may_stand_in_one_frame(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    done, new, ahead, behind = (core.open() for _ in range(4))
    made(core, [done], [[1]])
    core.step(behind, [1])
    core.run()
    frame = core.frame([done, new, ahead, behind], [[1], [2], [3], [4]], [1, 0, 2, 1])
    core.run()
    last = outputs(core, frame)["last"]
    assert last == [*lone(initial, [1]), *lone(initial, [2]), 0, 0]
    assert kinds(core, frame) == {2: StepGap, 3: StepForgotten}
    assert core.result(frame).errors[2].expected_step == 1
    assert core.result(frame).steps.tolist() == [1, 1, 0, 0]


def test_other_inputs_conflict_at_their_position(core: Core) -> None:
    sessions = [core.open() for _ in range(3)]
    made(core, sessions, [[1], [2], [3]])
    again = made(core, sessions, [[1], [9], [3]])
    assert kinds(core, again) == {1: StepConflict}
    assert outputs(core, again)["last"] == [22, 0, 24]


def test_zeros_of_another_length_conflict(core: Core) -> None:
    one, other = core.open(), core.open()
    made(core, [one], [[0]])
    frame = core.frame([one, other], [[0, 0], [0, 0]], [1, 1])
    core.run()
    assert kinds(core, frame) == {0: StepConflict}
    assert other.step == 1


def test_a_conflict_of_another_length_disturbs_nobody_else(core: Core) -> None:
    one, other = core.open(), core.open()
    made(core, [one], [[1, 2]])
    frame = core.frame([one, other], [[1], [2]], [1, 1])
    core.run()
    assert kinds(core, frame) == {0: StepConflict}
    assert outputs(core, frame) == {"y": [[0], [23]], "last": [0, 23]}


def test_a_framed_step_may_be_asked_for_again_by_itself(core: Core) -> None:
    sessions = [core.open(), core.open()]
    frame = made(core, sessions, [[1], [2]])
    again = core.step(sessions[1], [2], index=1)
    assert core.result(again).outputs["y"].tolist() == outputs(core, frame)["y"][1:]
    assert core.result(again).step == 1
    with_states = core.step(sessions[1], [2], index=1, return_state=True)
    assert isinstance(core.result(with_states), StepForgotten)  # frames keep no states


def test_a_framed_step_asked_for_alone_with_other_inputs_conflicts(core: Core) -> None:
    session = core.open()
    made(core, [session], [[1]])
    assert isinstance(core.result(core.step(session, [2], index=1)), StepConflict)


def test_a_step_may_be_asked_for_again_in_a_frame(core: Core) -> None:
    one, other = core.open(), core.open()
    step = core.step(one, [1], index=1)
    core.run()
    frame = made(core, [one, other], [[1], [2]])
    assert outputs(core, frame)["y"][:1] == core.result(step).outputs["y"].tolist()
    assert kinds(core, made(core, [one, other], [[3], [2]])) == {0: StepConflict}


def test_a_busy_session_is_asked_for_a_framed_step_again(core: Core) -> None:
    busy, other = core.open(), core.open()
    frame = made(core, [busy, other], [[1], [2]])
    core.step(busy, [5])
    again = core.frame([busy, other], [[1], [2]], [1, 1])
    core.run()
    assert outputs(core, again) == outputs(core, frame)
    assert core.result(again).steps.tolist() == [1, 1]


def test_steps_that_failed_may_be_sent_again(core: Core) -> None:
    sessions = [core.open(), core.open()]
    frame = core.frame(sessions, [[13], [2]], [1, 1])
    behind = core.frame(sessions, [[3], [4]], [2, 2])
    core.run(lambda job: StepFailed("no") if (job.inputs()["x"] == 13).any() else None)
    assert kinds(core, frame) == {0: StepFailed}
    assert kinds(core, behind) == {0: StepGap}
    again = made(core, sessions, [[5], [2]])
    assert core.result(again).steps.tolist() == [1, 1]
    assert [session.step for session in sessions] == [1, 2]


def test_only_numbered_steps_are_remembered(core: Core) -> None:
    sessions = [core.open() for _ in range(3)]
    core.frame(sessions, [[1], [2], [3]], [0, 1, 0])
    core.run()
    again = core.frame(sessions, [[1], [2], [3]], [1, 1, 1])
    core.run()
    assert kinds(core, again) == {0: StepForgotten, 2: StepForgotten}
    assert core.result(again).outputs["last"].tolist() == [0, 23, 0]


def test_many_frames_back(core: Core) -> None:
    sessions = [core.open(), core.open()]
    frames = [made(core, sessions[i % 2 :], [[i]] * (2 - i % 2), 0) for i in range(2)]
    assert all(kinds(core, frame) == {} for frame in frames)
    made(core, sessions[:1], [[1]], 2)
    made(core, sessions, [[2]] * 2, 3)
    made(core, sessions[1:], [[3]], 4)
    again = core.frame(sessions, [[1], [2]], [2, 3])
    core.run()
    assert core.result(again).steps.tolist() == [2, 3]
    assert [session.step for session in sessions] == [3, 4]


def test_everybody_gets_their_own_answer_in_whatever_order_it_was_made(core: Core) -> None:
    rng = np.random.default_rng(0)
    sessions = [core.open() for _ in range(7)]
    last = np.zeros((7, 4), np.int64)
    for _ in range(30):
        chosen = rng.permutation(7)[: rng.integers(1, 8)]
        chosen = [i for i in chosen if sessions[i].step < 3]
        if chosen:
            steps = [sessions[i].step + 1 for i in chosen]
            values = [[10 * i + step] for i, step in zip(chosen, steps, strict=True)]
            frame = core.frame([sessions[i] for i in chosen], values, steps)
            core.run()
            last[chosen, steps] = outputs(core, frame)["last"]
    assert {session.step for session in sessions} == {3}
    for _ in range(20):
        chosen, steps = rng.permutation(7), rng.integers(1, 4, 7)
        values = [[10 * i + step] for i, step in zip(chosen, steps, strict=True)]
        frame = core.frame([sessions[i] for i in chosen], values, steps.tolist())
        core.run()
        assert outputs(core, frame)["last"] == last[chosen, steps].tolist()


def test_so_many_frames_back_and_no_further(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_DEPTH", 2)
    session = core.open()
    for index in (1, 2, 3):
        made(core, [session], [[index]], index)
    answers = [core.result(core.step(session, [index], index=index)) for index in (1, 2, 3)]
    assert [type(answer) for answer in answers] == [StepForgotten, Stepped, Stepped]
    assert core.scheduler.remembered_from(session) == 2


def test_the_oldest_frames_go_where_bytes_are_short(make_core: type[Core]) -> None:
    core = make_core(max_remembered_bytes=150)
    sessions = [core.open(), core.open()]
    for index in (1, 2, 3):
        made(core, sessions, [[index]] * 2, index)
        core.check()
    again = [core.frame(sessions, [[index]] * 2, [index] * 2) for index in (1, 2, 3)]
    core.run()
    forgotten = {0: StepForgotten, 1: StepForgotten}
    assert [kinds(core, frame) for frame in again] == [forgotten, forgotten, {}]


def test_the_first_step_that_is_remembered(core: Core) -> None:
    session, oldest = core.open(), core.scheduler.remembered_from
    assert oldest(session) == 0
    core.step(session, [1])
    core.run()
    assert oldest(session) == 0
    made(core, [session], [[2]], 2)
    core.step(session, [3], index=3)
    core.run()
    assert oldest(session) == 2
    made(core, [session], [[4]], 4)
    assert oldest(session) == 2
    core.step(session, [5], index=5, acknowledged=4)
    core.run()
    assert oldest(session) == 2  # frames are not acknowledged


def test_a_new_session_in_the_place_of_another_knows_nothing_of_its_frames(core: Core) -> None:
    old = core.open()
    made(core, [old], [[1]])
    slot = old.slot
    core.close(old)
    new = core.open()
    assert new.slot == slot
    core.step(new, [1])
    core.run()
    assert isinstance(core.result(core.step(new, [1], index=1)), StepForgotten)
    assert kinds(core, made(core, [new], [[1]])) == {0: StepForgotten}


def test_counting_anew_forgets_the_frames(core: Core) -> None:
    session = core.open()
    made(core, [session], [[1]])
    core.write(session, None, step=1)
    assert isinstance(core.result(core.step(session, [1], index=1)), StepForgotten)


# ---- what tells inputs apart --------------------------------------------------------------------


def test_hashes_tell_rows_apart_in_every_place_and_type() -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.bool_, np.int8, np.float16, np.float32, np.int64):
        rows = rng.integers(0, 2, (64, 3, 5)).astype(dtype)
        rows[:, 0, :6] = (np.arange(64)[:, None] >> np.arange(5)) & 1
        hashes = hash_rows({"x": rows}, 64)
        different = {row.tobytes() for row in rows}
        assert len(set(hashes.tolist())) == len(different)
        assert hash_rows({"x": rows[7:8]}, 1)[0] == hashes[7]


def test_hashes_tell_lengths_and_inputs_apart_but_not_their_order() -> None:
    zeros = [np.zeros((1, length), np.uint8) for length in range(1, 9)]
    assert len({int(hash_rows({"x": array}, 1)[0]) for array in zeros}) == len(zeros)
    one, two = np.array([[1]]), np.array([[2]])
    assert hash_rows({"a": one, "b": two}, 1) == hash_rows({"b": two, "a": one}, 1)
    assert hash_rows({"a": one, "b": two}, 1) != hash_rows({"a": two, "b": one}, 1)
    assert hash_rows({}, 3).shape == (3,)

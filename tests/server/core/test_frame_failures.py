"""Runs of frames that fail: a bad step fails alone, everybody else goes on in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from server.core.phases import Phase
from server.errors import StepFailed

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


def is_bad(value: int) -> Callable[[Any], StepFailed | None]:
    """Runs fail with this among their inputs."""
    return lambda job: StepFailed("no") if (job.inputs()["x"] == value).any() else None


def test_a_bad_step_fails_alone(core: Core) -> None:
    sessions = [core.open() for _ in range(9)]
    frame = core.frame(sessions, [[value] for value in range(9)])
    jobs = core.run(is_bad(2))
    assert sizes(jobs) == [4, 2, 4, 2, 1, 1, 2, 3]
    assert kinds(core, frame) == {2: StepFailed}
    assert lasts(core, frame) == [0 if value == 2 else 21 + value for value in range(9)]
    assert [session.step for session in sessions] == [int(value != 2) for value in range(9)]
    assert (sessions[2].phase, sessions[2].fresh) == (Phase.IDLE, True)


def test_after_a_failure_runs_grow_again(core: Core) -> None:
    sessions = [core.open() for _ in range(16)]
    core.frame(sessions, [[value] for value in range(16)])
    jobs = core.run(is_bad(0))
    assert sizes(jobs) == [4, 2, 1, 1, 2, 4, 4, 4]


def test_everything_fails_where_every_run_does(core: Core, initial: int) -> None:
    sessions = [core.open() for _ in range(5)]
    frame = core.frame(sessions, [[1]] * 5)
    core.run(lambda job: StepFailed("no"))
    assert kinds(core, frame) == dict.fromkeys(range(5), StepFailed)
    assert [core.values(session) for session in sessions] == [[initial]] * 5


def test_a_failure_in_a_later_piece_leaves_everybody_as_they_were(
    core: Core, initial: int, lone: Callable[..., list[int]]
) -> None:
    one, other = core.open(), core.open()
    frame = core.frame([one, other], [[0] * 5 + [13], [0] * 6])
    core.run(is_bad(13))
    assert kinds(core, frame) == {0: StepFailed}
    assert core.values(one) == [initial]
    assert core.values(other) == lone(initial, [0] * 6)[-1:]


def test_a_failure_of_several_frames_keeps_their_order(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    sessions = [core.open() for _ in range(3)]
    frames = [
        core.frame(sessions[:2], [[1], [2]]),
        core.frame(sessions[2:], [[13]]),
        core.frame(sessions, [[3], [4], [5]]),
    ]
    core.run(is_bad(13))
    assert lasts(core, frames[0]) == [22, 23]
    assert kinds(core, frames[1]) == {0: StepFailed}
    assert lasts(core, frames[2]) == [lone(initial, values)[-1] for values in ([1, 3], [2, 4], [5])]


def test_a_frame_does_not_join_one_that_is_tried_again(core: Core) -> None:
    sessions = [core.open() for _ in range(3)]
    core.frame(sessions[:1], [[13]])
    core.frame(sessions[1:2], [[13]])
    core.frame(sessions[2:], [[1]])
    assert sizes(core.run(is_bad(13))) == [3, 1, 1, 1]


def test_outputs_that_are_not_by_row_reach_nobody(core: Core) -> None:
    sessions = [core.open(), core.open()]
    frame = core.frame(sessions, [[1], [2]])
    job = core.begin()
    with pytest.raises(StepFailed, match="its first axis is not the batch"):
        job.check({"y": np.zeros((3, 1))})
    core.finish(StepFailed("no"))
    core.run()
    assert core.result(frame).errors == {}
    core.frame(sessions[:1], [[1]])
    core.begin().check({"y": np.zeros((3, 1))})  # one alone is safe from that


def test_pieces_that_do_not_fit_together_fail(core: Core, initial: int) -> None:
    session = core.open()
    frame = core.frame([session], [range(6)])
    core.begin()
    core.finish()
    job = core.begin()
    core.drop(job)
    core.scheduler.complete(job, {"y": np.zeros((1, 2, 3)), "last": np.zeros(1)}, 0.0)
    assert kinds(core, frame) == {0: StepFailed}
    assert core.values(session) == [initial]
    core.check()

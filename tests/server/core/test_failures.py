"""Runs that fail: every session is as it was, and only the bad request is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core.batch import Batch, ReadRows
from server.errors import InternalError, StepFailed, StepForgotten

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.core.scheduler import Job

    Core = Any  # of driven.py


def fails_with(bad: Any) -> Callable[[Job], StepFailed | None]:
    """Every batch that holds `bad` fails."""
    return lambda job: (
        StepFailed("bad input")
        if isinstance(job, Batch) and any(entry.step is bad for entry in job.entries)
        else None
    )


def test_only_the_bad_request_of_a_batch_fails(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    sessions = [core.open() for _ in range(4)]
    steps = [core.step(session, [n]) for n, session in enumerate(sessions)]
    jobs = core.run(fails_with(steps[2]))
    assert [len(job.entries) for job in jobs] == [4, 1, 1, 1, 1]
    for n, (session, step) in enumerate(zip(sessions, steps, strict=True)):
        if n == 2:
            assert isinstance(core.result(step), StepFailed)
            assert (session.step, core.values(session)) == (0, [initial])
        else:
            assert core.result(step).outputs["last"].tolist() == lone(initial, [n])
    for session in sessions:  # and afterwards they share a batch again
        core.step(session, [9])
    assert len(core.run()) == 1


def test_a_bad_piece_of_a_long_request_undoes_all_its_pieces(core: Core, initial: int) -> None:
    long, other = core.open(batch_size=2), core.open()
    step = core.step(long, range(12))
    core.begin()
    core.finish()
    company = core.step(other, [1])
    core.run(fails_with(step))
    assert isinstance(core.result(step), StepFailed)
    assert core.values(long) == [initial, initial]
    assert long.step == 0
    assert core.result(company).step == 1


def test_a_piece_that_failed_in_company_goes_on_alone(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    long, other = core.open(), core.open()
    step, bad = core.step(long, range(12)), core.step(other, range(12))
    core.begin()
    core.finish()  # one good piece
    core.run(fails_with(bad))
    assert core.result(step).outputs["y"].tolist() == [lone(initial, range(12))]
    assert isinstance(core.result(bad), StepFailed)


def test_a_failed_step_lets_the_next_one_of_the_session_run(
    core: Core, lone: Callable[..., list[int]], initial: int
) -> None:
    session = core.open()
    bad, good = core.step(session, [1]), core.step(session, [2])
    core.run(fails_with(bad))
    assert isinstance(core.result(bad), StepFailed)
    assert core.result(good).outputs["last"].tolist() == lone(initial, [2])
    assert core.result(good).step == 1


@pytest.mark.parametrize("ask", ["read", "write"])
def test_a_failed_exchange_changes_nothing(core: Core, ask: str) -> None:
    session = core.open()
    core.write(session, 30)
    core.run()
    request = core.read(session) if ask == "read" else core.write(session, 40)
    core.run(lambda job: StepFailed("no"))
    assert isinstance(core.result(request), StepFailed)
    assert core.values(session) == [30]


def test_an_open_whose_states_cannot_be_written_closes(core: Core) -> None:
    session = core.open()
    core.write(session, 30, start=True)
    core.run(lambda job: StepFailed("no"))
    assert core.closed == [session]


def test_pieces_whose_outputs_do_not_fit_together_fail_their_request_alone(
    core: Core, initial: int
) -> None:
    """A model that is said to be fit for cutting and is not: (batch, time, time), for instance."""
    run = core.engine.run

    def square(*args: Any) -> Any:
        y = run(*args)["y"]
        return {"y": y[:, :, None] + 0 * y[:, None, :]}

    core.engine.run = square
    long, short = core.open(), core.open()
    bad, good = core.step(long, range(6)), core.step(short, [1, 2])
    core.run()
    assert isinstance(core.result(bad), StepFailed)
    assert "may not be cut" in str(core.result(bad))
    assert (long.step, core.values(long)) == (0, [initial])
    assert core.result(good).step == 1


@pytest.mark.parametrize("index", [0, 1])
def test_states_of_a_step_that_cannot_be_read(core: Core, index: int) -> None:
    """The step is made, which is said, and its outputs are remembered where it has a number."""
    session = core.open()
    step = core.step(session, [1], index=index, return_state=True)
    core.run(lambda job: StepFailed("no") if isinstance(job, ReadRows) else None)
    assert isinstance(core.result(step), InternalError)
    assert "step 1 was made, but its states could not be read: no" in str(core.result(step))
    assert (session.step, core.values(session)) == (1, [22])
    again = core.step(session, [1], index=1)
    found = core.result(again)
    assert found.step == 1 if index else isinstance(found, StepForgotten)

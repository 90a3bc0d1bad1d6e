"""Who goes first in a model's queue, how many may wait in it, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.phases import Event
from server.core.queue_ledger import NEVER, SPARE_DEADLINES
from server.core.queueing import Queueing, QueuePolicy
from server.core.requests import Read, Step, Stepped
from server.errors import InternalError, LimitReached, SessionClosed, TimeoutExpired
from tests.server.core.driven import Core

if TYPE_CHECKING:
    from collections.abc import Callable

THREE = Queueing(levels=3, default_level=2)


def queue(**policy: Any) -> Queueing:
    return Queueing(default_policy=QueuePolicy(**policy))


def one(core: Core, *, rows: int = 1, value: int = 1, **options: Any) -> Step:
    """A step of a session of its own, as every request to a model without states is."""
    return core.step(core.open(batch_size=rows), [value], **options)


def steps_of(jobs: list[Any]) -> list[list[Step]]:
    return [[entry.step for entry in job.entries] for job in jobs]


# ---- priorities ----------------------------------------------------------------------------------


def test_the_smallest_level_goes_first_and_who_came_first_inside_a_level(
    make_core: type[Core],
) -> None:
    core = make_core(queueing=THREE)
    third, second, first, later, last = (one(core, priority=level) for level in (3, 2, 1, 1, 3))
    assert steps_of(core.run()) == [[first, later, second, third], [last]]


def test_a_level_goes_first_whatever_it_can_share_a_batch_with(make_core: type[Core]) -> None:
    core = make_core(queueing=THREE)
    wide = [one(core, priority=2, shapes="wide") for _ in range(2)]
    slow = one(core, priority=3, shapes="narrow")
    fast = one(core, priority=1, shapes="narrow")
    assert steps_of(core.run()) == [[fast, slow], wide]


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["wide", "narrow"]), st.booleans())))
def test_any_crowd_goes_by_level_and_then_as_it_came(
    crowd: list[tuple[int, str, bool]],
) -> None:
    core = Core(queueing=THREE, max_batch_size=1, max_rows=100)
    steps = []
    for level, shapes, goes in crowd:
        steps.append(one(core, priority=level, shapes=shapes))
        if goes:
            core.cancel(core.everyone[-1], steps.pop())
    by_level = sorted(steps, key=lambda step: THREE.level_of(step.priority))
    assert steps_of(core.run()) == [[step] for step in by_level]


@pytest.mark.parametrize("asked", [0, 4, 2**64 - 1])
def test_who_asks_for_no_level_that_there_is_has_the_default(
    make_core: type[Core], asked: int
) -> None:
    core = make_core(queueing=THREE, max_batch_size=1)
    low, plain, high = (one(core, priority=level) for level in (3, asked, 1))
    assert steps_of(core.run()) == [[high], [plain], [low]]


def test_without_levels_a_priority_means_nothing(make_core: type[Core]) -> None:
    core = make_core(queueing=Queueing(), max_batch_size=1)
    steps = [one(core, priority=level) for level in (3, 0, 1)]
    assert steps_of(core.run()) == [[step] for step in steps]


def test_the_steps_of_a_session_stay_in_order(make_core: type[Core]) -> None:
    core = make_core(queueing=THREE)
    session = core.open()
    slow, fast = (core.step(session, [level], priority=level) for level in (3, 1))
    between = one(core, priority=2)
    assert steps_of(core.run()) == [[between, slow], [fast]]
    assert core.result(fast).step == 2


def test_what_takes_no_run_goes_before_all(make_core: type[Core]) -> None:
    core = make_core(queueing=THREE)
    step = one(core, priority=1)
    core.read(core.open())
    read, batch = core.run()
    assert isinstance(read.request, Read)
    assert steps_of([batch]) == [[step]]


def test_levels_count_for_those_who_wait_outside(make_core: type[Core]) -> None:
    """Where unfinished requests hold all working rows, others are parked."""
    core = make_core(queueing=THREE, max_batch_size=1, max_chunk=1)
    long = [one(core, priority=1) for _ in range(4)]
    for step in long:
        step.timesteps = 2
        step.inputs = {"x": step.inputs["x"].repeat(2, axis=1)}
    for _ in range(4):
        core.begin()
        core.finish()
    low, high = one(core, priority=3), one(core, priority=2)
    assert steps_of(core.run()) == [*([step] for step in long), [high], [low]]


# ---- how many ------------------------------------------------------------------------------------


def test_a_queue_that_is_full_takes_nobody(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(max_waiting=2), max_batch_size=1)
    running = one(core)
    core.begin()
    one(core), one(core)
    session = core.open()
    with pytest.raises(LimitReached, match=r"^Exceeds maximum queue size: 2 requests wait") as full:
        core.step(session, [1])
    assert full.value.retry_after_s == 0.1
    assert (session.pending, core.ledger.pending) == (None, 3)
    core.finish()
    core.begin()  # one of those who waited
    again = core.step(session, [1])
    core.run()
    assert isinstance(core.result(running), Stepped)
    assert isinstance(core.result(again), Stepped)


def test_each_level_has_a_queue_of_its_own(make_core: type[Core]) -> None:
    policies = {1: QueuePolicy(max_waiting=1)}
    core = make_core(queueing=Queueing(2, 2, QueuePolicy(max_waiting=3), policies))
    one(core, priority=1)
    for _ in range(3):
        one(core)
    with pytest.raises(LimitReached, match="1 requests wait already at priority level 1;"):
        one(core, priority=1)
    with pytest.raises(LimitReached, match="3 requests wait already at priority level 2;"):
        one(core)


def test_who_leaves_makes_room_however_that_happens(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(max_waiting=1, timeout_s=5))
    step, session = one(core), core.everyone[-1]
    core.cancel(session, step)
    one(core)
    core.close(core.everyone[-1])
    one(core)
    core.now_s = 6
    assert core.begin() is None  # it has waited too long
    last = one(core)
    core.run()
    assert isinstance(core.result(last), Stepped)


def test_only_steps_take_a_place(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(max_waiting=1))
    session = core.open()
    core.step(session, [1])
    core.read(session)
    core.write(session, 3)
    with pytest.raises(LimitReached):
        core.step(session, [2])


def test_a_step_of_a_frame_that_runs_by_itself_takes_one_as_well(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(max_waiting=1))
    busy, idle = core.open(), core.open()
    core.step(busy, [1])
    frame = core.frame([busy, idle], [[2], [3]])
    core.run()
    framed = core.result(frame)
    assert {place: type(error) for place, error in framed.errors.items()} == {0: LimitReached}
    assert framed.steps.tolist() == [0, 1]


# ---- how long ------------------------------------------------------------------------------------


def test_who_waits_too_long_is_refused(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(timeout_s=5), max_batch_size=1)
    running, late = one(core), one(core)
    core.begin()
    core.now_s = 3
    in_time = one(core)
    assert core.scheduler.look(5) == 5
    assert not core.answered(late)
    assert core.scheduler.look(5.001) == 8
    assert str(core.result(late)) == "Request timeout expired"
    assert isinstance(core.result(late), TimeoutExpired)
    core.run()
    for step in (running, in_time):
        assert isinstance(core.result(step), Stepped)
    assert core.scheduler.look(100) == NEVER


def test_a_refused_step_leaves_its_session_as_it_was(
    make_core: type[Core], lone: Callable[..., list[int]], initial: int
) -> None:
    core = make_core(queueing=queue(timeout_s=5))
    session = core.open()
    core.step(session, [1])
    core.run()
    late, behind = core.step(session, [2], end=True), core.step(core.open(), [3])
    core.now_s = 6
    assert core.begin() is None
    for step in (late, behind):
        assert isinstance(core.result(step), TimeoutExpired)
    assert not session.closed
    again = core.step(session, [4])
    core.run()
    assert core.result(again).step == 2
    assert core.values(session) == lone(initial, [1, 4])[-1:]


def test_a_refused_step_may_be_asked_for_again_by_its_number(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(timeout_s=5))
    session = core.open()
    late = core.step(session, [1], index=1)
    core.now_s = 6
    core.run()
    assert isinstance(core.result(late), TimeoutExpired)
    again = core.step(session, [1], index=1)
    core.run()
    assert core.result(again).step == 1


def test_a_session_ends_whose_first_step_is_refused(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(timeout_s=5))
    late = one(core, start=True)
    core.now_s = 6
    core.run()
    assert isinstance(core.result(late), TimeoutExpired)
    assert core.closed == core.everyone


def test_a_session_ends_whose_first_step_waited_for_something_else(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(timeout_s=5))
    session = core.open()
    hold = core.read(session)
    session.apply(Event.DISPATCH)  # as a session that waits for another one's states
    late, behind = core.step(session, [1], start=True), core.step(session, [2])
    core.now_s = 5.5
    assert core.scheduler.look(5.1) == NEVER
    assert isinstance(core.result(late), TimeoutExpired)
    assert isinstance(core.result(behind), SessionClosed)
    assert session.closed
    assert not core.answered(hold)


def test_a_request_behind_another_of_its_session_is_refused_in_time(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(timeout_s=5))
    session = core.open()
    first = core.step(session, [1])
    core.begin()
    second = core.step(session, [2])
    core.now_s = 6
    core.scheduler.look(6)
    assert isinstance(core.result(second), TimeoutExpired)
    core.finish()
    assert isinstance(core.result(first), Stepped)


def test_who_has_begun_is_not_too_late(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(timeout_s=5), max_chunk=1)
    session = core.open()
    step = core.step(session, [1, 2, 3])
    core.begin()
    core.finish()
    core.now_s = 6
    core.run()
    assert isinstance(core.result(step), Stepped)


def test_who_is_tried_again_alone_is_not_too_late(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(timeout_s=5))
    steps = [one(core), one(core)]
    core.begin()
    core.now_s = 6
    core.run(lambda job: InternalError("no") if len(job.entries) == 2 else None)
    for step in steps:
        assert isinstance(core.result(step), Stepped)


@pytest.mark.parametrize(
    ("policy", "asked_s", "expected_s"),
    [
        (QueuePolicy(timeout_s=5), 2, 5),  # not its to say
        (QueuePolicy(timeout_s=5, may_be_lowered=True), 2, 2),
        (QueuePolicy(timeout_s=5, may_be_lowered=True), 8, 5),
        (QueuePolicy(timeout_s=5, may_be_lowered=True), 0, 5),
        (QueuePolicy(may_be_lowered=True), 2, NEVER),
    ],
)
def test_a_request_can_only_lower_its_limit(
    make_core: type[Core], policy: QueuePolicy, asked_s: float, expected_s: float
) -> None:
    core = make_core(queueing=Queueing(default_policy=policy))
    core.now_s = 100
    one(core, timeout_s=asked_s)
    assert core.scheduler.look(100) == 100 + expected_s


def test_limits_belong_to_a_level(make_core: type[Core]) -> None:
    policies = {1: QueuePolicy(timeout_s=2, may_be_lowered=True), 3: QueuePolicy()}
    core = make_core(queueing=Queueing(3, 2, QueuePolicy(timeout_s=5), policies))
    for level, expected_s in ((3, NEVER), (2, 5), (1, 2)):
        one(core, priority=level)
        assert core.scheduler.look(0) == expected_s
    one(core, priority=1, timeout_s=1)
    assert core.scheduler.look(0) == 1


def test_who_is_delayed_goes_behind_those_of_its_level_who_are_not(make_core: type[Core]) -> None:
    policy = QueuePolicy(timeout_s=5, delays=True)
    core = make_core(queueing=Queueing(3, 2, policy, {3: QueuePolicy()}), max_batch_size=1)
    below, late, later = one(core, priority=3), one(core), one(core)
    core.now_s = 3
    in_time = one(core)
    core.now_s = 6
    above = one(core, priority=1)
    assert core.scheduler.look(6) == 8
    assert steps_of(core.run()) == [[above], [in_time], [late], [later], [below]]
    assert isinstance(core.result(late), Stepped)


def test_who_is_delayed_stays_so_behind_another_of_its_session(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(timeout_s=5, delays=True), max_batch_size=1)
    session = core.open()
    first = core.step(session, [1])
    core.begin()
    late = core.step(session, [2])
    core.now_s = 6
    in_time = one(core)
    assert steps_of(core.run()) == [[first], [in_time], [late]]


def test_those_who_have_left_are_not_kept_until_their_time(make_core: type[Core]) -> None:
    core = make_core(queueing=queue(timeout_s=5))
    session = core.open()
    for _ in range(500):
        core.step(session, [1])
        core.run()
    assert len(core.ledger._deadlines) <= SPARE_DEADLINES


# ---- gathering -----------------------------------------------------------------------------------


def test_an_idle_engine_waits_for_company_but_not_for_long(make_core: type[Core]) -> None:
    core = make_core(queueing=Queueing(window_s=5, enough=4))
    first = one(core)
    assert core.scheduler.look(0) == 5
    assert core.begin() is None
    core.now_s = 4
    second = one(core, rows=2)
    assert core.begin() is None
    core.now_s = 5
    assert steps_of(core.run()) == [[first, second]]


def test_it_waits_no_longer_than_until_there_are_enough(make_core: type[Core]) -> None:
    core = make_core(queueing=Queueing(window_s=5, enough=3))
    first = one(core, rows=2)
    assert core.begin() is None
    second = one(core)
    assert core.scheduler.look(0) == NEVER
    assert steps_of(core.run()) == [[first, second]]


def test_it_does_not_wait_where_something_else_is_to_be_done(make_core: type[Core]) -> None:
    core = make_core(queueing=Queueing(window_s=5, enough=4), max_chunk=1)
    long = core.step(core.open(), [1, 2])
    core.now_s = 5
    core.begin()
    core.finish()
    short = one(core)
    assert steps_of(core.run()) == [[long, short]]
    core.read(core.open())
    later = one(core)
    assert core.begin() is not None
    core.finish()
    assert core.begin() is None  # only that one now
    core.now_s = 10
    assert steps_of(core.run()) == [[later]]


def test_who_may_not_wait_as_long_as_that_is_refused(make_core: type[Core]) -> None:
    policy = QueuePolicy(timeout_s=2)
    core = make_core(queueing=Queueing(default_policy=policy, window_s=5, enough=4))
    late = one(core)
    assert core.scheduler.look(0) == 2
    core.now_s = 3
    assert core.begin() is None
    assert isinstance(core.result(late), TimeoutExpired)

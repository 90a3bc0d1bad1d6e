"""The loop between core and engine, with an engine whose runs the test holds in its hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from structlog.testing import capture_logs

from server import driver
from server.core.queueing import Queueing, QueuePolicy
from server.core.requests import Close, Done, Read, States, Step, Stepped, Write
from server.errors import InternalError, RequestError, StepFailed, TimeoutExpired
from tests.server.driver_bench import LOOPS, OWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.core.requests import Result
    from tests.server.driver_bench import Bench


@pytest.mark.parametrize(("own_thread", "thread"), [(True, OWN), (False, LOOPS), (None, LOOPS)])
async def test_steps_reads_and_writes_go_through(
    make_bench: Callable[..., Bench], own_thread: bool | None, thread: str
) -> None:
    bench = make_bench(own_thread)
    session = bench.session()
    answers = [
        bench.step(session, 1, 2),
        bench.ask(session, Write(states={"s": np.array([40])})),
        bench.ask(session, Read()),
        bench.step(session, 5, return_state=True),
        bench.ask(session, Write()),
        bench.ask(session, Close()),
    ]
    first, written, read, second, reset, closed = await asyncio.gather(*answers)
    assert isinstance(first, Stepped)
    assert first.outputs["y"].tolist() == [[1, 3]]
    assert isinstance(read, States)
    assert read.states["s"].tolist() == [40]
    assert second.outputs["y"].tolist() == [[45]]
    assert second.states["s"].tolist() == [45]
    assert [written, reset, closed] == [Done(1), Done(2), Done(2)]
    assert bench.engine.runs[0] == (1, thread)
    assert session.closed


async def test_slow_runs_are_handed_to_a_thread_and_quick_ones_come_back(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "HANDOVER_S", 0.01)  # so that a busy machine's runs are quick
    bench = make_bench(None)
    session = bench.session()
    bench.engine.seconds = 0.05
    for _ in range(2):
        await bench.step(session, 1)
    assert [thread for _, thread in bench.engine.runs] == [LOOPS, OWN]
    bench.engine.seconds = 0.0
    for _ in range(60):
        await bench.step(session, 1)
    assert bench.engine.runs[-1][1] == LOOPS


async def test_what_arrives_while_a_job_runs_shares_the_next(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.engine.gate.clear()
    sessions = [bench.session() for _ in range(4)]
    steps = [bench.step(sessions[0], 1)]
    await bench.entered()
    for session in sessions:
        steps.append(bench.step(session, 2))
        await asyncio.sleep(0)  # each in a turn of its own
    bench.engine.gate.set()
    await asyncio.gather(*steps)
    assert [rows for rows, _ in bench.engine.runs] == [1, 4]


@pytest.mark.parametrize("own_thread", [True, False])
async def test_what_arrives_together_shares_a_batch(
    make_bench: Callable[..., Bench], own_thread: bool
) -> None:
    """But for the very first, which comes alone as far as anybody knows."""
    bench = make_bench(own_thread)
    sessions = [bench.session() for _ in range(8)]
    for _ in range(3):
        await asyncio.gather(*(bench.step(session, 1) for session in sessions))
    assert [rows for rows, _ in bench.engine.runs] == [1, 7, 8, 8]


@pytest.mark.parametrize("own_thread", [True, False])
async def test_a_caller_that_raises_disturbs_nobody(
    make_bench: Callable[..., Bench], own_thread: bool
) -> None:
    bench = make_bench(own_thread)
    sessions = [bench.session() for _ in range(3)]

    def broken(result: Result) -> None:
        raise RuntimeError("this caller is broken")

    with capture_logs() as logs:
        before = bench.step(sessions[0], 1)
        step = Step(inputs={"x": np.array([[1]])}, answer=broken)
        bench.submit(sessions[1], step)
        after = bench.step(sessions[2], 1)
        again = bench.step(sessions[1], 1)
        results = await asyncio.gather(before, after, again)
    assert [result.step for result in results] == [1, 1, 2]
    assert [entry["event"] for entry in logs] == ["could not deliver an answer"]


@pytest.mark.parametrize("own_thread", [True, False])
async def test_one_callers_cancelled_future_disturbs_nobody(
    make_bench: Callable[..., Bench], own_thread: bool
) -> None:
    bench = make_bench(own_thread)
    gone, stays = bench.step(bench.session(), 1), bench.step(bench.session(), 1)
    if not gone.done():
        gone.cancel()
    with capture_logs():
        assert (await stays).step == 1


@pytest.mark.parametrize("own_thread", [True, False])
async def test_a_known_error_reaches_only_the_one_who_caused_it(
    make_bench: Callable[..., Bench], own_thread: bool
) -> None:
    bench = make_bench(own_thread)
    sessions = [bench.session() for _ in range(3)]
    with capture_logs() as logs:
        steps = [
            bench.step(session, value) for session, value in zip(sessions, (1, 13, 2), strict=True)
        ]
        good, bad, other = await asyncio.gather(*steps)
    assert isinstance(bad, StepFailed)
    assert str(bad) == "13 is no good"
    assert [good.outputs["y"].item(), other.outputs["y"].item()] == [1, 2]
    assert logs == []
    assert (await bench.step(sessions[1], 5)).outputs["y"].item() == 5


@pytest.mark.parametrize("own_thread", [True, False])
async def test_an_unknown_error_is_logged_and_told_without_its_details(
    make_bench: Callable[..., Bench], own_thread: bool
) -> None:
    bench = make_bench(own_thread)
    session = bench.session()
    with capture_logs() as logs:
        result = await bench.step(session, 666)
    assert isinstance(result, InternalError)
    assert "secret" not in str(result)
    assert "the session is as it was" in str(result)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("the engine failed", "error")
    ]
    assert (await bench.step(session, 5)).outputs["y"].item() == 5


async def test_idle_waits_for_every_answer(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    await bench.driver.idle()  # at once, where nothing was asked
    bench.engine.gate.clear()
    session = bench.session()
    steps = [bench.step(session, 1, 2, 3, 4, 5), bench.step(session, 6)]
    waiters = [asyncio.ensure_future(bench.driver.idle()) for _ in range(2)]
    given_up = asyncio.ensure_future(bench.driver.idle())
    await bench.entered()
    await asyncio.sleep(0.01)
    assert not any(waiter.done() for waiter in waiters)
    given_up.cancel()
    bench.engine.gate.set()
    await asyncio.gather(*waiters)
    assert all(step.done() for step in steps)


async def test_idle_ends_when_the_last_request_is_withdrawn(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.engine.gate.clear()
    busy, session = bench.session(), bench.session()
    first = bench.step(busy, 1)
    await bench.entered()
    step = Step(inputs={"x": np.array([[1]])})
    bench.submit(session, step)
    waiter = asyncio.ensure_future(bench.driver.idle())
    bench.cancel(session, step)
    bench.engine.gate.set()
    await asyncio.wait_for(waiter, 5)
    assert first.done()
    assert bench.engine.runs == [(1, OWN)]


async def test_stop_lets_the_job_at_hand_finish(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.engine.seconds = 0.05
    step = bench.step(bench.session(), 1)
    await bench.entered()
    await asyncio.to_thread(bench.driver.stop)
    assert not any(thread.is_alive() for thread in bench.driver._threads)
    assert (await step).step == 1


async def test_everything_is_counted_once(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.engine.gate.clear()
    sessions = [bench.session(), bench.session(2), bench.session()]
    steps = [bench.step(sessions[0], *range(6))]  # two pieces
    await bench.entered()
    steps += [bench.step(session, 1) for session in sessions[1:]]  # the second one with company
    reading = bench.ask(sessions[1], Read())
    bench.engine.gate.set()
    await asyncio.gather(*steps, reading)
    await bench.settle()
    counts = bench.statistics
    assert [rows for rows, _ in bench.engine.runs] == [1, 4, 1]
    assert counts.execution_count == 3
    assert counts.success.count == 3
    assert counts.fail.count == 0
    assert counts.inference_count == 4
    assert counts.queue.count == 3
    assert {
        counts.compute_input.count,
        counts.compute_infer.count,
        counts.compute_output.count,
    } == {3}
    assert {size: batch.compute_infer.count for size, batch in counts.batches.items()} == {
        1: 2,
        4: 1,
    }
    assert sum(counts.latency_buckets) == 3
    assert counts.success.ns >= counts.compute_infer.ns > 0
    assert counts.last_inference_ms > 1_500_000_000_000


async def test_failures_are_counted_as_such_and_only_so(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.engine.gate.clear()
    sessions = [bench.session() for _ in range(4)]
    steps = [bench.step(sessions[0], 1)]
    await bench.entered()
    values = (13, 2, 3)
    steps += [
        bench.step(session, value) for session, value in zip(sessions[1:], values, strict=True)
    ]
    bench.engine.gate.set()
    results = await asyncio.gather(*steps)
    await bench.settle()
    counts = bench.statistics
    assert [isinstance(result, RequestError) for result in results] == [False, True, False, False]
    assert [rows for rows, _ in bench.engine.runs] == [1, 3, 1, 1, 1]
    assert (counts.success.count, counts.fail.count) == (3, 1)
    assert counts.queue.count == counts.compute_infer.count == counts.inference_count == 3
    assert counts.execution_count == sum(
        batch.compute_infer.count for batch in counts.batches.values()
    )
    assert min(counts.compute_infer.ns, counts.compute_output.ns, counts.fail.ns) > 0


async def test_who_does_not_come_to_an_end_has_not_waited_either(
    make_bench: Callable[..., Bench],
) -> None:
    """As others count it: `queue` as often as `success`."""
    bench = make_bench()
    failing, leaving, staying = (bench.session() for _ in range(3))
    failed = await bench.step(failing, 1, 2, 3, 4, 13)
    bench.engine.entered.clear()
    bench.engine.gate.clear()
    left = Step(inputs={"x": np.ones((1, 5), np.int64)}, timesteps=5)
    bench.submit(leaving, left)
    await bench.entered()
    stayed = bench.step(staying, 1, 2, 3, 4, 5)
    bench.cancel(leaving, left)
    bench.engine.gate.set()
    assert isinstance(failed, StepFailed)
    assert isinstance(await stayed, Stepped)
    await bench.settle()
    counts = bench.statistics
    assert [rows for rows, _ in bench.engine.runs] == [1, 1, 1, 1, 1]
    assert (counts.success.count, counts.fail.count) == (1, 2)
    assert counts.queue.count == counts.compute_infer.count == counts.inference_count == 1
    assert counts.execution_count == 4  # the run that failed has not been one


async def test_those_who_have_left_are_counted_too(make_bench: Callable[..., Bench]) -> None:
    """What ran to its end has succeeded, whoever waits for it; what did not run has failed."""
    bench = make_bench()
    bench.engine.gate.clear()
    sessions = [bench.session() for _ in range(2)]
    steps = [Step(inputs={"x": np.ones((1, 1), np.int64)}) for _ in sessions]
    told: list[Result] = []
    for session, step in zip(sessions, steps, strict=True):
        step.answer = told.append
        bench.submit(session, step)
        if step is steps[0]:
            await bench.entered()
    for session, step in zip(sessions, steps, strict=True):
        bench.cancel(session, step)
    bench.engine.gate.set()
    await bench.settle()
    counts = bench.statistics
    assert told == []
    assert [session.step for session in sessions] == [1, 0]
    assert (counts.success.count, counts.fail.count) == (1, 1)
    assert counts.queue.count == counts.compute_infer.count == counts.inference_count == 1


async def test_a_failed_run_lasts_no_negative_time(make_bench: Callable[..., Bench]) -> None:
    """It decides about the thread: a model that fails slowly belongs on a thread of its own."""
    bench = make_bench(None)
    session = bench.session()
    bench.engine.seconds = 0.02
    for _ in range(2):
        await bench.step(session, 13)
    assert [thread for _, thread in bench.engine.runs] == [LOOPS, OWN]


async def test_a_closed_sessions_waiting_steps_count_as_failed(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.engine.gate.clear()
    session = bench.session()
    steps = [bench.step(session, 1), bench.step(session, 2)]
    await bench.entered()
    bench.close(session)
    bench.engine.gate.set()
    done, closed = await asyncio.gather(*steps)
    await bench.settle()
    assert isinstance(done, Stepped)
    assert isinstance(closed, RequestError)
    assert (bench.statistics.success.count, bench.statistics.fail.count) == (1, 1)


IMPATIENT = Queueing(default_policy=QueuePolicy(timeout_s=0.02))


async def test_who_waits_too_long_is_told_while_the_engine_runs_something_else(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(queueing=IMPATIENT)
    bench.engine.gate.clear()
    running = bench.step(bench.session(), 1)
    await bench.entered()
    late = await asyncio.wait_for(bench.step(bench.session(), 2), 5)
    assert isinstance(late, TimeoutExpired)
    assert not running.done()
    bench.engine.gate.set()
    assert isinstance(await running, Stepped)
    await bench.settle()
    assert (bench.statistics.fail.count, bench.statistics.success.count) == (1, 1)
    assert bench.statistics.queue.count == 1
    assert bench.statistics.fail.ns >= 20_000_000


async def test_who_waits_too_long_for_a_run_on_the_loop_is_told_when_it_is_done(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(own_thread=False, queueing=IMPATIENT)
    bench.engine.seconds = 0.05
    bench.step(bench.session(), 0)  # on the spot, because it comes alone
    first, second = (bench.step(bench.session(), value, shapes=value) for value in (1, 2))
    assert isinstance(await first, Stepped)
    assert isinstance(await second, TimeoutExpired)
    assert len(bench.engine.runs) == 2


@pytest.mark.parametrize("own_thread", [True, False])
async def test_an_idle_engine_waits_for_company_as_long_as_it_is_told_to(
    make_bench: Callable[..., Bench], own_thread: bool
) -> None:
    bench = make_bench(own_thread, queueing=Queueing(window_s=0.05, enough=4))
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    first = bench.step(bench.session(), 1)
    await asyncio.sleep(0.005)
    assert not bench.engine.runs
    second = bench.step(bench.session(), 2)
    await asyncio.gather(first, second)
    assert loop.time() - start_s >= 0.05
    assert [size for size, _ in bench.engine.runs] == [2]


async def test_it_does_not_wait_once_there_are_enough(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(queueing=Queueing(window_s=60, enough=3))
    first = bench.step(bench.session(), 1)
    await asyncio.sleep(0.005)
    assert not bench.engine.runs
    await asyncio.wait_for(asyncio.gather(first, bench.step(bench.session(batch_size=2), 2)), 5)
    assert [size for size, _ in bench.engine.runs] == [3]


async def test_nothing_rings_where_nobody_waits_against_the_clock(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(queueing=IMPATIENT)
    for value in range(5):
        await bench.step(bench.session(), value)
    await bench.settle()
    assert bench.driver._timer is None
    assert bench.driver._look_at_s == float("inf")


async def test_outputs_without_a_row_for_everybody_are_given_to_nobody_else(
    make_bench: Callable[..., Bench],
) -> None:
    """A model whose output has another axis first: alone it may run, in company it must not."""
    bench = make_bench()
    run = bench.engine.run
    bench.engine.run = lambda *args: {"y": run(*args)["y"].T}  # type: ignore[method-assign]
    bench.engine.gate.clear()
    sessions = [bench.session() for _ in range(3)]
    steps = [bench.step(sessions[0], 1, 2)]
    await bench.entered()
    steps += [bench.step(session, value, value) for value, session in enumerate(sessions)]
    bench.engine.gate.set()
    results = await asyncio.gather(*steps)
    assert [rows for rows, _ in bench.engine.runs] == [1, 3, 1, 1, 1]
    assert [result.outputs["y"].tolist() for result in results[1:]] == [
        [[3], [3]],
        [[1], [2]],
        [[2], [4]],
    ]


@pytest.mark.parametrize("own_thread", [True, False])
async def test_nothing_begins_after_stop(
    make_bench: Callable[..., Bench], own_thread: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What came just before it is not looked at any more, and nothing is logged as a fault."""
    bench = make_bench(own_thread)
    sessions = [bench.session() for _ in range(3)]
    await asyncio.gather(*(bench.step(session, 1) for session in sessions))
    late = [bench.step(session, 1) for session in sessions]
    bench.driver.stop()
    await asyncio.sleep(0.02)
    assert not caplog.records
    for session in sessions:
        bench.scheduler.close(session)
    bench.scheduler.take_answers()
    for step in late:
        step.cancel()

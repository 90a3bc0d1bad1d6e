"""The loop with an engine that does several jobs at a time."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from server import driver
from server.core.requests import Read, Step, Stepped, Write
from server.errors import InternalError
from tests.server.driver_bench import LOOPS, OWN, SumEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.core.ledger import Limits
    from server.core.requests import Result
    from tests.server.driver_bench import Bench

PATIENCE_S = 10


class HeldEngine(SumEngine):
    """A run whose first number is `n` waits for `let[n]`. `most` were under way at a time."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.let: dict[int, threading.Event] = defaultdict(threading.Event)
        self.at: list[int] = []  # the first numbers of runs under way
        self.most = 0

    def run(self, inputs: Any, read: Any, write: Any) -> Any:
        number = int(inputs["x"][0, 0])
        self.at.append(number)
        self.most = max(self.most, len(self.at))
        try:
            assert self.let[number].wait(PATIENCE_S)
            return super().run(inputs, read, write)
        finally:
            self.at.remove(number)

    async def comes_to(self, *numbers: int) -> None:
        """Wait until exactly these are under way."""
        for _ in range(1000 * PATIENCE_S):
            if sorted(self.at) == sorted(numbers):
                return
            await asyncio.sleep(0.001)
        raise AssertionError(f"under way: {self.at}; expected {numbers}")


@pytest.fixture
async def held(make_bench: Callable[..., Bench]) -> Any:
    """Two instances."""
    return make_bench(instances=2, make_engine=HeldEngine)


async def test_two_slow_runs_overlap_and_end_in_any_order(held: Any) -> None:
    first, second = held.step(held.session(), 1), held.step(held.session(), 2)
    await held.engine.comes_to(1, 2)
    held.engine.let[2].set()
    assert (await second).outputs["y"].tolist() == [[2]]
    assert not first.done()
    held.engine.let[1].set()
    assert (await first).outputs["y"].tolist() == [[1]]
    assert held.engine.most == 2
    assert {thread for _, thread in held.engine.runs} == {OWN}


async def test_what_comes_while_all_are_busy_shares_the_next_batch(held: Any) -> None:
    steps = [held.step(held.session(), value) for value in (1, 2)]
    await held.engine.comes_to(1, 2)
    for value in (3, 4, 5):
        steps.append(held.step(held.session(), value))
        await asyncio.sleep(0)
    held.engine.let[1].set()
    await held.engine.comes_to(2, 3)
    assert [step.done() for step in steps] == [True, False, False, False, False]
    for value in (2, 3):
        held.engine.let[value].set()
    results = await asyncio.gather(*steps)
    assert [result.outputs["y"].item() for result in results] == [1, 2, 3, 4, 5]
    assert sorted(rows for rows, _ in held.engine.runs) == [1, 1, 3]


async def test_a_sessions_steps_do_not_overlap(held: Any) -> None:
    session = held.session()
    steps = [held.step(session, value) for value in (1, 2, 3)]
    for value in (1, 2, 3):
        await held.engine.comes_to(value)
        held.engine.let[value].set()
        assert (await steps[value - 1]).step == value
    assert held.engine.most == 1
    assert steps[-1].result().outputs["y"].item() == 6


async def test_states_are_read_and_written_during_a_run(held: Any) -> None:
    step = held.step(held.session(), 1)
    await held.engine.comes_to(1)
    session = held.session()
    assert (await held.ask(session, Write(states={"s": np.array([40])}))).step == 0
    assert (await held.ask(session, Read())).states["s"].tolist() == [40]
    assert not step.done()
    held.engine.let[1].set()
    await step


async def test_a_run_that_fails_disturbs_none_beside_it(held: Any) -> None:
    good, bad = held.step(held.session(), 1), held.step(held.session(), 666)
    await held.engine.comes_to(1, 666)
    with capture_logs() as logs:
        held.engine.let[666].set()
        assert isinstance(await bad, InternalError)
    assert [entry["event"] for entry in logs] == ["the engine failed"]
    held.engine.let[1].set()
    assert (await good).step == 1


async def test_answers_found_on_the_way_do_not_wait_for_a_run(held: Any) -> None:
    """A step that was made before is answered while another session's is running."""
    session = held.session()
    held.engine.let[1].set()
    await held.step(session, 1, index=1)
    slow = held.step(held.session(), 2)
    await held.engine.comes_to(2)
    again = await asyncio.wait_for(held.step(session, 1, index=1), PATIENCE_S)
    assert again.step == 1
    held.engine.let[2].set()
    await slow


async def test_idle_waits_for_all_and_stop_ends_all(held: Any) -> None:
    steps = [held.step(held.session(), value) for value in (1, 2)]
    await held.engine.comes_to(1, 2)
    idle = asyncio.ensure_future(held.driver.idle())
    held.engine.let[1].set()
    await steps[0]
    await asyncio.sleep(0.01)
    assert not idle.done()
    held.engine.let[2].set()
    await asyncio.wait_for(idle, PATIENCE_S)
    assert steps[1].done()
    await asyncio.to_thread(held.driver.stop)
    assert not any(thread.is_alive() for thread in held.driver._threads)


async def test_on_the_loops_thread_there_is_one_run_at_a_time(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(own_thread=False, instances=3)
    sessions = [bench.session() for _ in range(20)]
    results = await asyncio.gather(*(bench.step(session, 1, 2) for session in sessions))
    assert [result.step for result in results] == [1] * 20
    assert {thread for _, thread in bench.engine.runs} == {LOOPS}


async def test_runs_on_both_kinds_of_thread(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a slow run is on a thread of its own, the average falls: the next are the loop's."""
    monkeypatch.setattr(driver, "HANDOVER_S", 0.05)
    bench: Any = make_bench(own_thread=None, instances=2, make_engine=HeldEngine)
    bench.driver._run_s = 0.06
    slow = bench.step(bench.session(), 1)
    await bench.engine.comes_to(1)
    bench.engine.let[2].set()
    session = bench.session()
    for count in range(5):
        assert (await bench.step(session, 2)).step == count + 1
    assert [thread for _, thread in bench.engine.runs][-1] == LOOPS
    assert not slow.done()
    bench.engine.let[1].set()
    assert (await slow).step == 1
    assert bench.engine.most == 2


@pytest.mark.parametrize("own_thread", [True, None])
async def test_everything_is_made_and_counted_once(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, own_thread: bool | None
) -> None:
    """Many sessions, long and short requests, runs of different lengths."""
    monkeypatch.setattr(driver, "HANDOVER_S", 0.0002)
    random, bench = Random(1), make_bench(own_thread=own_thread, instances=3)
    made: Counter[str] = Counter()

    async def play() -> None:
        session, total = bench.session(random.choice([1, 1, 2])), 0
        for _ in range(30):
            values = [random.randint(0, 9) for _ in range(random.choice([1, 1, 2, 9]))]
            bench.engine.seconds = random.choice([0, 0, 0.0001, 0.0005])
            result = await bench.step(session, *values, return_state=random.random() < 0.2)
            sums = (total + np.cumsum(values)).tolist()
            total = sums[-1]
            assert result.outputs["y"].tolist() == [sums] * session.batch_size
            if result.states is not None:
                assert result.states["s"].tolist() == [total] * session.batch_size
            made.update(steps=1, rows=session.batch_size)
        bench.close(session)

    await asyncio.gather(*(play() for _ in range(20)))
    await bench.settle()
    counts = bench.statistics
    assert counts.success.count == counts.queue.count == made["steps"]
    assert counts.inference_count == made["rows"]
    assert counts.execution_count == len(bench.engine.runs)
    assert counts.fail.count == 0
    assert bench.scheduler.ledger.reserved_rows == 0


async def test_who_asks_again_in_its_answer(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(own_thread=None, instances=2)
    done: list[Any] = []

    def ask(session: Any) -> None:
        def answer(result: Result) -> None:
            assert isinstance(result, Stepped)
            done.append(result.outputs["y"].item())
            if result.step < 10:
                ask(session)

        bench.submit(session, Step(inputs={"x": np.array([[1]])}, answer=answer))

    for _ in range(2):
        ask(bench.session())
    await bench.settle()
    assert sorted(done) == sorted([*range(1, 11)] * 2)

"""One client, many threads or tasks: with a session each, or with one session for all."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rnnserve
from rnnserve import Retries

ONE = np.float32([1, 0, 0])  # adds [1, 2]
QUICK = Retries(attempt_s=0.3, first_pause_s=0.005, longest_pause_s=0.02)


def test_threads_share_a_client(fake):
    with rnnserve.connect(fake.target) as client:

        def run(number):
            item = np.float32([number, 0, 0])
            with client.session("sums") as session:
                stepped = [float(session.step(item)[0]) for _ in range(10)]
                streamed = [float(output[0]) for output in session.stream([item] * 10)]
            return stepped + streamed

        with ThreadPoolExecutor(8) as pool:
            for number, totals in enumerate(pool.map(run, range(24))):
                assert totals == [number * step for step in range(1, 21)]
    assert not fake.sessions


def lose(fake, count):
    fake.faults["step"].extend(["", "answer", "", "request", "", ""] * (count // 6))


def test_threads_share_a_session(fake):
    """Each of their steps is run once, one at a time, whatever is lost."""
    with rnnserve.connect(fake.target, retries=QUICK) as client, client.session("sums") as session:
        lose(fake, 60)
        with ThreadPoolExecutor(8) as pool:
            totals = list(pool.map(lambda _: float(session.step(ONE)[0]), range(60)))
        assert sorted(totals) == list(range(1, 61))
        assert session.step_count == 60


async def test_tasks_share_a_session(fake):
    client = rnnserve.aio.connect(fake.target, retries=QUICK)
    async with client, client.session("sums") as session:
        lose(fake, 60)
        outputs = await asyncio.gather(*(session.step(ONE) for _ in range(60)))
        assert sorted(float(output[0]) for output in outputs) == list(range(1, 61))
        assert session.step_count == 60


@pytest.mark.parametrize("cuts", [[], [(3, "answer"), (5, "request"), (2, "silence")]])
def test_threads_step_beside_a_stream(fake, cuts):
    totals = []
    fake.cuts.extend(cuts)
    with rnnserve.connect(fake.target, retries=QUICK) as client, client.session("sums") as session:
        over = threading.Event()

        def step():
            while not over.is_set():
                totals.append(float(session.step(ONE)[0]))

        with ThreadPoolExecutor(2) as pool:
            stepping = [pool.submit(step) for _ in range(2)]
            streamed = [float(output[0]) for output in session.stream(ONE for _ in range(100))]
            over.set()
            for future in stepping:
                future.result()
        assert streamed == sorted(streamed)
        assert sorted(totals + streamed) == list(range(1, len(totals) + 101))
        assert len(totals) > 5
        assert session.step_count == len(totals) + 100


@pytest.mark.parametrize("cuts", [[], [(3, "answer"), (5, "request"), (2, "silence")]])
async def test_tasks_step_beside_a_stream(fake, cuts):
    totals = []
    fake.cuts.extend(cuts)
    over = False
    client = rnnserve.aio.connect(fake.target, retries=QUICK)
    async with client, client.session("sums") as session:

        async def step():
            while not over:
                totals.append(float((await session.step(ONE))[0]))

        stepping = [asyncio.create_task(step()) for _ in range(2)]
        items = (ONE for _ in range(100))
        streamed = [float(output[0]) async for output in session.stream(items)]
        over = True
        await asyncio.gather(*stepping)
        assert streamed == sorted(streamed)
        assert sorted(totals + streamed) == list(range(1, len(totals) + 101))
        assert len(totals) > 5


async def test_a_cancelled_step_is_the_next_one(fake):
    async with rnnserve.aio.connect(fake.target) as client, client.session("sums") as session:
        for _ in range(20):
            fake.gate.clear()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.step(ONE), 0.02)
            fake.gate.set()
            await session.step(ONE)
        assert session.step_count == fake.sessions[session.id].step == 20
        assert (await session.get_states())["total"].tolist() == [[20, 40]]

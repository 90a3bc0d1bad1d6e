"""What only the asyncio client has: asynchronous items, cancellation, tasks."""

import asyncio

import numpy as np
import pytest

import rnnserve

ONE = np.float32([1, 0, 0])


@pytest.fixture
async def client(fake):
    async with rnnserve.aio.connect(fake.target, timeout_s=10) as client:
        yield client
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def forever():
    while True:
        yield ONE


async def test_asynchronous_items(client):
    async def items():
        for _ in range(20):
            await asyncio.sleep(0)
            yield ONE

    async with client.session("sums") as session:
        outputs = [float(output[0]) async for output in session.stream(items())]
    assert outputs == list(range(1, 21))


async def test_outputs_come_before_the_next_item_is_there(client):
    seen = asyncio.Event()

    async def items():
        yield ONE
        async with asyncio.timeout(5):
            await seen.wait()
        yield ONE

    async with client.session("sums") as session:
        async for _ in session.stream(items(), window=8):
            seen.set()
        assert session.step_count == 2


async def test_after_break_the_next_call_waits_for_what_was_sent(client, fake):
    async with client.session("sums") as session:
        async for output in session.stream(forever(), window=4):
            if float(output[0]) == 5:
                break
        sent = fake.received.count("stream step")
        total = (await session.get_states())["total"]
        assert total[0, 0] == session.step_count >= max(5, sent)
        assert float((await session.step(ONE))[0]) == session.step_count == total[0, 0] + 1


async def test_aclose_waits_at_once(client, fake):
    async with client.session("sums") as session:
        stream = session.stream(forever(), window=4)
        assert float((await anext(stream))[0]) == 1
        await stream.aclose()
        assert session.step_count == fake.sessions[session.id].step
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_leaving_after_the_last_item_loses_no_answer(client):
    """The end of the items may be on its way then."""
    items = [ONE] * 5
    for _ in range(100):
        async with client.session("sums") as session:
            stream = session.stream(items)
            await anext(stream)
            await stream.aclose()
            counted = session.step_count
            assert (await session.get_states())["total"][0, 0] == counted


async def test_leaving_while_an_item_is_awaited_cancels_the_wait(client):
    cancelled = False

    async def items():
        nonlocal cancelled
        yield ONE
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    async with client.session("sums") as session:
        async for _ in session.stream(items()):
            break
        assert (await session.step(ONE)).tolist() == [2, 4]
        assert cancelled


async def test_cancelling_the_consumer_loses_no_step(client, fake):
    async def consume(session):
        async for _ in session.stream([ONE] * 3):
            pass

    async with client.session("sums") as session:
        fake.gate.clear()
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(consume(session), 0.05)
        fake.gate.set()
        total = (await session.get_states())["total"]
        assert caught.tb  # holds the frames, which must not keep the stream alive
        assert total[0, 0] == session.step_count == fake.received.count("stream step")


async def test_a_stream_that_is_held_can_be_gone_on_with(client):
    async with client.session("sums") as session:
        stream = session.stream([ONE] * 5)
        async for _ in stream:
            break
        assert [float(output[0]) async for output in stream] == [2, 3, 4, 5]


async def test_a_stream_that_is_held_ends_with_its_session(client, fake):
    async with client.session("sums") as session:
        stream = session.stream(forever())
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert not fake.sessions


async def test_a_cancelled_step_leaves_the_session_usable(client, fake):
    async with client.session("sums") as session:
        fake.gate.clear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.step(ONE), 0.05)
        fake.gate.set()
        await session.reset_states()
        assert set(await session.get_states()) == {"total"}


async def test_closing_the_client_ends_what_is_under_way(client, fake):
    async with rnnserve.aio.connect(fake.target) as other:
        unary, streaming = [await other.session("sums").open() for _ in range(2)]
        fake.gate.clear()
        step = asyncio.create_task(unary.step(ONE))
        stream = streaming.stream([ONE])
        output = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        await other.close()
        for waiting in (step, output):
            with pytest.raises(rnnserve.ClientClosed, match="while the call was under way"):
                await waiting
        fake.gate.set()


async def test_many_sessions_at_once(client):
    async def run(number):
        async with client.session("sums") as session:
            outputs = [output async for output in session.stream([ONE * number] * 10)]
            assert [float(output[0]) for output in outputs] == [number * i for i in range(1, 11)]

    await asyncio.gather(*(run(number) for number in range(1, 21)))

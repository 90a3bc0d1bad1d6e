"""Streams of both clients whose connection breaks, or whose answers get lost: they go on."""

import asyncio
import threading
import time

import grpc
import numpy as np
import pytest

import rnnserve
from rnnserve import Retries

ONE = np.float32([1, 0, 0])  # adds [1, 2]
TOO_MUCH = np.float32([np.inf, 0, 0])  # the fake refuses it
QUICK = Retries(attempt_s=0.25, first_pause_s=0.005, longest_pause_s=0.02)
LOSSES = ["request", "answer", "silence"]


@pytest.fixture
def client(fake, connect):
    return connect(fake.target, timeout_s=10, retries=QUICK)


def firsts(outputs):
    return [float(output[0]) for output in outputs]


def collect(outputs, stream):
    for output in stream:
        outputs.append(output)


def run_once(fake, session, steps):
    """Every step was committed, and none twice."""
    assert session.step_count == fake.sessions[session.id].step == steps
    assert session.get_states()["total"].tolist() == [[steps, 2 * steps]]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("go_well", [-1, 0, 1, 5])
def test_a_stream_goes_on_over_another_call(client, fake, loss, go_well):
    """Whether it breaks at `resume` or at a step."""
    fake.cuts.append((go_well, loss))
    with client.session("sums") as session:
        assert firsts(session.stream([ONE] * 12)) == list(range(1, 13))
        run_once(fake, session, 12)
        assert session.step(ONE).tolist() == [13, 26]
    assert fake.streams >= 2


@pytest.mark.parametrize("window", [1, 4])
def test_a_stream_goes_on_over_many_calls(client, fake, window):
    fake.cuts.extend((go_well, loss) for go_well in (0, 2, 3) for loss in LOSSES)
    cuts = len(fake.cuts)
    with client.session("sums") as session:
        assert firsts(session.stream((ONE for _ in range(40)), window=window)) == [*range(1, 41)]
        run_once(fake, session, 40)
    assert fake.streams > cuts


def test_what_has_no_answer_is_sent_again_under_the_same_numbers(client, fake):
    fake.cuts.append((3, "answer"))
    with client.session("sums") as session:
        list(session.stream([ONE] * 6, window=6))
    sent = [request.step for request in fake.steps]
    assert sent[:4] == [1, 2, 3, 4]  # the answer to the last of these was lost
    again = sent[4:]
    assert again == list(range(again[0], 7))
    assert again[0] in (1, 2, 3, 4)  # answers that were under way may be lost as well


def test_an_item_that_is_awaited_meanwhile_is_not_lost(client, fake):
    """The break comes while the source waits; what it gives is sent by the next call."""
    fake.cuts.append((0, "request"))

    def items():
        for _ in range(5):
            time.sleep(0.03)
            yield ONE

    with client.session("sums") as session:
        assert firsts(session.stream(items())) == [1, 2, 3, 4, 5]
        run_once(fake, session, 5)


def test_a_break_with_nothing_under_way(client, fake):
    with client.session("sums") as session:
        fake.cuts.extend([(1, "request")] * 3)
        for output in session.stream((ONE for _ in range(4)), window=1):
            last = output
        assert last.tolist() == [4, 8]
        run_once(fake, session, 4)


@pytest.mark.parametrize("lag", [0, 3])
@pytest.mark.parametrize("go_well", range(6))
def test_an_error_is_raised_in_its_place_wherever_the_stream_breaks(client, fake, lag, go_well):
    """What is refused behind it, because it has not run, never comes first."""
    fake.lag = lag
    fake.cuts.append((go_well, "answer"))
    outputs = []
    with client.session("sums") as session:
        stream = session.stream([ONE, ONE, TOO_MUCH, ONE, ONE])
        with pytest.raises(rnnserve.StepFailed, match="infinity"):
            collect(outputs, stream)
        assert firsts(outputs) == [1, 2]
        run_once(fake, session, 2)  # nor is it run
        assert session.step(ONE).tolist() == [3, 6]


@pytest.mark.parametrize("kind", ["SessionExpired", "SessionNotFound"])
def test_a_session_that_has_gone_meanwhile_is_said(client, fake, kind):
    with client.session("sums") as session:
        fake.cuts.append((2, "request"))
        outputs = []
        row = fake.sessions[session.id]

        def items():
            yield ONE
            yield ONE
            if kind == "SessionExpired":
                row.expired = True
            else:
                row.token = "another"
            yield ONE

        with pytest.raises(getattr(rnnserve, kind)):
            collect(outputs, session.stream(items(), window=1))
        assert firsts(outputs) == [1, 2]


def test_what_the_server_says_at_the_end_is_raised(client, fake):
    fake.cuts.append((2, "answer"))
    with client.session("sums") as session:
        stream = session.stream([ONE] * 9, window=1)
        assert firsts([next(stream), next(stream)]) == [1, 2]
        fake.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "LimitReached", retry_after_s="2")
        with pytest.raises(rnnserve.LimitReached):
            next(stream)
        fake.refusal = None


def test_a_server_that_stays_away_is_given_up(fake, connect):
    client = connect(fake.target, timeout_s=0.5, retries=QUICK)
    with client.session("sums") as session:
        fake.cuts.extend([(2, "answer")])
        fake.cuts.extend([(-1, "request")] * 1000)
        outputs = []
        started = time.monotonic()
        with pytest.raises(rnnserve.Unavailable, match="no answer from"):
            collect(outputs, session.stream([ONE] * 9))
        assert 0.3 < time.monotonic() - started < 3
        fake.cuts.clear()
        done = len(outputs)
        # Items that are given again from there on are the same steps.
        assert firsts(session.stream([ONE] * (9 - done))) == list(range(done + 1, 10))
        run_once(fake, session, 9)


def test_the_stream_s_own_time_bounds_all_calls_together(client, fake):
    fake.cuts.extend([(2, "silence")] * 1000)
    with client.session("sums") as session:
        started = time.monotonic()
        with pytest.raises(rnnserve.DeadlineExceeded, match=r"within 0\.6 s"):
            list(session.stream((ONE for _ in range(1000)), timeout_s=0.6))
        assert time.monotonic() - started < 3
        fake.cuts.clear()


def test_steps_that_take_long_get_through_in_the_end(client, fake):
    with client.session("sums") as session:
        fake.gate.clear()
        timer = threading.Timer(0.8, fake.gate.set)
        timer.start()
        assert firsts(session.stream([ONE] * 4)) == [1, 2, 3, 4]
        assert fake.streams >= 2
        run_once(fake, session, 4)
        timer.join()


def test_a_consumer_that_takes_long_is_not_taken_for_a_loss(connect, fake):
    client = connect(fake.target, retries=Retries(attempt_s=0.5))
    with client.session("sums") as session:
        for number, _ in enumerate(session.stream([ONE] * 6)):
            if number == 0:
                time.sleep(0.9)
        run_once(fake, session, 6)
    assert fake.streams == 1


def test_leaving_early_mends_what_is_under_way(client, fake):
    fake.cuts.extend([(3, "answer"), (0, "answer"), (1, "request")])
    with client.session("sums") as session:
        stream = session.stream((ONE for _ in range(100)), window=8)
        assert firsts([next(stream), next(stream)]) == [1, 2]
        stream.close()
        done = session.step_count
        assert 2 <= done <= 10
        assert session.step(ONE).tolist() == [done + 1, 2 * done + 2]
        run_once(fake, session, done + 1)


def test_a_step_in_the_loop_over_a_stream(client, fake):
    """Comes after those that the stream has sent, which may not have arrived."""
    outputs = []
    with client.session("sums") as session:
        for output in session.stream([ONE] * 20, window=4):
            outputs.append(float(output[0]))
            if len(outputs) % 3 == 0:
                outputs.append(float(session.step(ONE)[0]))
        assert sorted(outputs) == list(range(1, len(outputs) + 1))
        run_once(fake, session, len(outputs))
    assert sorted({request.step for request in fake.steps}) == list(range(1, len(outputs) + 1))


def test_a_failed_step_in_the_loop_over_a_stream(client, fake):
    outputs = []
    with client.session("sums") as session:
        for output in session.stream([ONE] * 12, window=4):
            outputs.append(float(output[0]))
            if len(outputs) % 4 == 0:
                with pytest.raises(rnnserve.StepFailed):
                    session.step(TOO_MUCH)
        assert outputs == list(range(1, 13))
        run_once(fake, session, 12)


def test_a_step_in_the_loop_over_a_stream_that_has_failed(fake):
    """It cannot come after what the stream has sent: that has not run."""

    def loop(session):
        for _ in session.stream([ONE, TOO_MUCH, ONE, ONE], window=4):
            while len(fake.steps) < 2:
                time.sleep(0.01)
            session.step(ONE)

    with rnnserve.connect(fake.target) as client, client.session("sums") as session:
        started = time.monotonic()
        with pytest.raises(rnnserve.StepGap):
            loop(session)
        assert time.monotonic() - started < 3
        assert session.step(ONE).tolist() == [2, 4]


async def test_a_step_in_the_loop_over_an_asyncio_stream_that_has_failed(fake):
    async def loop(session):
        async for _ in session.stream([ONE, TOO_MUCH, ONE, ONE], window=4):
            await asyncio.sleep(0.2)  # until all is sent
            await session.step(ONE)

    async with rnnserve.aio.connect(fake.target) as client, client.session("sums") as session:
        started = time.monotonic()
        with pytest.raises(rnnserve.StepGap):
            await loop(session)
        assert time.monotonic() - started < 3
        assert (await session.step(ONE)).tolist() == [2, 4]


def test_one_stream_of_a_session_at_a_time(client):
    with client.session("sums") as session:
        first = session.stream([ONE] * 3)
        next(first)
        with pytest.raises(RuntimeError, match="another stream of this session is under way"):
            next(session.stream([ONE]))
        assert firsts(first) == [2, 3]
        assert firsts(session.stream([ONE])) == [4]

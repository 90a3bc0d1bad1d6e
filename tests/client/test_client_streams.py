"""Streams of both clients: order, window, errors in their place, leaving early."""

import threading
import time

import grpc
import numpy as np
import pytest

import rnnserve

ONE = np.float32([1, 0, 0])  # adds [1, 2]
TOO_MUCH = np.float32([np.inf, 0, 0])  # the fake refuses it


def firsts(outputs):
    return [float(output[0]) for output in outputs]


def collect(outputs, stream):
    for output in stream:
        outputs.append(output)


def go_on(session):
    """The steps so far, which the state agrees with, now and after one more."""
    total = session.get_states()["total"]
    done = session.step_count
    assert total.tolist() == [[done, 2 * done]]
    assert session.step(ONE).tolist() == [done + 1, 2 * done + 2]
    return done


def test_one_output_per_item_in_order(client):
    with client.session("sums") as session:
        assert firsts(session.stream(ONE for _ in range(100))) == list(range(1, 101))
        assert session.step_count == 100
        assert firsts(session.stream([ONE, ONE])) == [101, 102]
        assert firsts(session.stream([])) == []
        assert session.step(ONE).tolist() == [103, 206]


def test_items_take_every_form_that_step_takes(client):
    with client.session("sums") as session:
        items = [[1, 0, 0], np.ones((1, 1, 3)), {"frames": [[1.0, 0, 0]] * 4}]
        shapes = [output.shape for output in session.stream(items)]
        assert shapes == [(2,), (1, 2), (2,)]
        shapes = [output.shape for output in session.stream(items, return_sequences=True)]
        assert shapes == [(2,), (1, 1, 2), (4, 2)]


@pytest.mark.parametrize("window", [1, 3])
def test_never_more_than_the_window_unanswered(client, window):
    taken = 0

    def items():
        nonlocal taken
        for _ in range(12):
            taken += 1
            yield ONE

    with client.session("sums") as session:
        for consumed, output in enumerate(session.stream(items(), window=window)):
            assert float(output[0]) == consumed + 1
            time.sleep(0.01)  # time enough to take more than it should
            assert taken <= consumed + window
    assert taken == 12


def test_the_window_is_used(client, fake):
    fake.gate.clear()
    taken = []

    def items():
        for number in range(8):
            taken.append(number)
            yield ONE
        fake.gate.set()  # the first answer comes only after the last item

    with client.session("sums") as session:
        assert len(list(session.stream(items(), window=9))) == 8
    assert taken == list(range(8))


def test_with_a_window_of_one_items_may_depend_on_outputs(client):
    """Closed loop: each item is made from the output before it."""
    last = [0.0]

    def items():
        for _ in range(5):
            yield [last[0] + 1, 0, 0]

    with client.session("sums") as session:
        for output in session.stream(items(), window=1):
            last[0] = float(output[0])
    assert last == [31.0]  # x → 2x + 1, five times


def test_outputs_come_before_the_next_item_is_there(client):
    """A live source: nobody waits for the window to fill."""
    seen = threading.Event()

    def items():
        yield ONE
        # on asyncio the source shares the consumer's thread and must not wait
        if threading.current_thread() is not threading.main_thread():
            assert seen.wait(5)
        yield ONE

    with client.session("sums") as session:
        for _ in session.stream(items(), window=8):
            seen.set()


@pytest.mark.parametrize("lag", [0, 4])
def test_an_error_is_raised_in_its_place(client, fake, lag):
    """Also where the refusal overtakes the answers to earlier steps."""
    fake.lag = lag
    outputs = []
    with client.session("sums") as session:
        stream = session.stream([ONE, ONE, TOO_MUCH, ONE])
        with pytest.raises(rnnserve.StepFailed, match="infinity is too much"):
            collect(outputs, stream)
        assert firsts(outputs) == [1, 2]
        assert list(stream) == []
        done = go_on(session)
        assert done in (2, 3)  # the step behind the error may have been sent


def test_an_item_that_does_not_fit_raises_in_its_place(client):
    outputs = []
    with client.session("sums") as session:
        stream = session.stream([ONE, ONE, np.zeros(4), ONE])
        with pytest.raises(ValueError, match="input 'frames'"):
            collect(outputs, stream)
        assert firsts(outputs) == [1, 2]
        assert session.step(ONE).tolist() == [3, 6]


def test_what_the_items_raise_is_raised_in_its_place(client):
    def items():
        yield ONE
        yield ONE
        raise ZeroDivisionError

    outputs = []
    with client.session("sums") as session:
        stream = session.stream(items())
        with pytest.raises(ZeroDivisionError):
            collect(outputs, stream)
        assert firsts(outputs) == [1, 2]
        assert session.step(ONE).tolist() == [3, 6]


def test_leaving_early_keeps_what_was_sent_and_the_session(client, fake):
    with client.session("sums") as session:
        for output in session.stream((ONE for _ in range(100)), window=4):
            if float(output[0]) == 10:
                break
        assert 10 <= go_on(session) < 10 + 4


def test_an_exception_in_the_loop_s_body_leaves_the_session_usable(client):
    def body():
        for _ in session.stream(ONE for _ in range(100)):
            raise ZeroDivisionError

    with client.session("sums") as session:
        with pytest.raises(ZeroDivisionError):
            body()
        assert go_on(session) >= 1


def test_a_stream_that_is_never_begun_sends_nothing(client, fake):
    with client.session("sums") as session:
        session.stream([ONE]).close()
    assert fake.received == ["open", "close"]


def test_what_is_no_iterable_is_refused_at_once(client):
    with client.session("sums") as session:
        with pytest.raises(TypeError, match="not iterable"):
            session.stream(5)
        with pytest.raises(ValueError, match="window"):
            session.stream([], window=0)


def test_a_session_that_is_gone_is_the_first_answer(client, fake):
    with client.session("sums") as session:
        fake.sessions.clear()
        with pytest.raises(rnnserve.SessionNotFound):
            next(session.stream([ONE, ONE]))


def test_a_limit_says_when_to_come_back(client, fake):
    with client.session("sums") as session:
        for hint, expected in (("2.5", 2.5), ("", 1.0)):
            fake.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "LimitReached", retry_after_s=hint)
            with pytest.raises(rnnserve.LimitReached) as caught:
                next(session.stream([ONE]))
            assert caught.value.retry_after_s == expected
        fake.refusal = None


@pytest.mark.parametrize("requests", [1, 3])
def test_a_server_that_hangs_up_is_an_error(client, fake, requests):
    fake.hang_up_after = requests
    with client.session("sums") as session:
        stream = session.stream(ONE for _ in range(50))
        outputs = []
        with pytest.raises(rnnserve.RnnserveError, match="ended the stream"):
            collect(outputs, stream)
        assert firsts(outputs) == list(range(1, requests))


def test_a_stream_that_the_server_ends_says_why(client, fake):
    """Whatever is being written just then."""
    for _ in range(20):
        with client.session("sums") as session:
            fake.abort_after = 4
            with pytest.raises(rnnserve.ShuttingDown, match="good night"):
                collect([], session.stream(ONE for _ in range(1000)))


def test_leaving_a_server_that_does_not_answer_takes_no_longer_than_the_timeout(client, fake):
    with client.session("sums", timeout_s=0.2) as session:
        stream = session.stream([ONE] * 3, window=3)
        next(stream)
        fake.gate.clear()
        # the steps after the first may or may not have been answered before the gate fell
        started = time.monotonic()
        stream.close()
        assert time.monotonic() - started < 2
        fake.gate.set()


def test_leaving_while_an_item_is_awaited(fake, connect):
    """The thread that waits for the item ends with the wait; nobody waits for it."""
    client = rnnserve.connect(fake.target)
    item = threading.Event()

    def items():
        yield ONE
        item.wait(10)
        yield ONE

    with client, client.session("sums") as session:
        stream = session.stream(items())
        assert float(next(stream)[0]) == 1
        stream.close()
        assert session.step(ONE).tolist() == [2, 4]
        item.set()
    assert fake.received.count("stream step") == 1

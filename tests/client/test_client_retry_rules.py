"""When calls are made again, and which number a step has: rules without a server."""

import itertools

import pytest

from rnnserve import (
    DeadlineExceeded,
    Retries,
    ShuttingDown,
    StepConflict,
    StepFailed,
    StepForgotten,
    StepGap,
    Unavailable,
)
from rnnserve._numbers import Numbers
from rnnserve._retry import Attempts, Backoff, Gap, Mending
from rnnserve._steps import Steps
from rnnserve.v1 import session_pb2 as pb

LOST = Unavailable("lost")


def test_pauses_double_up_to_a_second_and_are_cut_by_chance():
    longest = Backoff(chance=lambda: 0.0)
    assert [longest.next() for _ in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    shortest = Backoff(chance=lambda: 1.0)
    assert [shortest.next() for _ in range(3)] == [0.025, 0.05, 0.1]
    longest.reset()
    assert longest.next() == 0.05
    by_chance = [Backoff().next() for _ in range(20)]
    assert len(set(by_chance)) > 1
    assert all(0.025 <= pause <= 0.05 for pause in by_chance)


def deadlines(timeout_s, retries=Retries()):  # noqa: B008
    """The deadlines of attempts that all pass."""
    now = 100.0
    attempts = Attempts(retries, timeout_s, now)
    while True:
        deadline = attempts.timeout(now)
        yield deadline
        now += deadline
        if (pause := attempts.pause(now)) is None:
            return
        now += pause


def test_attempts_get_twice_the_time_and_the_last_what_is_left():
    *first, last = deadlines(30)
    assert first == [2, 4, 8]
    assert 15 < last < 16
    assert sum(first) + last < 30
    first, last = deadlines(10)  # a third one could not have 4 seconds
    assert first == 2
    assert 7.9 < last < 8
    assert list(deadlines(3)) == [3]


def test_without_a_limit_attempts_never_end():
    assert list(itertools.islice(deadlines(None), 5)) == [2, 4, 8, 16, 32]


def test_without_retries_there_is_one_attempt():
    assert list(deadlines(7, None)) == [7]
    attempts = Attempts(None, None, 0.0)
    assert attempts.timeout(0.0) is None
    assert attempts.pause(0.0) is None


@pytest.mark.parametrize("wrong", [(0, 1, 1), (1, 0, 1), (1, 2, 1)])
def test_retries_that_cannot_be_right(wrong):
    with pytest.raises(ValueError, match=r"expected attempt_s > 0 and"):
        Retries(*wrong)


def test_a_stream_is_mended_while_the_server_can_be_reached():
    mending = Mending(Retries(), patience_s=3.0)
    assert mending.pause(LOST, now=0.0, received=1, answered=0) <= 0.05
    for now in (1.0, 2.0):
        assert mending.pause(LOST, now, received=1, answered=0) is not None
    assert mending.pause(LOST, 3.0, received=1, answered=0) is None
    assert mending.pause(LOST, 3.0, received=2, answered=0) is not None
    assert mending.pause(LOST, 5.9, received=2, answered=0) is None


def test_a_stream_that_breaks_at_the_same_step_is_mended_ever_more_slowly():
    mending = Mending(Retries(), patience_s=None)
    pauses = [mending.pause(LOST, now, received=now, answered=7) for now in range(8)]
    assert pauses[-1] >= 0.5
    assert mending.pause(LOST, 9.0, received=9, answered=8) <= 0.05


@pytest.mark.parametrize("error", [ShuttingDown("x"), DeadlineExceeded("x"), StepFailed("x")])
def test_an_answer_is_no_break(error):
    assert Mending(Retries(), None).pause(error, 0.0, 1, 1) is None
    assert Mending(None, None).pause(LOST, 0.0, 1, 1) is None


def test_answers_are_overdue_when_none_comes_while_somebody_waits():
    mending = Mending(Retries(attempt_s=2.0), None)
    assert not mending.overdue(0.0, received=1, waiting=True)
    assert not mending.overdue(1.9, received=1, waiting=True)
    assert not mending.overdue(2.1, received=2, waiting=True)  # one came
    assert not mending.overdue(4.0, received=2, waiting=False)  # nobody waits
    assert not mending.overdue(4.5, received=2, waiting=True)
    assert not mending.overdue(6.4, received=2, waiting=True)
    assert mending.overdue(6.5, received=2, waiting=True)
    assert not mending.overdue(6.6, received=2, waiting=True)
    assert not mending.overdue(10.5, received=2, waiting=True)  # it has 4 seconds now
    assert mending.overdue(10.6, received=2, waiting=True)


def test_a_gap_is_waited_for_as_long_as_it_closes():
    gap = Gap(None, 0.0)
    assert gap.pause(5, 0.0) == gap.pause(5, 4.9) == gap.pause(6, 5.1) == gap.pause(6, 10.0)
    assert gap.pause(6, 10.1) is None
    assert gap.left_s(11.0) is None
    short = Gap(2.0, 0.0)
    assert short.pause(5, 1.0) is not None
    assert short.left_s(1.5) == 0.5
    assert short.pause(6, 2.0) is None


def take(numbers):
    request = pb.StepRequest()
    assert numbers.take(request) == request.step
    return request.step, request.acknowledged


def refused(kind):
    return kind("no", None, None, kind.__name__)


def test_numbers_count_up_and_acknowledge_what_has_come():
    numbers = Numbers()
    assert take(numbers) == (1, 0)
    numbers.answered(1, 1)
    assert take(numbers) == (2, 1)
    assert (numbers.committed, numbers.cautious) == (1, False)


def test_a_number_that_was_refused_is_used_again():
    numbers = Numbers()
    take(numbers)
    numbers.failed(1, refused(StepFailed), streaming=False)
    assert take(numbers) == (1, 0)
    assert not numbers.cautious


@pytest.mark.parametrize("error", [LOST, DeadlineExceeded("late"), KeyboardInterrupt()])
def test_a_number_without_an_answer_is_used_again_with_caution(error):
    numbers = Numbers()
    take(numbers)
    numbers.failed(1, error, streaming=False)
    numbers.heard(1)  # it was committed: the next step gets its answer all the same
    assert numbers.committed == 1
    assert take(numbers) == (1, 0)
    assert numbers.cautious
    numbers.answered(1, 1)
    assert take(numbers) == (2, 1)
    assert not numbers.cautious


def test_a_refusal_ends_the_doubt():
    """Had the step been committed, the answer would have been another one."""
    numbers = Numbers()
    take(numbers)
    numbers.failed(1, LOST, streaming=False)
    take(numbers)
    numbers.failed(1, refused(StepFailed), streaming=False)
    assert take(numbers) == (1, 0)
    assert not numbers.cautious


@pytest.mark.parametrize("kind", [StepConflict, StepForgotten, StepGap])
def test_a_count_that_is_astray_is_asked_for(kind):
    numbers = Numbers()
    take(numbers)
    numbers.failed(1, refused(kind), streaming=False)
    assert numbers.astray
    numbers.settle(7)
    assert not numbers.astray
    assert take(numbers) == (8, 7)


def test_a_gap_beside_a_stream_is_no_reason_to_ask():
    numbers = Numbers()
    take(numbers)
    take(numbers)
    numbers.failed(2, refused(StepGap), streaming=True)
    assert not numbers.astray
    assert take(numbers) == (2, 0)


def test_what_others_have_stepped_counts_where_nothing_is_under_way():
    numbers = Numbers()
    numbers.heard(3)
    assert take(numbers) == (4, 3)
    numbers.heard(9)
    numbers.settle(9)
    numbers.answered(4, 4)
    assert take(numbers) == (5, 4)


def test_a_step_between_those_of_a_stream():
    numbers = Numbers()
    take(numbers)  # 1, the stream's
    take(numbers)  # 2, a step's
    take(numbers)  # 3, the stream's
    numbers.answered(2, 2)
    assert take(numbers) == (4, 0)  # the first has no answer yet
    numbers.answered(1, 1, up_to=1)
    assert take(numbers) == (5, 1)
    numbers.answered(3, 3, up_to=3)
    assert take(numbers) == (6, 3)


def test_a_stream_that_is_over_gives_its_numbers_back():
    numbers = Numbers()
    for _ in range(5):
        take(numbers)
    numbers.answered(1, 1, up_to=1)
    numbers.rewind(2, doubtful=False)
    assert take(numbers) == (2, 1)
    assert not numbers.cautious
    take(numbers)
    numbers.rewind(2, doubtful=True)
    for number in (2, 3):
        assert take(numbers)[0] == number
        assert numbers.cautious
        numbers.answered(number, number)
    assert take(numbers) == (4, 3)
    assert not numbers.cautious


def test_a_stream_that_is_given_up_leaves_later_steps_alone():
    """Whose answers have come: what was before them was committed."""
    numbers = Numbers()
    take(numbers)  # the stream's
    take(numbers)  # a step's
    numbers.answered(2, 2)
    numbers.rewind(1, doubtful=True)
    assert take(numbers) == (3, 2)
    numbers.rewind(1, doubtful=True)
    numbers.answered(3, 3)  # comes after the stream has ended
    assert take(numbers) == (4, 3)


def test_one_stream_at_a_time():
    numbers = Numbers()
    numbers.begin_stream()
    with pytest.raises(RuntimeError, match="another stream of this session is under way"):
        numbers.begin_stream()
    numbers.end_stream()
    numbers.begin_stream()


class AnyCodec:
    def put_step(self, request, x, named, return_sequences, return_state):
        return x

    def read_step(self, answer, asked):
        return asked


def answer(position, step=0, kind=""):
    message = pb.StreamResponse(request_id=position)
    if kind:
        message.error.kind = kind
    else:
        message.step.step = step
    return message


def sent_again(steps):
    position = 0
    while (kept := steps.after(position)) is not None:
        position, message = kept
        yield position, message.step.step


def test_a_refusal_for_lying_ahead_is_no_answer_when_the_stream_is_started_again():
    numbers = Numbers()
    steps = Steps(pb.SessionKey(), AnyCodec(), False, numbers)
    for item in "abcd":
        steps.put(item)
    steps.receive(answer(1, step=1))
    steps.receive(answer(3, kind="StepGap"))
    assert steps.pop() == "a"
    assert not steps.ready
    assert (steps.unanswered, steps.awaited) == (2, True)
    steps.restart()
    assert list(sent_again(steps)) == [(2, 2), (3, 3), (4, 4)]
    assert steps.unanswered == 3
    for position, item in ((2, "b"), (3, "c"), (4, "d")):
        assert not steps.ready
        steps.receive(answer(position, step=position))
        assert steps.pop() == item
    assert steps.unanswered == 0
    steps.settle()
    assert take(numbers) == (5, 4)


def test_an_answer_that_comes_twice_counts_once():
    steps = Steps(pb.SessionKey(), AnyCodec(), False, Numbers())
    steps.put("a")
    for _ in range(2):
        steps.receive(answer(1, step=1))
    assert steps.pop() == "a"
    assert (steps.ready, steps.unanswered) == (False, 0)


@pytest.mark.parametrize("kind", ["StepConflict", "StepForgotten", "StepGap"])
def test_a_stream_that_the_server_counts_otherwise_leaves_a_question(kind):
    numbers = Numbers()
    steps = Steps(pb.SessionKey(), AnyCodec(), False, numbers)
    steps.put("a")
    steps.put("b")
    steps.receive(answer(1, kind=kind))
    steps.receive(answer(2, kind="StepGap"))
    steps.settle()
    assert numbers.astray
    numbers.settle(4)
    assert take(numbers) == (5, 4)


def test_a_failed_step_of_a_stream_leaves_none():
    numbers = Numbers()
    steps = Steps(pb.SessionKey(), AnyCodec(), False, numbers)
    steps.put("a")
    steps.put("b")
    steps.receive(answer(1, kind="StepFailed"))
    steps.receive(answer(2, kind="StepGap"))
    steps.settle()
    assert not numbers.astray
    assert take(numbers) == (1, 0)


def test_repr_of_numbers():
    assert repr(Numbers()) == "<Numbers next 1, acknowledged 0, doubt 0>"

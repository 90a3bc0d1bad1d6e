"""Calls of both clients whose answers get lost: made again, and carried out once."""

import threading
import time

import grpc
import numpy as np
import pytest

import rnnserve
from rnnserve import Retries
from tests.client.session_server import Refusal

ONE = np.float32([1, 0, 0])  # adds [1, 2]
TWO = np.float32([2, 0, 0])
TOO_MUCH = np.float32([np.inf, 0, 0])  # the fake refuses it
QUICK = Retries(attempt_s=0.25, first_pause_s=0.005, longest_pause_s=0.02)
LOSSES = ["request", "answer", "silence"]


@pytest.fixture
def client(fake, connect):
    """One that has had an answer, and does not wait long for the next."""
    client = connect(fake.target, timeout_s=10, retries=QUICK)
    client.sessions()
    fake.received.clear()
    return client


def numbers(fake):
    return [request.step for request in fake.steps]


def test_steps_are_numbered_and_answers_acknowledged(client, fake):
    with client.session("sums") as session:
        for _ in range(3):
            session.step(ONE)
        list(session.stream([ONE, ONE], window=1))
        session.step(ONE)
    assert [(request.step, request.acknowledged) for request in fake.steps] == [
        *((1, 0), (2, 1), (3, 2)),
        *((4, 3), (5, 4)),
        (6, 5),
    ]


def test_a_stream_acknowledges_what_has_come(client, fake):
    with client.session("sums") as session:
        list(session.stream([ONE] * 50, window=3))
        assert all(request.acknowledged >= request.step - 4 for request in fake.steps)
        assert numbers(fake) == list(range(1, 51))


@pytest.mark.parametrize("losses", [[one, other] for one in LOSSES for other in LOSSES])
def test_a_step_is_run_once_whatever_is_lost(client, fake, losses):
    with client.session("sums") as session:
        fake.faults["step"].extend(losses)
        assert session.step(ONE).tolist() == [1, 2]
        assert session.step(ONE).tolist() == [2, 4]
        assert session.step_count == fake.sessions[session.id].step == 2
    assert fake.received.count("step") >= 4  # or more, where the machine is slow


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("session_id", ["", "mine"])
def test_beginning_again_gets_the_same_session(client, fake, loss, session_id):
    fake.faults["open"].extend([loss] * 2)
    with client.session("sums", session_id=session_id) as session:
        assert fake.received.count("open") >= 3
        assert list(fake.sessions) == [session.id]
        assert session.id == session_id or len(session.id) >= 16
        fake.faults["fork"].extend([loss] * 2)
        with session.fork() as forked:
            assert set(fake.sessions) == {session.id, forked.id}
        fake.faults["restore"].extend([loss] * 2)
        with client.restore(session.snapshot(), session_id="another") as restored:
            assert restored.id == "another"
            assert len(fake.sessions) == 2
    assert not fake.sessions


@pytest.mark.parametrize("loss", LOSSES)
def test_every_other_call_may_be_repeated(client, fake, loss):
    for name in ("get", "set", "reset", "snapshot", "keep_alive", "info", "close", "list"):
        fake.faults[name].append(loss)
    fake.faults["describe"].append(loss)
    with client.session("sums") as session:
        session.set_states({"total": [[3, 4]]})
        assert session.get_states()["total"].tolist() == [[3, 4]]
        session.reset_states()
        assert session.snapshot()
        session.keep_alive()
        assert session.describe().id == session.id
        assert [info.id for info in client.sessions()] == [session.id]
        assert client.model("sums").version == "1"
    assert not fake.sessions  # closing the second time met nothing, and was content
    assert not any(fake.faults.values())


@pytest.mark.parametrize("loss", LOSSES)
def test_resuming_is_tried_again(client, fake, loss):
    session = client.session("sums").open()
    session.step(ONE)
    fake.cuts.append((-1, loss))
    with client.resume(session.id, session.token) as resumed:
        assert resumed.step(ONE).tolist() == [2, 4]
    assert fake.streams >= 2


def test_a_peek_has_no_number_and_leaves_all_as_it_was(client, fake):
    with client.session("sums") as session:
        session.step(ONE)
        fake.faults["step"].extend(LOSSES)
        output, states = session.step(TWO, peek=True, return_state=True)
        assert output.tolist() == [3, 6]
        assert states["total"].tolist() == [[3, 6]]
        assert session.step_count == 1
        assert session.step(ONE).tolist() == [2, 4]
    assert {(request.step, request.peek) for request in fake.steps} == {
        *((1, False), (0, True), (2, False))
    }


def test_the_time_bounds_all_attempts_together(client, fake):
    with client.session("sums") as session:
        fake.faults["step"].extend(["silence"] * 9)
        started = time.monotonic()
        with pytest.raises(rnnserve.DeadlineExceeded, match=r"within 1 s"):
            session.step(ONE, timeout_s=1)
        assert 0.8 < time.monotonic() - started < 2
        assert 2 <= fake.received.count("step") <= 4
        fake.faults["step"].clear()
        fake.faults["step"].extend(["request"] * 1000)
        with pytest.raises((rnnserve.Unavailable, rnnserve.DeadlineExceeded)):
            session.step(ONE, timeout_s=0.3)  # the last attempt may have had no time
        fake.faults["step"].clear()


def test_work_that_takes_long_gets_through_in_the_end(client, fake):
    with client.session("sums") as session:
        fake.gate.clear()
        timer = threading.Timer(0.8, fake.gate.set)
        timer.start()
        assert session.step(ONE).tolist() == [1, 2]  # though an attempt has 0.25 s at first
        assert fake.received.count("step") > 1
        assert session.step_count == fake.sessions[session.id].step == 1
        timer.join()


def test_without_retries_there_is_one_attempt(fake, connect):
    client = connect(fake.target, timeout_s=10, retries=None)
    with client.session("sums") as session:
        fake.faults["step"].append("answer")
        with pytest.raises(rnnserve.Unavailable, match="cut"):
            session.step(ONE)
        assert session.step(ONE).tolist() == [1, 2]  # the same number: the answer that was lost
        fake.cuts.append((1, "answer"))
        with pytest.raises(rnnserve.Unavailable, match="cut"):
            list(session.stream([ONE] * 5))
    assert fake.received.count("step") == 2
    assert fake.streams == 1


def test_who_was_never_answered_does_not_try_again(fake, connect):
    client = connect(fake.target, timeout_s=10, retries=QUICK)
    fake.faults["open"].append("request")
    session = client.session("sums")
    with pytest.raises(rnnserve.Unavailable):
        session.open()
    assert fake.received == ["open"]
    fake.faults["open"].append("request")
    with pytest.raises(rnnserve.ModelNotFound):  # an error is an answer
        client.model("nothing")
    session.open()
    assert fake.received == ["open", "describe", "open", "open"]
    session.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "ShuttingDown"),
        (grpc.StatusCode.UNAVAILABLE, "ModelNotReady"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "LimitReached"),
        (grpc.StatusCode.INTERNAL, "InternalError"),
    ],
)
def test_what_the_server_says_is_raised_at_once(client, fake, code, kind):
    with client.session("sums") as session:
        fake.refuse(code, kind)
        with pytest.raises(getattr(rnnserve, kind)) as caught:
            session.step(ONE)
        assert caught.value.kind == kind
        fake.refusal = None
        assert session.step(ONE).tolist() == [1, 2]
    assert fake.received.count("step") == 2


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
        (grpc.StatusCode.UNKNOWN, "Stream removed"),
        (grpc.StatusCode.CANCELLED, "CANCELLED"),
    ],
)
def test_other_words_for_a_broken_connection(client, fake, code, text):
    with client.session("sums") as session:
        fake.faults["step"].append(Refusal(code, "", text))
        assert session.step(ONE).tolist() == [1, 2]
        assert fake.received.count("step") >= 2


def test_closing_the_client_ends_the_attempts(fake):
    client = rnnserve.connect(fake.target, retries=Retries(first_pause_s=5, longest_pause_s=5))
    session = client.session("sums").open()
    fake.faults["step"].extend(["request"] * 3)
    closer = threading.Timer(0.1, client.close)
    closer.start()
    started = time.monotonic()
    with pytest.raises(rnnserve.ClientClosed):
        session.step(ONE)
    assert time.monotonic() - started < 2
    closer.join()


class TestAfterAStepInDoubt:
    """A step whose call has ended without an answer."""

    @pytest.fixture(params=["answer", "request"])
    def session(self, fake, connect, request):
        """Its second step is in doubt; `fake.ran` says whether it was run."""
        client = connect(fake.target, timeout_s=10, retries=None)
        with client.session("sums") as session:
            session.step(ONE)
            fake.faults["step"].append(request.param)
            with pytest.raises(rnnserve.Unavailable):
                session.step(ONE)
            fake.ran = request.param == "answer"
            assert fake.sessions[session.id].step == 1 + fake.ran
            yield session

    def test_the_same_inputs_are_the_same_step(self, session, fake):
        assert session.step(ONE).tolist() == [2, 4]
        assert session.step(ONE).tolist() == [3, 6]
        assert session.step_count == fake.sessions[session.id].step == 3

    def test_looking_does_not_settle_it(self, session, fake):
        session.get_states()
        session.describe()
        session.keep_alive()
        assert session.step_count == 1 + fake.ran
        assert session.step(ONE).tolist() == [2, 4]
        assert session.step_count == 2

    def test_other_inputs_take_its_place_or_say_that_it_was_run(self, session, fake):
        if fake.ran:
            with pytest.raises(rnnserve.StepConflict, match="other inputs"):
                session.step(TWO)
            assert fake.sessions[session.id].step == 2
            assert session.step(TWO).tolist() == [4, 8]
            assert session.step_count == 3
        else:
            assert session.step(TWO).tolist() == [3, 6]
            assert session.step_count == 2
        assert session.step(ONE).tolist() == ([5, 10] if fake.ran else [4, 8])

    def test_a_peek_does_not_settle_it(self, session, fake):
        assert session.step(TWO, peek=True).tolist() == ([4, 8] if fake.ran else [3, 6])
        assert session.step(ONE).tolist() == [2, 4]

    @pytest.mark.parametrize("begin_anew", ["reset_states", "set_states"])
    def test_setting_the_states_settles_it(self, session, fake, begin_anew):
        getattr(session, begin_anew)({"total": [[0, 0]]})
        assert session.step(ONE).tolist() == [1, 2]
        assert session.step_count == fake.sessions[session.id].step == 2 + fake.ran

    def test_a_stream_begins_with_it(self, session, fake):
        outputs = session.stream([ONE] * 4)
        assert [float(output[0]) for output in outputs] == [2, 3, 4, 5]
        assert fake.sessions[session.id].step == session.step_count == 5

    def test_a_stream_of_other_items_says_that_it_was_run(self, session, fake):
        """And nothing behind the refused item is run."""
        items = [TWO] * 4
        if fake.ran:
            with pytest.raises(rnnserve.StepConflict):
                list(session.stream(items))
            assert fake.sessions[session.id].step == 2
        assert len(list(session.stream(items))) == 4
        assert session.step_count == fake.sessions[session.id].step == 5 + fake.ran

    def test_a_failure_leaves_its_number_to_the_next(self, session, fake):
        expected = rnnserve.StepConflict if fake.ran else rnnserve.StepFailed
        with pytest.raises(expected):
            session.step(TOO_MUCH)
        assert session.step(ONE).tolist() == ([3, 6] if fake.ran else [2, 4])


def test_after_a_failed_step_its_number_is_used_again(client, fake):
    with client.session("sums") as session:
        session.step(ONE)
        for _ in range(2):
            with pytest.raises(rnnserve.StepFailed):
                session.step(TOO_MUCH)
        assert session.step(ONE).tolist() == [2, 4]
    assert numbers(fake) == [1, 2, 2, 2]


def test_a_step_that_was_forgotten_is_said_once(client, fake):
    with client.session("sums") as session:
        for _ in range(3):
            session.step(ONE)
        row = fake.sessions[session.id]
        row.step = 9  # somebody else has been here
        row.answers.clear()
        with pytest.raises(rnnserve.StepForgotten):
            session.step(ONE)
        session.step(ONE)
        assert session.step_count == row.step == 10


def test_a_server_that_has_gone_back_is_said_once(client, fake):
    with client.session("sums") as session:
        for _ in range(3):
            session.step(ONE)
        fake.sessions[session.id].step = 1  # it has lost two steps
        with pytest.raises(rnnserve.StepGap) as caught:
            session.step(ONE)
        assert caught.value.expected_step == 2
        session.step(ONE)
        assert fake.sessions[session.id].step == 2

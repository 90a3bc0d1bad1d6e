"""Every error of the server's becomes the exception of that name, with its text."""

import pickle
import socket
import threading
import time

import grpc
import numpy as np
import pytest

import rnnserve
from rnnserve import errors

FRAME = np.float32([1, 2, 3])
KINDS = {
    "InvalidRequest": grpc.StatusCode.INVALID_ARGUMENT,
    "ModelNotFound": grpc.StatusCode.NOT_FOUND,
    "ModelNotReady": grpc.StatusCode.UNAVAILABLE,
    "SessionNotFound": grpc.StatusCode.NOT_FOUND,
    "SessionExpired": grpc.StatusCode.FAILED_PRECONDITION,
    "SessionClosed": grpc.StatusCode.FAILED_PRECONDITION,
    "SessionExists": grpc.StatusCode.ALREADY_EXISTS,
    "LimitReached": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TimeoutExpired": grpc.StatusCode.UNAVAILABLE,
    "ShuttingDown": grpc.StatusCode.UNAVAILABLE,
    "StepFailed": grpc.StatusCode.INVALID_ARGUMENT,
    "StepGap": grpc.StatusCode.FAILED_PRECONDITION,
    "StepConflict": grpc.StatusCode.FAILED_PRECONDITION,
    "StepForgotten": grpc.StatusCode.OUT_OF_RANGE,
    "SnapshotRefused": grpc.StatusCode.INVALID_ARGUMENT,
    "InternalError": grpc.StatusCode.INTERNAL,
    "Unsupported": grpc.StatusCode.UNIMPLEMENTED,
}
CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.ALREADY_EXISTS: errors.SessionExists,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitReached,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: errors.RnnserveError,  # of a model or of a session?
    grpc.StatusCode.UNKNOWN: errors.RnnserveError,
}


def test_every_class_is_mapped_or_the_client_s_own():
    own = {"RnnserveError", "Unavailable", "DeadlineExceeded", "ClientClosed"}
    assert set(errors.__all__) == KINDS.keys() | own
    assert set(errors.__all__) <= set(rnnserve.__all__)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_decides(client, fake, kind):
    with client.session("sums") as session:
        fake.refuse(KINDS[kind], kind)
        with pytest.raises(errors.RnnserveError) as unary:
            session.step(FRAME)
        with pytest.raises(errors.RnnserveError) as streamed:
            next(session.stream([FRAME]))
        fake.refusal = None
    for caught in (unary, streamed):
        assert type(caught.value) is getattr(rnnserve, kind)
        assert caught.value.code is KINDS[kind]
        assert str(caught.value) == caught.value.details == "the server's words"


@pytest.mark.parametrize("kind", ["", "FromTheFuture"])
@pytest.mark.parametrize("code", CODES)
def test_without_a_known_kind_the_code_decides(client, fake, code, kind):
    fake.refuse(code, kind)
    with pytest.raises(errors.RnnserveError, match=r"the server.s words|no answer") as caught:
        client.session("sums").open()
    assert type(caught.value) is CODES[code]
    assert caught.value.code is code


def test_an_error_without_a_text_names_its_code(client, fake):
    fake.refuse(grpc.StatusCode.DATA_LOSS, message="")
    with pytest.raises(errors.RnnserveError, match="the server answered DATA_LOSS"):
        client.session("sums").open()


@pytest.mark.parametrize(("hint", "expected"), [("2.5", 2.5), ("", 1.0), ("soon", 1.0)])
def test_a_limit_says_when_to_come_back(client, fake, hint, expected):
    fake.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "LimitReached", retry_after_s=hint)
    with pytest.raises(rnnserve.LimitReached) as caught:
        client.session("sums").open()
    assert caught.value.retry_after_s == expected


def test_errors_of_the_fake_s_own_are_typed(client):
    with client.session("sums", session_id="mine"), pytest.raises(rnnserve.SessionExists):
        client.session("sums", session_id="mine").open()
    with pytest.raises(rnnserve.ModelNotFound):
        client.session("nothing").open()


def test_nobody_listens(connect):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{free.getsockname()[1]}"
        client = connect(target, timeout_s=10)
        for attempt in (client.sessions, client.session("vowels").open):
            with pytest.raises(rnnserve.Unavailable) as caught:
                attempt()
    text = str(caught.value)
    assert target in text
    assert "rnnserve serve --repository DIR" in text
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details in text


def test_no_answer_in_time(client, fake):
    with client.session("sums", timeout_s=5) as session:
        fake.gate.clear()
        started = time.monotonic()
        with pytest.raises(rnnserve.DeadlineExceeded, match=r"from 127.* within 0\.1 s"):
            session.step(FRAME, timeout_s=0.1)
        with pytest.raises(rnnserve.DeadlineExceeded):
            next(session.stream([FRAME], timeout_s=0.1))
        assert time.monotonic() - started < 4
        fake.gate.set()


def test_a_closed_client_says_so(client):
    session = client.session("sums").open()
    stream = session.stream([FRAME])
    client.close()
    for use in (
        lambda: session.step(FRAME),
        client.sessions,
        client.session("sums").open,
        lambda: next(stream),
    ):
        with pytest.raises(rnnserve.ClientClosed, match=r"closed>: connect again"):
            use()


def test_closing_the_client_ends_what_is_under_way(fake):
    client = rnnserve.connect(fake.target)
    session = client.session("sums").open()
    fake.gate.clear()
    closer = threading.Timer(0.1, client.close)
    closer.start()
    with pytest.raises(rnnserve.ClientClosed, match="while the call was under way"):
        session.step(FRAME)
    closer.join()


def test_exceptions_can_be_sent_to_another_process():
    error = errors.LimitReached("full", grpc.StatusCode.RESOURCE_EXHAUSTED)
    error.retry_after_s = 3.0
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.code, copy.retry_after_s) == (
        errors.LimitReached,
        "full",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        3.0,
    )

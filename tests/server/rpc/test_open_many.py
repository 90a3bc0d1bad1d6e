"""Many sessions opened by one message of a stream: all of them, or none."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import Stream, all_rows_are_free, column, frame, framed

Code = grpc.StatusCode
X = np.arange(1, 41).reshape(10, 2, 2)
OWN = {"session_id": "run", "token": "secret"}


def many(count: int, **fields: Any) -> pb.OpenManyRequest:
    wanted = pb.OpenSessionRequest(**{"model_name": "fold", **fields})
    return pb.OpenManyRequest(open=wanted, count=count)


async def test_they_are_sessions_like_any_other(rig: Any) -> None:
    stream = Stream(rig)
    answer = await stream.open_many(5, 10, idle_ttl_s=7)
    assert len({key.session_id for key in answer.sessions}) == 10
    assert len({key.token for key in answer.sessions}) == 10
    assert (answer.opened.batch_size, answer.opened.idle_ttl_s) == (1, 7)
    assert answer.opened.model_digest == rig.serving.model("fold").spec.digest
    assert not answer.opened.HasField("session")
    for number, key in enumerate(answer.sessions):
        by_number = await stream.answer(await stream.step(5 + number, X[number, None]))
        assert by_number.step.step == 1
        assert (await rig.step(key, X[number, None])).step == 2
    framed = await stream.frame(range(5, 15), X)
    assert (framed.outputs["y"] == rig.fold(np.concatenate([X] * 3, 1))[:, -1]).all()
    await stream.end()


async def test_all_or_none(make_rig: Any) -> None:
    rig = await make_rig(max_sessions=12)
    stream = Stream(rig)
    await stream.open_many(0, 5)
    error = await stream.refused(
        Code.RESOURCE_EXHAUSTED, "LimitReached", session=5, open_many=many(8)
    )
    assert error.retry_after_s > 0
    assert len(rig.serving.sessions) == 5
    await stream.open_many(5, 7)  # the numbers are still free, and so is the room
    assert len(rig.serving.sessions) == 12
    await stream.ask(close_many=pb.CloseManyRequest(sessions=column(*range(12))))
    assert all_rows_are_free(rig)
    await stream.end()


async def test_ids_and_tokens_of_ones_own(rig: Any) -> None:
    stream = Stream(rig)
    answer = await stream.open_many(0, 3, **OWN)
    expected = [pb.SessionKey(session_id=f"run/{n}", token=f"secret/{n}") for n in range(3)]
    assert list(answer.sessions) == expected
    answer = await stream.open_many(3, 2, session_id="other")
    assert [key.session_id for key in answer.sessions] == ["other/0", "other/1"]
    assert len({key.token for key in answer.sessions}) == 2
    await stream.end()


async def test_the_second_time_they_are_the_same(rig: Any) -> None:
    """Those that have been closed meanwhile are new."""
    broken = Stream(rig)
    first = await broken.open_many(0, 4, **OWN)
    await broken.frame(range(4), X[:4], steps=1)
    await broken.ask(2, close=pb.CloseSessionRequest())
    broken.call.cancel()
    stream = Stream(rig)
    again = await stream.open_many(7, 4, **OWN)
    assert again.sessions == first.sessions
    assert len(rig.serving.sessions) == 4
    framed = await stream.frame(range(7, 11), X[:4], steps=[2, 2, 1, 1])
    assert framed.steps == [2, 2, 1, 1]
    await stream.end()


async def test_one_of_the_ids_is_taken(rig: Any) -> None:
    await rig.open(session_id="run/2")
    stream = Stream(rig)
    await stream.refused(Code.ALREADY_EXISTS, "SessionExists", open_many=many(4, **OWN))
    assert [session.id for session in rig.serving.sessions] == ["run/2"]
    await stream.end()


SPECIAL = {
    "rows": {"batch_size": 2},
    "states": {"initial_state": [pb.Tensor(name="h")]},
    "constants": {"constants": [pb.Tensor(name="c")]},
    "states of another": {"states_of": pb.StatesOf(stream_session=1)},
    "a token without an id": {"token": "secret"},
    "a token too long for one of them": {"session_id": "run", "token": "t" * 62},
    "no time to live": {"idle_ttl_s": -1},
}


@pytest.mark.parametrize("case", SPECIAL)
async def test_what_they_cannot_have(rig: Any, case: str) -> None:
    stream = Stream(rig)
    message = many(11, **SPECIAL[case])
    await stream.refused(Code.INVALID_ARGUMENT, "InvalidRequest", session=1, open_many=message)
    assert len(rig.serving.sessions) == 0
    await stream.open_many(1, 11)
    await stream.end()


@pytest.mark.parametrize(
    ("first", "count"), [(0, 0), (2**22, 1), (2**22 - 1, 2), (0, 2**32 - 1), (2**32 - 1, 1)]
)
async def test_numbers_that_cannot_be(rig: Any, first: int, count: int) -> None:
    stream = Stream(rig)
    message = {"session": first, "open_many": many(count)}
    error = await stream.refused(Code.INVALID_ARGUMENT, "InvalidRequest", **message)
    assert "numbers below 4194304" in error.message
    assert len(rig.serving.sessions) == 0
    await stream.end()


async def test_the_highest_numbers(rig: Any) -> None:
    stream = Stream(rig)
    await stream.open_many(2**22 - 3, 3)
    framed = await stream.frame(range(2**22 - 3, 2**22), X[:3])
    assert (framed.outputs["y"] == rig.fold(X[:3])[:, -1]).all()
    await stream.end()


async def test_numbers_in_use(rig: Any) -> None:
    stream = Stream(rig)
    await stream.open_many(4, 1)
    for first in (1, 4):
        message = {"session": first, "open_many": many(4)}
        error = await stream.refused(Code.INVALID_ARGUMENT, "InvalidRequest", **message)
        assert error.message.startswith("this stream has a session 4 already")
    assert len(rig.serving.sessions) == 1
    await stream.end()


@pytest.mark.parametrize(
    ("model", "code", "kind"),
    [("other", Code.NOT_FOUND, "ModelNotFound"), ("", Code.NOT_FOUND, "ModelNotFound")],
)
async def test_of_no_model(rig: Any, model: str, code: grpc.StatusCode, kind: str) -> None:
    stream = Stream(rig)
    await stream.refused(code, kind, open_many=many(2, model_name=model))
    await stream.end()


async def test_shutting_down(rig: Any) -> None:
    stream = Stream(rig)
    rig.serving.draining = True
    await stream.refused(Code.UNAVAILABLE, "ShuttingDown", open_many=many(2))
    await stream.end()


MANY = {"max_sessions": 3000, "max_resident": 16}  # of which nobody steps all at a time


async def test_what_is_sent_right_after_thousands(make_rig: Any) -> None:
    """Others have their turn while they are opened; what this stream has sent comes after."""
    rig = await make_rig(**MANY)
    stream = Stream(rig)
    opening = await stream.send(0, open_many=many(3000))
    x = np.repeat(X[:1], 10, 0)
    framing = await stream.send(frame=frame(rig, range(0, 3000, 300), {"x": x}))
    stepping = await stream.step(2999, X[:1])
    again = await stream.send(2500, open_many=many(1))
    assert len((await stream.answer(opening)).open_many.sessions) == 3000
    got = framed(rig, await stream.answer(framing))
    assert (got.steps, got.errors) == ([1] * 10, {})
    assert (await stream.answer(stepping)).step.step == 1
    assert (await stream.answer(again)).error.kind == "InvalidRequest"
    await stream.end()


async def test_closed_right_after_thousands(make_rig: Any) -> None:
    """All of them are open by then; what comes later has none."""
    rig = await make_rig(**MANY)
    stream = Stream(rig)
    opening = await stream.send(0, open_many=many(3000))
    closing = await stream.send(close_many=pb.CloseManyRequest(sessions=column(*range(3000))))
    x = np.repeat(X[:1], 10, 0)
    late = await stream.send(frame=frame(rig, range(10), {"x": x}))
    assert len((await stream.answer(opening)).open_many.sessions) == 3000
    assert (await stream.answer(closing)).close_many.closed == 3000
    assert (await stream.answer(late)).error.kind == "InvalidRequest"
    assert len(rig.serving.sessions) == 0
    assert all_rows_are_free(rig)
    await stream.end()


async def test_cut_while_thousands_are_opened(make_rig: Any) -> None:
    """All or none: nobody has got the keys."""
    rig = await make_rig(**MANY)
    stream = Stream(rig)
    await stream.send(0, open_many=many(3000))
    await rig.until(lambda: len(rig.serving.sessions))
    some = len(rig.serving.sessions)
    stream.call.cancel()
    if some < 3000:
        await rig.until(lambda: len(rig.serving.sessions) in (0, 3000))
    for session in rig.serving.sessions:
        session.home.close(session)
    assert all_rows_are_free(rig)


async def test_more_than_the_server_takes(make_rig: Any) -> None:
    rig = await make_rig(**MANY)
    stream = Stream(rig)
    message = {"session": 0, "open_many": many(3001)}
    error = await stream.refused(Code.RESOURCE_EXHAUSTED, "LimitReached", **message)
    assert error.message == "3001 sessions are more than this server takes, 3000"
    await stream.end()

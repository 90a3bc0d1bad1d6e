"""Many sessions taken up again, or closed, by one message of a stream."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import STEPS, Stream, all_rows_are_free, column

Code = grpc.StatusCode
X = np.arange(1, 41).reshape(10, 2, 2)


async def test_resumed_where_they_are(rig: Any) -> None:
    broken = Stream(rig)
    keys = (await broken.open_many(0, 4)).sessions
    await broken.frame(range(4), X[:4], steps=1)
    await broken.frame([1, 3], X[[1, 3]], steps=2)
    broken.call.cancel()
    stream = Stream(rig)
    asked = pb.ResumeManyRequest(sessions=[keys[n] for n in (3, 2, 1, 0)])
    answer = (await stream.ask(20, resume_many=asked)).resume_many
    assert np.frombuffer(answer.steps, STEPS).tolist() == [2, 1, 2, 1]
    assert (answer.opened.model_name, answer.opened.step) == ("fold", 0)
    assert not answer.opened.HasField("session")
    framed = await stream.frame(range(20, 24), X[:4], steps=[3, 2, 3, 2])
    assert framed.errors == {}
    await stream.end()


async def test_some_of_them_are_gone(rig: Any) -> None:
    """The others are there, under their numbers."""
    keys = [await rig.open(idle_ttl_s=5) for _ in range(4)]
    rig.serving.sessions.find(keys[1].session_id).last_used_s -= 6
    assert rig.serving.expire() == 1
    keys[2] = pb.SessionKey(session_id=keys[2].session_id, token="guess")
    stream = Stream(rig)
    asked = pb.ResumeManyRequest(sessions=keys)
    answer = (await stream.ask(0, resume_many=asked)).resume_many
    assert {each.position: each.error.kind for each in answer.errors} == {
        1: "SessionExpired",
        2: "SessionNotFound",
    }
    framed = await stream.frame(range(4), X[:4])
    assert framed.steps == [1, 0, 0, 1]
    assert framed.kinds == {1: "InvalidRequest", 2: "InvalidRequest"}
    await stream.end()


async def test_none_of_them_is_there(rig: Any) -> None:
    stream = Stream(rig)
    asked = pb.ResumeManyRequest(sessions=[pb.SessionKey(session_id="none")] * 2)
    await stream.refused(Code.NOT_FOUND, "SessionNotFound", resume_many=asked)
    nobody = pb.ResumeManyRequest()
    await stream.refused(Code.INVALID_ARGUMENT, "InvalidRequest", resume_many=nobody)
    await stream.open_many(0, 2)
    await stream.end()


async def test_of_different_models(rig: Any) -> None:
    """Then no number is given, and all of them are still free."""
    keys = [await rig.open(), await rig.open("mixed")]
    stream = Stream(rig)
    asked = pb.ResumeManyRequest(sessions=keys)
    await stream.refused(Code.INVALID_ARGUMENT, "InvalidRequest", session=0, resume_many=asked)
    asked = pb.ResumeManyRequest(sessions=keys[:1])
    answer = await stream.ask(0, resume_many=asked)
    assert answer.WhichOneof("result") == "resume_many", answer
    await stream.end()


async def test_one_under_two_numbers(rig: Any) -> None:
    key = await rig.open()
    stream = Stream(rig)
    await stream.ask(0, resume_many=pb.ResumeManyRequest(sessions=[key, key]))
    for number in (0, 1):
        assert (await stream.frame([number], X[:1])).steps == [number + 1]
    answer = await stream.ask(
        frame=pb.Frame(sessions=column(0, 1), inputs=[rig.tensor("x", X[:2])])
    )
    assert (answer.error.kind, answer.error.message) == (
        "InvalidRequest", "a session may stand in a frame only once",
    )  # fmt: skip
    await stream.end()


async def test_closed_at_once(rig: Any) -> None:
    stream = Stream(rig)
    await stream.open_many(0, 8)
    await stream.frame(range(8), X[:8])
    await stream.ask(2, close=pb.CloseSessionRequest())
    asked = pb.CloseManyRequest(sessions=column(0, 1, 2, 3, 99, 0))
    assert (await stream.ask(close_many=asked)).close_many.closed == 3
    assert len(rig.serving.sessions) == 4
    framed = await stream.frame(range(8), X[:8])
    assert framed.kinds == dict.fromkeys(range(4), "InvalidRequest")
    await stream.open_many(0, 4)  # their numbers are free
    framed = await stream.frame(range(8), X[:8])
    assert framed.steps == [1, 1, 1, 1, 3, 3, 3, 3]
    await stream.ask(close_many=pb.CloseManyRequest(sessions=column(*range(8))))
    assert len(rig.serving.sessions) == 0
    assert all_rows_are_free(rig)
    await stream.end()


async def test_closed_by_somebody_else(rig: Any) -> None:
    stream = Stream(rig)
    keys = (await stream.open_many(0, 3, idle_ttl_s=5)).sessions
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=keys[0]))
    rig.serving.sessions.find(keys[1].session_id).last_used_s -= 6
    assert rig.serving.expire() == 1
    asked = pb.CloseManyRequest(sessions=column(0, 1, 2))
    assert (await stream.ask(close_many=asked)).close_many.closed == 1
    assert len(rig.serving.sessions) == 0
    await stream.end()


async def test_columns_of_the_wrong_length(rig: Any) -> None:
    stream = Stream(rig)
    await stream.open_many(0, 1)
    for wrong in (b"", b"\0\0\0", column(0) + b"\0"):
        asked = pb.CloseManyRequest(sessions=wrong)
        await stream.refused(Code.INVALID_ARGUMENT, "InvalidRequest", close_many=asked)
    assert len(rig.serving.sessions) == 1
    await stream.end()

"""What is wrong with a frame is said of the whole of it, what is wrong with a session only of that
one; and whatever is refused has changed nothing.
"""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import STEPS, Stream, all_rows_are_free, column, frame, framed

Code = grpc.StatusCode
COUNT = 4
X = np.arange(1, 25).reshape(COUNT, 3, 2)


async def open_stream(rig: Any, count: int = COUNT, **fields: Any) -> Stream:
    stream = Stream(rig)
    stream.keys = (await stream.open_many(0, count, **fields)).sessions
    return stream


def steps(*values: int) -> bytes:
    return np.array(values, STEPS).tobytes()


WHOLE = {
    "no sessions": ({"sessions": b""}, "sessions must be one or more uint32"),
    "a piece of a number": ({"sessions": column(0, 1, 2, 3) + b"\0"}, "sessions must be one or"),
    "fewer sessions than rows": (
        {"sessions": column(0, 1, 2)},
        "the frame has 3 sessions, but its inputs have 4 rows",
    ),
    "more sessions than rows": (
        {"sessions": column(0, 1, 2, 3, 9)},
        "the frame has 5 sessions, but its inputs have 4 rows",
    ),
    "fewer steps than sessions": ({"steps": steps(1, 1, 1)}, "steps must be 4 uint64"),
    "a piece of a step": ({"steps": steps(1, 1, 1, 1)[:-1]}, "steps must be 4 uint64"),
    "steps beyond counting": (
        {"steps": steps(1, 1, 1, 2**62 + 1)},
        f"steps must be at most {2**62}, got {2**62 + 1}",
    ),
    "the last step there can be": (
        {"steps": steps(1, 1, 1, 2**64 - 1)},
        f"steps must be at most {2**62}, got {2**64 - 1}",
    ),
    "a session twice": ({"sessions": column(0, 1, 2, 1)}, "a session may stand in a frame only"),
    "no session of this stream": (
        {"sessions": column(10, 11, 2**22, 2**32 - 1)},
        "this stream has none of the frame's sessions",
    ),
    "no inputs": ({"inputs": []}, "expected 1 inputs but got 0 inputs for model 'fold'"),
    "an input of another name": ({"inputs": [pb.Tensor(name="z")]}, "unexpected inference input"),
    "too few bytes": (
        {"inputs": [pb.Tensor(name="x", datatype="INT64", shape=[4, 1, 2], contents=b"\0" * 8)]},
        "input byte size mismatch for input 'x' for model 'fold'. Expected 64, got 8",
    ),
    "too few features": (
        {"inputs": [pb.Tensor(name="x", datatype="INT64", shape=[4, 1, 1], contents=b"\0" * 32)]},
        "unexpected shape for input 'x' for model 'fold'. Expected [-1,-1,2], got [4,1,1]",
    ),
}


@pytest.mark.parametrize("case", WHOLE)
async def test_refused_as_a_whole(rig: Any, case: str) -> None:
    stream = await open_stream(rig)
    await stream.frame(range(COUNT), X, steps=1)
    before = await rig.snapshot()
    fields, text = WHOLE[case]
    message = frame(rig, range(COUNT), {"x": X})
    for name, value in fields.items():
        message.ClearField(name)
        message.MergeFrom(pb.Frame(**{name: value}))
    error = (await stream.ask(frame=message)).error
    assert (error.code, error.kind) == (Code.INVALID_ARGUMENT.value[0], "InvalidRequest")
    assert error.message.startswith(text)
    assert await rig.snapshot() == before
    assert (await stream.frame(range(COUNT), X, steps=2)).errors == {}
    await stream.end()


async def test_sessions_of_two_models(rig: Any) -> None:
    stream = await open_stream(rig)
    await stream.open_many(10, 1, model="mixed")
    await stream.open_many(11, 1, model_version="1")
    for other in (10, 11):
        message = frame(rig, [0, 1, other], {"x": X[:3]})
        error = (await stream.ask(frame=message)).error
        assert error.message == "all sessions of a frame must be of one model"
    await stream.end()


async def test_sessions_of_several_rows(rig: Any) -> None:
    stream = await open_stream(rig)
    wide = pb.OpenSessionRequest(model_name="fold", batch_size=2)
    key = (await stream.ask(9, open=wide)).open.session
    error = (await stream.ask(frame=frame(rig, [0, 9], {"x": X[:2]}))).error
    assert error.message == "a session of several rows cannot step in a frame"
    assert [(await rig.states(each)).step for each in (key, stream.keys[0])] == [0, 0]
    await stream.end()


async def test_a_model_without_a_batch_axis(rig: Any) -> None:
    stream = await open_stream(rig, 2, model="whole")
    message = frame(rig, [0, 1], {"x": np.ones((2, 3), np.int64)})
    error = (await stream.ask(frame=message)).error
    assert error.message.startswith("model 'whole' has no batch axis")
    await stream.end()


async def test_the_sessions_that_there_are_make_their_steps(rig: Any) -> None:
    stream = await open_stream(rig)
    got = await stream.frame([0, 7, 2, 2**22 + 1, 3], np.concatenate([X, X[:1]]))
    assert got.kinds == {1: "InvalidRequest", 3: "InvalidRequest"}
    assert got.errors[1].message.startswith("this stream has no such session")
    assert got.steps == [1, 0, 1, 0, 1]
    expected = rig.fold(np.concatenate([X, X[:1]]))[:, -1]
    assert (got.outputs["y"][[0, 2, 4]] == expected[[0, 2, 4]]).all()
    assert not got.outputs["y"][[1, 3]].any()
    await stream.end()


async def test_a_number_too_high_for_frames(rig: Any) -> None:
    """The session is there, and has steps of its own; it cannot stand in a frame."""
    stream = await open_stream(rig)
    await stream.ask(2**22, open=pb.OpenSessionRequest(model_name="fold"))
    got = await stream.frame([0, 2**22], X[:2])
    assert got.kinds == {1: "InvalidRequest"}
    assert "4194304" in got.errors[1].message
    assert "closed" not in got.errors[1].message
    assert (await stream.answer(await stream.step(2**22, X[:1]))).step.step == 1
    await stream.end()


async def test_closed_expired_and_gone(rig: Any) -> None:
    """Each position says what a step of that session would have been told."""
    stream = await open_stream(rig, 6, idle_ttl_s=9)
    x = np.concatenate([X, X[:2]])
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=stream.keys[1]))
    await stream.ask(2, close=pb.CloseSessionRequest())
    rig.serving.sessions.find(stream.keys[3].session_id).last_used_s -= 10
    assert rig.serving.expire() == 1
    await rig.open(session_id="another in its slot")
    alone = {}
    for number in (1, 2, 3):
        answer = await stream.answer(await stream.step(number, X[:1]))
        alone[number] = answer.error.kind
    got = await stream.frame(range(6), x)
    assert got.kinds == alone == {1: "SessionNotFound", 2: "InvalidRequest", 3: "SessionExpired"}
    assert got.steps == [1, 0, 0, 0, 1, 1]
    got = await stream.frame([1, 3], X[:2])
    assert got.kinds == {0: "SessionNotFound", 1: "SessionExpired"}
    assert got.outputs == {}
    await stream.end()


@pytest.mark.parametrize("bad", [[3], [0, 1], [0, 5, 11], list(range(12))])
async def test_the_model_fails_at_some_positions(rig: Any, bad: list[int]) -> None:
    """Those alone have the error, and are as they were."""
    stream = await open_stream(rig, 12, model="mixed")
    place = np.ones(12, np.int64)
    for number in (1, 2):
        place[bad] = 9 if number == 2 else 1
        inputs = {"x": np.ones((12, 2), np.float32), "place": place}
        got = framed(rig, await stream.ask(frame=frame(rig, range(12), inputs, steps=number)))
    assert got.kinds == dict.fromkeys(bad, "StepFailed")
    good = [n for n in range(12) if n not in bad]
    assert got.steps == [0 if n in bad else 2 for n in range(12)]
    if good:
        assert got.outputs["y"][good].tolist() == [[22, 42]] * len(good)
        assert not got.outputs["y"][bad].any()
    place[:] = 0
    inputs = {"x": np.zeros((12, 2), np.float32), "place": place}
    got = framed(rig, await stream.ask(frame=frame(rig, range(12), inputs)))
    assert got.steps == [2 if n in bad else 3 for n in range(12)]
    assert got.outputs["y"].tolist() == [[11, 21] if n in bad else [22, 42] for n in range(12)]
    for key in stream.keys:
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert all_rows_are_free(rig, "mixed")
    await stream.end()


async def test_frames_go_on_while_the_server_shuts_down(rig: Any) -> None:
    stream = await open_stream(rig)
    rig.serving.draining = True
    assert (await stream.frame(range(COUNT), X)).steps == [1] * COUNT
    await stream.end()

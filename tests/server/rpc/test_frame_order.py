"""Frames and single requests of the same sessions run in the order in which they were sent, and a
stream that is cut takes with it what has not run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import Stream, all_rows_are_free, column, frame, framed

COUNT = 12


@pytest.fixture
def x() -> Any:
    return np.random.default_rng(7).integers(-9, 9, (COUNT, 11, 2))


async def open_stream(rig: Any, count: int = COUNT, **fields: Any) -> Stream:
    stream = Stream(rig)
    stream.keys = (await stream.open_many(0, count, **fields)).sessions
    return stream


@pytest.mark.parametrize("seed", range(4))
async def test_frames_and_single_steps_sent_at_once(make_rig: Any, seed: int) -> None:
    """Long ones and short ones, frames of some sessions, single steps, peeks and resets."""
    rig, rng = await make_rig(max_pending_per_session=256), np.random.default_rng(seed)
    stream = await open_stream(rig)
    states, sent = np.zeros((COUNT, 2), np.int64), []
    for _ in range(120):
        length, choice = rng.integers(1, 12), rng.random()
        chosen = rng.permutation(COUNT)[: rng.integers(1, COUNT + 1)]
        one = int(chosen[0])
        part = rng.integers(-9, 9, (len(chosen), length, 2))
        if choice < 0.4:
            states[chosen] = rig.fold(part, states[chosen])[:, -1]
            request = await stream.send(frame=frame(rig, chosen, {"x": part}))
            sent.append((request, states[chosen]))
        elif choice < 0.8:
            states[one] = rig.fold(part[:1], states[one])[0, -1]
            sent.append((await stream.step(one, part[:1]), states[one].copy()))
        elif choice < 0.9:
            expected = rig.fold(part[:1], states[one])[0, -1]
            sent.append((await stream.step(one, part[:1], peek=True), expected))
        else:
            states[one] = 0
            sent.append((await stream.send(one, reset=pb.ResetStatesRequest()), None))
    for request, expected in sent:
        answer = await stream.answer(request)
        if answer.WhichOneof("result") == "frame":
            assert (framed(rig, answer).outputs["y"] == expected).all()
        elif expected is not None:
            assert (rig.array_of(answer.step.outputs[0])[0] == expected).all()
    for number in range(COUNT):
        await stream.ask(number, close=pb.CloseSessionRequest())
    assert all_rows_are_free(rig)
    await stream.end()


async def test_what_is_sent_right_after_opening(rig: Any, x: Any) -> None:
    stream = Stream(rig)
    many = pb.OpenManyRequest(open=pb.OpenSessionRequest(model_name="fold"), count=COUNT)
    await stream.send(0, open_many=many)
    sent = await stream.send(frame=frame(rig, range(COUNT), {"x": x}))
    got = framed(rig, await stream.answer(sent))
    assert (got.outputs["y"] == rig.fold(x)[:, -1]).all()
    await stream.end()


async def test_a_session_that_begins_with_another_ones_states(make_rig: Any, x: Any) -> None:
    """A frame waits for it as any other step does."""
    rig = await make_rig(hold="fold")
    stream = await open_stream(rig, 2)
    first = await stream.step(0, x[:1])
    wanted = pb.OpenSessionRequest(model_name="fold", states_of=pb.StatesOf(stream_session=0))
    await stream.send(2, open=wanted)
    sent = await stream.send(frame=frame(rig, [1, 2], {"x": x[1:3]}))
    rig.held["fold"].released.set()
    await stream.answer(first)
    got = framed(rig, await stream.answer(sent))
    began = np.concatenate([np.zeros((1, 2), np.int64), rig.fold(x[:1])[:, -1]])
    assert (got.outputs["y"] == rig.fold(x[1:3], began)[:, -1]).all()
    await stream.end()


async def test_close_waits_for_the_frame_before(make_rig: Any, x: Any) -> None:
    rig = await make_rig(hold="fold")
    stream = await open_stream(rig)
    sent = await stream.send(frame=frame(rig, range(COUNT), {"x": x}))
    closing = await stream.send(3, close=pb.CloseSessionRequest())
    late = await stream.send(frame=frame(rig, [2, 3], {"x": x[2:4]}))
    rig.held["fold"].released.set()
    got = framed(rig, await stream.answer(sent))
    assert got.errors == {}
    assert (got.outputs["y"] == rig.fold(x)[:, -1]).all()
    assert (await stream.answer(closing)).close.step == 1
    got = framed(rig, await stream.answer(late))
    assert (got.kinds, got.steps) == ({1: "SessionClosed"}, [2, 0])
    await stream.end()


async def test_close_many_does_not_wait(make_rig: Any, x: Any) -> None:
    """What has not run by then is told so; sessions that are not closed go on."""
    rig = await make_rig(hold="fold")
    stream = await open_stream(rig)
    sent = [await stream.send(frame=frame(rig, range(COUNT), {"x": x})) for _ in range(2)]
    scheduler = rig.serving.model("fold").scheduler
    await rig.until(lambda: scheduler.pending == 2 * COUNT)
    asked = pb.CloseManyRequest(sessions=column(*range(1, COUNT)))
    assert (await stream.ask(close_many=asked)).close_many.closed == COUNT - 1
    rig.held["fold"].released.set()
    for number, request in enumerate(sent, start=1):
        got = framed(rig, await stream.answer(request))
        assert got.kinds == dict.fromkeys(range(1, COUNT), "SessionClosed")
        assert got.steps == [number] + [0] * (COUNT - 1)
    await stream.ask(0, close=pb.CloseSessionRequest())
    await stream.end()
    assert len(rig.serving.sessions) == 0
    assert all_rows_are_free(rig)


async def test_expiry_waits_for_the_frame(make_rig: Any, x: Any) -> None:
    rig = await make_rig(hold="fold")
    stream = await open_stream(rig, idle_ttl_s=5)
    sent = await rig.arrived(stream.frame(range(COUNT), x))
    for session in rig.serving.sessions:
        session.last_used_s -= 9
    assert rig.serving.expire() == 0
    rig.held["fold"].released.set()
    assert (await sent).steps == [1] * COUNT
    await stream.end()


async def cut(rig: Any, stream: Stream) -> None:
    """Cancel the stream, and wait until its frames have let go of what does not run."""
    held_by_frames = rig.serving.model("fold").table.frames
    before = held_by_frames.sum()
    stream.call.cancel()
    await rig.until(lambda: held_by_frames.sum() < before)


async def test_cut_in_the_middle_of_a_frame(make_rig: Any, x: Any) -> None:
    """The part that runs is made, the others are not, and each session says which."""
    rig = await make_rig(hold="fold")
    stream = await open_stream(rig)
    await stream.send(frame=frame(rig, range(COUNT), {"x": x[:, :4]}))
    await stream.send(frame=frame(rig, range(COUNT), {"x": x[:, 4:8]}))
    scheduler = rig.serving.model("fold").scheduler
    await rig.until(lambda: scheduler.pending == 2 * COUNT)
    await cut(rig, stream)
    rig.held["fold"].released.set()
    await rig.serving.idle()
    expected = rig.fold(x[:, :4])[:, -1]
    for number, key in enumerate(stream.keys):
        read = await rig.states(key)
        assert read.step == (number < 8)  # the model's max_batch_size
        state = expected[number] if number < 8 else [0, 0]
        assert (rig.array_of(read.states[0])[0] == state).all()
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert all_rows_are_free(rig)


async def test_cut_while_sessions_of_the_frame_are_busy_alone(make_rig: Any, x: Any) -> None:
    """Steps of a frame that wait behind others of their session will not run, either."""
    rig = await make_rig(hold="fold")
    stream = await open_stream(rig, 4)
    other = await rig.arrived(rig.step(stream.keys[0], x[:1]))
    scheduler = rig.serving.model("fold").scheduler
    await stream.send(frame=frame(rig, range(4), {"x": x[:4]}))
    await rig.until(lambda: scheduler.pending == 5)
    await cut(rig, stream)
    rig.held["fold"].released.set()
    assert (await other).step == 1
    await rig.serving.idle()
    assert [(await rig.states(key)).step for key in stream.keys] == [1, 0, 0, 0]
    for key in stream.keys:
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert all_rows_are_free(rig)


async def test_a_cut_stream_leaves_the_others_alone(make_rig: Any, x: Any) -> None:
    """Also those whose frames wait for the same sessions."""
    rig = await make_rig(hold="fold")
    first = await open_stream(rig)
    second = Stream(rig)
    await second.ask(0, resume_many=pb.ResumeManyRequest(sessions=first.keys))
    scheduler = rig.serving.model("fold").scheduler
    await first.send(frame=frame(rig, range(COUNT), {"x": x}))
    await rig.until(lambda: scheduler.pending == COUNT)
    sent = await second.send(frame=frame(rig, range(COUNT), {"x": -x}))
    await rig.until(lambda: scheduler.pending == 2 * COUNT)
    await cut(rig, first)
    rig.held["fold"].released.set()
    got = framed(rig, await second.answer(sent))
    assert got.errors == {}
    for number, steps in enumerate(got.steps):
        ran = x[number, None] if steps == 2 else x[number, None, :0]
        expected = rig.fold(np.concatenate([ran, -x[number, None]], 1))[0, -1]
        assert (got.outputs["y"][number] == expected).all()
    await second.end()

"""Frames: one message with a step of each of many sessions, and every one as if it were alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import Stream, all_rows_are_free, frame, framed

COUNT = 20  # more than the model's max_batch_size of 8


@pytest.fixture
def x() -> Any:
    """Eleven timesteps for each session: three pieces."""
    return np.random.default_rng(7).integers(-9, 9, (COUNT, 11, 2))


async def open_stream(rig: Any, count: int = COUNT, **fields: Any) -> Stream:
    stream = Stream(rig)
    stream.keys = (await stream.open_many(0, count, **fields)).sessions
    return stream


async def test_timestep_by_timestep(rig: Any, x: Any) -> None:
    stream = await open_stream(rig)
    expected = rig.fold(x)
    for t in range(11):
        got = await stream.frame(range(COUNT), x[:, t : t + 1])
        assert (got.outputs["y"] == expected[:, t]).all()
        assert (got.steps, got.errors) == ([t + 1] * COUNT, {})
    await stream.end()


async def test_several_timesteps_at_once(rig: Any, x: Any) -> None:
    """Whatever is shorter or longer than a piece: of three timesteps, of four, of eleven."""
    stream = await open_stream(rig)
    done = []
    for length in (3, 4, 11, 5):
        done.append(x[:, :length])
        got = await stream.frame(range(COUNT), done[-1], return_sequences=True)
        assert (got.outputs["y"] == rig.fold(np.concatenate(done, 1))[:, -length:]).all()
        got = await stream.frame(range(COUNT), done[-1], return_sequences=False)
        done.append(done[-1])
        assert (got.outputs["y"] == rig.fold(np.concatenate(done, 1))[:, -1]).all()
    await stream.end()


async def test_some_of_the_sessions_in_any_order(rig: Any, x: Any) -> None:
    stream, rng = await open_stream(rig), np.random.default_rng(1)
    states, steps = np.zeros((COUNT, 2), np.int64), np.zeros(COUNT, np.int64)
    for _ in range(30):
        chosen = rng.permutation(COUNT)[: rng.integers(1, COUNT + 1)]
        part = x[chosen, : rng.integers(1, 7)]
        states[chosen] = rig.fold(part, states[chosen])[:, -1]
        steps[chosen] += 1
        got = await stream.frame(chosen.tolist(), part, steps=steps[chosen])
        assert (got.outputs["y"] == states[chosen]).all()
        assert got.steps == steps[chosen].tolist()
    for number, key in enumerate(stream.keys):
        read = await rig.states(key)
        assert (read.step, rig.array_of(read.states[0]).tolist()) == (
            steps[number], [states[number].tolist()],
        )  # fmt: skip
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert all_rows_are_free(rig)
    await stream.end()


async def test_steps_may_be_left_out(rig: Any, x: Any) -> None:
    stream = await open_stream(rig, 3)
    message = frame(rig, range(3), {"x": x[:3]})
    message.ClearField("steps")
    for number in (1, 2):
        assert framed(rig, await stream.ask(frame=message)).steps == [number] * 3
    await stream.end()


async def test_sessions_of_any_kind(rig: Any, x: Any) -> None:
    """Opened one by one, with states of their own, forked, restored, or resumed in this stream."""
    own = [rig.tensor("h", np.array([[5, 6]]))]
    first = await rig.open(initial_state=own)
    await rig.step(first, x[:1])
    forked = (await rig.sessions.Fork(pb.ForkRequest(session=first))).session
    stored = (await rig.sessions.Snapshot(pb.SnapshotRequest(session=first))).snapshot
    restored = (await rig.sessions.Restore(pb.RestoreRequest(snapshot=stored))).session
    stream = Stream(rig)
    for number, key in enumerate((first, forked, restored)):
        await stream.ask(number, resume=key)
    fresh = pb.OpenSessionRequest(model_name="fold", initial_state=own)
    await stream.ask(3, open=fresh)
    began = rig.fold(x[:1], [[5, 6]])[:, -1]
    expected = rig.fold(x[:4], np.concatenate([began, began, began, [[5, 6]]]))[:, -1]
    got = await stream.frame(range(4), x[:4])
    assert (got.outputs["y"] == expected).all()
    assert got.steps == [2, 2, 2, 1]
    await stream.end()


async def test_frames_sent_at_once(rig: Any, x: Any) -> None:
    """Those with sessions in common keep their order."""
    stream, rng = await open_stream(rig), np.random.default_rng(5)
    states = np.zeros((COUNT, 2), np.int64)
    sent = []
    for _ in range(25):
        chosen = rng.permutation(COUNT)[: rng.integers(1, COUNT + 1)]
        part = x[chosen, : rng.integers(1, 7)]
        states[chosen] = rig.fold(part, states[chosen])[:, -1]
        message = frame(rig, chosen, {"x": part})
        sent.append((await stream.send(frame=message), states[chosen]))
    for request_id, expected in sent:
        got = framed(rig, await stream.answer(request_id))
        assert (got.outputs["y"] == expected).all()
    await stream.end()


async def test_frames_of_several_streams_share_batches(make_rig: Any, x: Any) -> None:
    rig = await make_rig(hold="fold")
    streams = [await open_stream(rig, 3) for _ in range(4)]
    sent = []
    for n, stream in enumerate(streams):
        message = frame(rig, range(3), {"x": x[3 * n : 3 * n + 3, :1]})
        sent.append(await stream.send(frame=message))
    scheduler = rig.serving.model("fold").scheduler
    await rig.until(lambda: scheduler.pending == 12)
    rig.held["fold"].released.set()
    for n, (stream, request_id) in enumerate(zip(streams, sent, strict=True)):
        got = framed(rig, await stream.answer(request_id))
        assert (got.outputs["y"] == x[3 * n : 3 * n + 3, 0]).all()
        await stream.end()
    sizes = rig.serving.model("fold").statistics.batches
    assert max(sizes) >= 6, sizes


async def test_several_inputs_and_outputs(rig: Any) -> None:
    stream = await open_stream(rig, model="mixed")
    rng = np.random.default_rng(3)
    total = np.zeros((COUNT, 2), np.float32)
    for t in range(4):
        values = rng.integers(-9, 9, (COUNT, 2)).astype(np.float32)
        place = rng.integers(0, 2, COUNT)
        inputs = {"x": values, "place": place}
        if t % 2:
            inputs = dict(reversed(inputs.items()))
        got = framed(rig, await stream.ask(frame=frame(rig, range(COUNT), inputs)))
        total += values + np.float32([[0, 0], [10, 20]])[place]
        assert (got.outputs["y"] == total).all()
        assert got.outputs["count_next"].tolist() == [t + 1] * COUNT
    await stream.end()


async def test_a_model_without_states(rig: Any) -> None:
    stream = await open_stream(rig, model="affine")
    values = np.arange(2.0 * COUNT, dtype=np.float32).reshape(COUNT, 2)
    got = framed(rig, await stream.ask(frame=frame(rig, range(COUNT), {"x": values})))
    assert (got.outputs["y"] == 2 * values + 1).all()
    await stream.end()


async def test_more_sessions_than_the_device_has_room_for(make_rig: Any, x: Any) -> None:
    rig = await make_rig(max_resident=16)
    stream, rng = await open_stream(rig, 45), np.random.default_rng(9)
    states = np.zeros((45, 2), np.int64)
    for number in range(1, 41):
        chosen = rng.permutation(45)[: rng.integers(1, 46)]
        part = rng.integers(-9, 9, (len(chosen), rng.integers(1, 7), 2))
        states[chosen] = rig.fold(part, states[chosen])[:, -1]
        got = await stream.frame(chosen, part)
        assert (got.outputs["y"] == states[chosen]).all(), number
    for key, state in zip(stream.keys, states, strict=True):
        assert rig.array_of((await rig.states(key)).states[0]).tolist() == [state.tolist()]
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert all_rows_are_free(rig)
    await stream.end()

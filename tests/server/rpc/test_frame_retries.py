"""Numbered steps in frames: each position is made once, and answered as often as it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import Stream, frame, framed

COUNT = 12


@pytest.fixture
def x() -> Any:
    return np.random.default_rng(7).integers(-9, 9, (COUNT, 6, 2))


async def open_stream(rig: Any, **fields: Any) -> Stream:
    stream = Stream(rig)
    stream.keys = (await stream.open_many(0, COUNT, **fields)).sessions
    return stream


async def steps_of(rig: Any, stream: Stream) -> list[int]:
    return [(await rig.states(key)).step for key in stream.keys]


async def test_a_frame_sent_again(rig: Any, x: Any) -> None:
    stream = await open_stream(rig)
    first = await stream.frame(range(COUNT), x, steps=1)
    again = await stream.frame(range(COUNT), x, steps=1)
    assert (again.outputs["y"] == first.outputs["y"]).all()
    assert (again.steps, again.errors) == ([1] * COUNT, {})
    assert await steps_of(rig, stream) == [1] * COUNT
    await stream.end()


async def test_all_that_was_sent_after_an_answer_was_lost(rig: Any, x: Any) -> None:
    """In frames of other sizes and another order, and on another stream."""
    broken = await open_stream(rig)
    for t in range(6):
        await broken.frame(range(COUNT), x[:, t : t + 1], steps=t + 1)
    broken.call.cancel()
    stream = Stream(rig)
    await stream.ask(0, resume_many=pb.ResumeManyRequest(sessions=broken.keys))
    expected, rng = rig.fold(x), np.random.default_rng(2)
    for _ in range(20):
        chosen = rng.permutation(COUNT)[: rng.integers(1, COUNT + 1)]
        t = rng.integers(0, 6, len(chosen))
        got = await stream.frame(chosen, x[chosen, t][:, None], steps=t + 1)
        assert (got.steps, got.errors) == ((t + 1).tolist(), {})
        assert (got.outputs["y"] == expected[chosen, t]).all()
    assert await steps_of(rig, broken) == [6] * COUNT
    await stream.end()


async def test_answers_that_come_from_many_frames(rig: Any, x: Any) -> None:
    """Each position has its own, in whichever order they are found."""
    stream, few = await open_stream(rig), 8  # as many as make one run
    expected, rng = rig.fold(x), np.random.default_rng(3)
    for t in range(6):
        parts = [np.arange(few)] if t % 2 == 0 else np.split(rng.permutation(few), 4)
        for part in parts:
            await stream.frame(part, x[part, t : t + 1], steps=t + 1)
    for t in range(6):
        for _ in range(4):
            chosen = rng.permutation(few)
            got = await stream.frame(chosen, x[chosen, t : t + 1], steps=t + 1)
            assert got.errors == {}
            assert (got.outputs["y"] == expected[chosen, t]).all()
    await stream.end()


async def test_some_positions_are_new_and_some_are_not(rig: Any, x: Any) -> None:
    stream = await open_stream(rig)
    await stream.frame(range(5), x[:5, :2], steps=1)
    got = await stream.frame(range(COUNT), x[:, :2], steps=1)
    assert (got.outputs["y"] == rig.fold(x[:, :2])[:, -1]).all()
    steps = [2] * 3 + [1] * 4 + [0] * 5
    got = await stream.frame(range(COUNT), x[:, :2], steps=steps)
    assert got.steps == [2] * 3 + [1] * 4 + [2] * 5
    assert got.errors == {}
    assert await steps_of(rig, stream) == [2] * 3 + [1] * 4 + [2] * 5
    await stream.end()


async def test_return_sequences_of_a_retry(rig: Any, x: Any) -> None:
    stream = await open_stream(rig)
    await stream.frame(range(COUNT), x, steps=1)
    again = await stream.frame(range(COUNT), x, steps=1, return_sequences=True)
    assert (again.outputs["y"] == rig.fold(x)).all()
    await stream.end()


async def test_frames_and_single_steps_answer_for_each_other(rig: Any, x: Any) -> None:
    stream = await open_stream(rig)
    await stream.frame(range(COUNT), x, steps=1)
    for number, key in enumerate(stream.keys):
        await rig.step(key, -x[number, None], step=2)
    for number, key in enumerate(stream.keys):
        answer = await rig.step(key, x[number, None], step=1)
        assert (rig.array_of(answer.outputs[0]) == rig.fold(x[number, None])[:, -1]).all()
        assert answer.step == 1
    got = await stream.frame(range(COUNT), -x, steps=2)
    assert (got.outputs["y"] == rig.fold(np.concatenate([x, -x], 1))[:, -1]).all()
    assert await steps_of(rig, stream) == [2] * COUNT
    await stream.end()


async def test_states_of_a_step_in_a_frame_are_not_remembered(rig: Any, x: Any) -> None:
    stream = await open_stream(rig)
    await stream.frame(range(COUNT), x, steps=1)
    inputs = [rig.tensor("x", x[:1])]
    step = pb.StepRequest(inputs=inputs, step=1, return_state=True)
    assert (await stream.ask(0, step=step)).error.kind == "StepForgotten"
    await stream.end()


async def test_other_inputs_at_some_positions(rig: Any, x: Any) -> None:
    stream = await open_stream(rig)
    await stream.frame(range(COUNT), x, steps=1)
    await rig.step(stream.keys[11], x[11, None], step=2)
    other = x.copy()
    other[[2, 5]] += 1
    got = await stream.frame(range(COUNT), other, steps=1)
    assert got.kinds == {2: "StepConflict", 5: "StepConflict"}
    right = [n for n in range(COUNT) if n not in (2, 5)]
    assert (got.outputs["y"][right] == rig.fold(x)[right, -1]).all()
    assert not got.outputs["y"][[2, 5]].any()
    assert await steps_of(rig, stream) == [1] * 11 + [2]
    await stream.end()


async def test_a_single_step_that_conflicts_with_a_frame(rig: Any, x: Any) -> None:
    stream = await open_stream(rig)
    await stream.frame(range(COUNT), x, steps=1)
    answer = await stream.answer(await stream.step(3, x[3, None] + 1, step=1))
    assert answer.error.kind == "StepConflict", answer
    await stream.end()


async def test_a_frame_that_conflicts_with_a_single_step(rig: Any, x: Any) -> None:
    stream = await open_stream(rig)
    await rig.step(stream.keys[3], x[3, None], step=1)
    got = await stream.frame(range(COUNT), x + 1, steps=1)
    assert got.kinds == {3: "StepConflict"}
    await stream.end()


async def test_inputs_in_another_order_are_the_same(rig: Any) -> None:
    stream = await open_stream(rig, model="mixed")
    inputs = {"x": np.ones((COUNT, 2), np.float32), "place": np.arange(COUNT) % 2}
    first = framed(rig, await stream.ask(frame=frame(rig, range(COUNT), inputs, steps=1)))
    turned = dict(reversed(inputs.items()))
    again = framed(rig, await stream.ask(frame=frame(rig, range(COUNT), turned, steps=1)))
    assert again.errors == {}
    assert (again.outputs["y"] == first.outputs["y"]).all()
    await stream.end()


async def test_gaps_at_some_positions(rig: Any, x: Any) -> None:
    """The others are made."""
    stream = await open_stream(rig)
    steps = [1, 2, 1, 7, 1, 2**62] + [1] * 6
    got = await stream.frame(range(COUNT), x, steps=steps)
    assert got.kinds == dict.fromkeys((1, 3, 5), "StepGap")
    assert [error.expected_step for error in got.errors.values()] == [1, 1, 1]
    assert got.steps == [1, 0, 1, 0, 1, 0] + [1] * 6
    made = [n for n in range(COUNT) if n not in (1, 3, 5)]
    assert (got.outputs["y"][made] == rig.fold(x)[made, -1]).all()
    assert not got.outputs["y"][[1, 3, 5]].any()
    assert await steps_of(rig, stream) == got.steps
    await stream.end()


async def test_gaps_at_every_position(rig: Any, x: Any) -> None:
    stream = await open_stream(rig)
    got = await stream.frame(range(COUNT), x, steps=2)
    assert got.kinds == dict.fromkeys(range(COUNT), "StepGap")
    assert got.outputs == {}
    assert await steps_of(rig, stream) == [0] * COUNT
    await stream.end()


async def test_forgotten_at_some_positions(make_rig: Any, x: Any) -> None:
    """Answers to frames are forgotten frame by frame, the oldest first."""
    rig = await make_rig(max_remembered_bytes=8 * (8 * 12 + 40))
    stream = await open_stream(rig)
    halves = list(range(8)), list(range(8, COUNT))
    for half in halves:
        await stream.frame(half, x[half], steps=1)
    got = await stream.frame(range(COUNT), x, steps=1)
    assert got.kinds == dict.fromkeys(halves[0], "StepForgotten")
    assert (got.outputs["y"][8:] == rig.fold(x)[8:, -1]).all()
    await stream.end()


async def test_pipelined_frames_of_which_a_position_fails(rig: Any) -> None:
    """What is behind it in the same session is refused, other sessions go on."""
    stream = await open_stream(rig, model="mixed")
    places = np.zeros((4, COUNT), np.int64)
    places[1, [2, 9]] = 9
    sent = []
    for number in range(4):
        inputs = {"x": np.ones((COUNT, 2), np.float32), "place": places[number]}
        message = frame(rig, range(COUNT), inputs, steps=number + 1)
        sent.append(await stream.send(frame=message))
    frames = [framed(rig, await stream.answer(request_id)) for request_id in sent]
    assert [got.kinds for got in frames] == [
        {},
        {2: "StepFailed", 9: "StepFailed"},
        {2: "StepGap", 9: "StepGap"},
        {2: "StepGap", 9: "StepGap"},
    ]
    assert {error.expected_step for error in frames[3].errors.values()} == {2}
    assert await steps_of(rig, stream) == [4, 4, 1, 4, 4, 4, 4, 4, 4, 1, 4, 4]
    good = frames[3].outputs["y"][[0, 1, 3, 11]]
    assert (good == 4).all()
    await stream.end()


@pytest.mark.parametrize("length", [1, 6])
async def test_asked_for_again_while_the_frame_runs(make_rig: Any, x: Any, length: int) -> None:
    """By another stream, and by calls for single sessions: all wait for it."""
    rig, part = await make_rig(hold="fold"), x[:, :length]
    stream = await open_stream(rig)
    other = Stream(rig)
    await other.ask(0, resume_many=pb.ResumeManyRequest(sessions=stream.keys))
    scheduler = rig.serving.model("fold").scheduler
    message = frame(rig, range(COUNT), {"x": part}, steps=1)
    first = await stream.send(frame=message)
    await rig.until(lambda: scheduler.pending == COUNT)
    again = await other.send(frame=message)
    await rig.until(lambda: scheduler.pending == 2 * COUNT)
    calls = [
        await rig.arrived(rig.step(stream.keys[n], part[n, None], step=1)) for n in (0, COUNT - 1)
    ]
    rig.held["fold"].released.set()
    expected = rig.fold(part)[:, -1]
    for got in (await stream.answer(first), await other.answer(again)):
        assert (framed(rig, got).outputs["y"] == expected).all()
        assert framed(rig, got).steps == [1] * COUNT
    for n, call in zip((0, COUNT - 1), calls, strict=True):
        assert (rig.array_of((await call).outputs[0])[0] == expected[n]).all()
    assert await steps_of(rig, stream) == [1] * COUNT
    await stream.end()
    await other.end()


async def test_a_frame_of_a_stream_that_was_cut_is_sent_again(make_rig: Any, x: Any) -> None:
    """While the first part of it runs: whatever was made, is made once."""
    rig = await make_rig(hold="fold")
    broken = await open_stream(rig)
    for number in (1, 2, 3):
        await broken.send(frame=frame(rig, range(COUNT), {"x": x * number}, steps=number))
    scheduler = rig.serving.model("fold").scheduler
    await rig.until(lambda: scheduler.pending == 3 * COUNT)
    broken.call.cancel()
    await rig.until(lambda: scheduler.pending < 3 * COUNT)
    stream = Stream(rig)
    await stream.ask(0, resume_many=pb.ResumeManyRequest(sessions=broken.keys))
    sent = [
        await stream.send(frame=frame(rig, range(COUNT), {"x": x * number}, steps=number))
        for number in (1, 2, 3)
    ]
    rig.held["fold"].released.set()
    frames = [framed(rig, await stream.answer(request_id)) for request_id in sent]
    assert [got.errors for got in frames] == [{}, {}, {}]
    expected = rig.fold(np.concatenate([x, 2 * x, 3 * x], 1))[:, [5, 11, 17]]
    for number, got in enumerate(frames):
        assert (got.outputs["y"] == expected[:, number]).all()
    assert await steps_of(rig, broken) == [3] * COUNT
    await stream.end()

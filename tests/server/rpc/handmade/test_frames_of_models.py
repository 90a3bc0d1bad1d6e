"""Frames with models of every kind: constants, inputs that may be left out, controls, no inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import Stream, all_rows_are_free, frame, framed

COUNT = 11  # more than the models' max_batch_size of 8
X = np.arange(1, COUNT * 6 + 1).reshape(COUNT, 3, 2)
GAINS = np.arange(2, 2 * COUNT + 2).reshape(COUNT, 2)


def decoded(d: Any, x: Any, mask: Any = None) -> Any:
    """Every timestep of "decoder", whose mask is true by default."""
    states = []
    for time in range(x.shape[1]):
        after = 3 * d + x[:, time] * GAINS
        d = after if mask is None else np.where(mask[:, time, None], after, d)
        states.append(d)
    return np.stack(states, axis=1)


async def decoders(rig: Any) -> Stream:
    """One session for each row of GAINS."""
    stream = Stream(rig)
    for number, gain in enumerate(GAINS):
        constants = [rig.tensor("gain", gain[None])]
        wanted = pb.OpenSessionRequest(model_name="decoder", constants=constants)
        await stream.send(number, open=wanted)
    answers = [await stream.answer(request) for request in range(1, COUNT + 1)]
    stream.keys = [answer.open.session for answer in answers]
    return stream


async def ask(stream: Stream, numbers: Any, inputs: Any, **fields: Any) -> Any:
    answer = await stream.ask(frame=frame(stream.rig, numbers, inputs, **fields))
    got = framed(stream.rig, answer)
    assert got.errors == {}
    return got


async def test_every_session_has_its_own_constants(rig: Any) -> None:
    stream = await decoders(rig)
    d = np.ones((COUNT, 2), np.int64)
    for number in (1, 2, 3):
        got = await ask(stream, range(COUNT), {"x": X * number}, return_sequences=True)
        expected = decoded(d, X * number)
        assert (got.outputs["y"] == expected).all()
        d = expected[:, -1]
    await stream.end()


async def test_an_input_that_may_be_left_out(rig: Any) -> None:
    stream, rng = await decoders(rig), np.random.default_rng(1)
    d = np.ones((COUNT, 2), np.int64)
    for number in range(6):
        mask = rng.random((COUNT, 3)) < 0.5 if number % 2 else None
        inputs = {"x": X} if mask is None else {"x": X, "mask": mask}
        for _ in range(2):
            got = await ask(stream, range(COUNT), inputs, steps=number + 1)
            assert (got.outputs["y"] == decoded(d, X, mask)[:, -1]).all()
        d = got.outputs["y"]
    await stream.end()


async def test_no_outputs_but_states(rig: Any) -> None:
    stream = Stream(rig)
    keys = (await stream.open_many(0, COUNT, "encoder")).sessions
    for _ in range(2):
        got = await ask(stream, range(COUNT), {"x": X}, steps=1)
        assert (got.outputs, got.steps) == ({}, [1] * COUNT)
    for number, key in enumerate(keys):
        (state,) = rig.arrays_of((await rig.states(key)).states).values()
        x = X[number]
        assert state.tolist() == [(9 * x[0] + 3 * x[1] + x[2]).tolist()]
    await stream.end()


async def test_no_inputs(rig: Any) -> None:
    stream = Stream(rig)
    for number in range(COUNT):
        constants = [rig.tensor("stride", np.array([number + 1]))]
        wanted = pb.OpenSessionRequest(model_name="generator", constants=constants)
        assert (await stream.ask(number, open=wanted)).HasField("open")
    for step in (1, 2, 2, 3, 1):
        got = await ask(stream, range(COUNT), {}, steps=step)
        assert got.outputs["y"].tolist() == [step * (number + 1) for number in range(COUNT)]
        assert got.steps == [step] * COUNT
    await stream.end()


async def test_more_inputs_than_were_sent_before(rig: Any) -> None:
    """Nothing but defaults, and every type of state."""
    stream = Stream(rig)
    for number in range(COUNT):
        constants = [
            rig.tensor("bias", np.float16([[number, -number]])),
            rig.tensor("flags", np.zeros((1, 3), np.bool_)),
        ]
        wanted = pb.OpenSessionRequest(model_name="mixed", constants=constants)
        assert (await stream.ask(number, open=wanted)).HasField("open")
    bias = np.float16([[number, -number] for number in range(COUNT)])
    got = await ask(stream, range(COUNT), {})
    assert (got.outputs["y"] == np.float16(0.5) + bias + np.float16(0.5)).all()
    got = await ask(stream, range(COUNT), {"more": np.full((COUNT, 2), 2.0)})
    assert (got.outputs["y"] == np.float16(1) + bias + bias + np.float16(2)).all()
    await stream.end()


@pytest.mark.parametrize("length", [1, 3, 11])
async def test_who_begins_is_told_to_the_model(rig: Any, length: int) -> None:
    """Once, in the first piece of its first step, whoever else is in the frame."""
    stream = Stream(rig)
    await stream.open_many(0, COUNT, "starts")
    x = np.resize(X, (COUNT, length, 2))
    begun = np.arange(COUNT) % 2 == 0

    def fold(h: Any, part: Any) -> Any:
        for time in range(length):
            h = 3 * h + part[:, time]
        return h

    first = fold(np.full((1, 2), 1000), x[begun])
    got = await ask(stream, np.flatnonzero(begun), {"x": x[begun]})
    assert (got.outputs["y"] == first).all()
    state = np.full((COUNT, 2), 1000)
    state[begun] = first
    got = await ask(stream, range(COUNT), {"x": x})
    assert (got.outputs["y"] == fold(state, x)).all()
    await stream.ask(3, reset=pb.ResetStatesRequest())
    state = fold(state, x)
    state[3] = 1000
    got = await ask(stream, range(COUNT), {"x": x})
    assert (got.outputs["y"] == fold(state, x)).all()
    await stream.end()


async def test_forks_in_one_frame_with_their_source(rig: Any) -> None:
    """They share a row, until each has made a step."""
    stream = await decoders(rig)
    await ask(stream, range(COUNT), {"x": X})
    request = pb.ForkRequest(session=stream.keys[0])
    forks = [(await rig.sessions.Fork(request)).session for _ in range(COUNT)]
    await stream.ask(100, resume_many=pb.ResumeManyRequest(sessions=forks))
    got = await ask(stream, [0, *range(101, 100 + COUNT)], {"x": X}, steps=2)
    d = np.broadcast_to(decoded(np.ones((COUNT, 2), np.int64), X)[0, -1], (COUNT, 2))
    for time in range(3):
        d = 3 * d + X[:, time] * GAINS[0]
    assert (got.outputs["y"] == d).all()
    for key in (*stream.keys, *forks):
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert all_rows_are_free(rig, "decoder")
    await stream.end()


async def test_many_sessions_with_the_same_constants(rig: Any) -> None:
    """What is sent right behind is done with them."""
    stream = Stream(rig)
    gain = rig.tensor("gain", GAINS[:1])
    opened = await stream.open_many(1, COUNT, "decoder", constants=[gain])
    assert len(opened.sessions) == COUNT
    d = np.ones((COUNT, 2), np.int64)
    for _ in range(2):
        got = await stream.frame(range(1, COUNT + 1), X)
        for time in range(X.shape[1]):
            d = 3 * d + X[:, time] * GAINS[0]
        assert (got.outputs["y"] == d).all()
    await stream.end()

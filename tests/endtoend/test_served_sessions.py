"""The public client, sync and asyncio, against a real server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnnserve


def test_what_a_session_knows(server: Any) -> None:
    with rnnserve.connect(server.grpc) as client, client.session("vowels") as session:
        assert (session.model, session.version, session.batch_size) == ("vowels", "1", 1)
        assert [(t.name, t.shape, t.time_axis) for t in session.inputs] == [
            ("frames", (-1, -1, 12), 1)
        ]
        assert [(t.name, t.shape) for t in session.outputs] == [("probabilities", (-1, -1, 9))]
        assert [(t.name, t.shape) for t in session.states_spec] == [
            ("lstm_h", (-1, 16)),
            ("lstm_c", (-1, 16)),
        ]
        assert [info.id for info in client.sessions("vowels")] == [session.id]
    with rnnserve.connect(server.grpc) as client:
        assert client.sessions() == []


def test_reset_states_and_resume(exact_server: Any, alone: Any, utterances: Any) -> None:
    frames = utterances[0][:7]
    expected = alone(frames)
    with rnnserve.connect(exact_server.grpc) as client:
        session = client.session("vowels").open()
        for _ in range(2):
            got = np.stack(list(session.stream(frames[:4])))
            assert got.tobytes() == expected[:4].tobytes()
            states = session.states
            session.reset_states()
        assert not any(state.any() for state in session.states.values())
        session.states = states
        session_id, token = session.id, session.token
    with (
        rnnserve.connect(exact_server.grpc) as client,
        client.resume(session_id, token) as resumed,
    ):
        assert resumed.step_count == 8
        got = np.stack([resumed.step(frame) for frame in frames[4:]])
        assert got.tobytes() == expected[4:].tobytes()


def test_initial_state_and_returned_state(exact_server: Any, alone: Any, utterances: Any) -> None:
    frames = utterances[1][:7]
    with rnnserve.connect(exact_server.grpc) as client:
        with client.session("vowels") as first:
            _, states = first.step(frames[:3], return_state=True)
        with client.session("vowels", initial_state=states) as second:
            got = second.step(frames[3:], return_sequences=True)
    assert np.abs(got - alone(frames)[3:]).max() <= 1e-6


async def test_asyncio(exact_server: Any, alone: Any, utterances: Any) -> None:
    frames = utterances[2]
    async with (
        rnnserve.aio.connect(exact_server.grpc) as client,
        client.session("vowels", session_id="aio") as session,
    ):
        first = await session.step(frames[0])
        rest = [output async for output in session.stream(frames[1:])]
        assert np.stack([first, *rest]).tobytes() == alone(frames).tobytes()
        states = await session.get_states()
        await session.reset_states()
        await session.set_states(states)
        assert [info.step_count for info in await client.sessions()] == [len(frames)]
        async with client.resume("aio", session.token) as again:
            assert again.step_count == len(frames)
        with pytest.raises(rnnserve.SessionNotFound):
            await session.step(frames[0])


def test_errors_have_their_types(server: Any) -> None:
    frame = np.zeros(12, np.float32)
    with rnnserve.connect(server.grpc) as client, client.session("vowels") as session:
        session.step(frame)
        before = session.states
        with pytest.raises(rnnserve.ModelNotFound, match="unknown model: 'consonants'"):
            client.session("consonants").open()
        with pytest.raises(rnnserve.SessionExists):
            client.session("vowels", session_id=session.id).open()
        with pytest.raises(rnnserve.SessionNotFound):
            client.resume(session.id, "guess").open()
        with pytest.raises(rnnserve.InvalidRequest, match="batch size must be 1 to 64"):
            client.session("vowels", batch_size=65).open()
        after = session.states
        assert all((after[name] == before[name]).all() for name in before)
        assert session.step_count == 1
    with pytest.raises(rnnserve.SessionClosed):
        session.step(frame)


def test_nobody_is_there() -> None:
    with (
        rnnserve.connect("127.0.0.1:1", timeout_s=5) as client,
        pytest.raises(rnnserve.Unavailable, match="is the server running"),
    ):
        client.session("vowels").open()

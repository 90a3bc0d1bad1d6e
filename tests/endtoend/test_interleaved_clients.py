"""Clients that share a server get what each would get alone."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import rnnserve


def largest_difference(one: list[Any], other: list[Any]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def test_two_clients_step_in_turn(exact_server: Any, alone: Any, utterances: Any) -> None:
    """Bit for bit: one process's client, two sessions, one step each in turn."""
    one, other = (utterance[:7] for utterance in utterances[:2])
    with (
        rnnserve.connect(exact_server.grpc) as client,
        client.session("vowels") as first,
        client.session("vowels") as second,
    ):
        got = [(first.step(a), second.step(b)) for a, b in zip(one, other, strict=True)]
    assert np.stack([a for a, _ in got]).tobytes() == alone(one).tobytes()
    assert np.stack([b for _, b in got]).tobytes() == alone(other).tobytes()


@pytest.mark.parametrize("count", [2, 20])
def test_clients_on_threads(exact_server: Any, alone: Any, utterances: Any, count: int) -> None:
    """Bit for bit: each with a channel of its own, all at once."""

    def play(frames: Any) -> Any:
        with rnnserve.connect(exact_server.grpc) as client, client.session("vowels") as session:
            return np.stack([session.step(frame) for frame in frames])

    with ThreadPoolExecutor(count) as threads:
        got = list(threads.map(play, utterances[:count]))
    assert [a.tobytes() for a in got] == [alone(u).tobytes() for u in utterances[:count]]


async def streams(address: str, utterances: Any) -> list[Any]:
    async with rnnserve.aio.connect(address) as client:

        async def play(frames: Any) -> Any:
            async with client.session("vowels") as session:
                return np.stack([output async for output in session.stream(frames)])

        return await asyncio.gather(*(play(frames) for frames in utterances))


async def test_streams_without_batches(exact_server: Any, alone: Any, utterances: Any) -> None:
    got = await streams(exact_server.grpc, utterances)
    assert [a.tobytes() for a in got] == [alone(u).tobytes() for u in utterances]


async def test_streams_in_mixed_batches(server: Any, alone: Any, utterances: Any) -> None:
    steps, runs = (server.metric(f"rnnserve_{name}_total") for name in ("steps", "runs"))
    got = await streams(server.grpc, utterances)
    assert largest_difference(got, [alone(u) for u in utterances]) <= 1e-6
    frames = sum(len(utterance) for utterance in utterances)
    assert server.metric("rnnserve_steps_total") - steps == frames
    assert server.metric("rnnserve_runs_total") - runs < frames, "nobody has met in a batch"


def test_portions_of_any_length(server: Any, alone: Any, utterances: Any) -> None:
    """Long requests run in pieces, between those of others."""
    frames = np.concatenate(utterances)[:100]
    with rnnserve.connect(server.grpc) as client, client.session("vowels") as session:
        got, start = [], 0
        for length in (1, 50, 2, 40, 7):
            got.append(session.step(frames[start : start + length], return_sequences=True))
            start += length
        assert session.step_count == 5
    assert largest_difference([np.concatenate(got)], [alone(frames)]) <= 1e-6


def test_rows_of_a_session_are_clients_too(server: Any, alone: Any, utterances: Any) -> None:
    frames = np.stack([utterance[:7] for utterance in utterances])
    with (
        rnnserve.connect(server.grpc) as client,
        client.session("vowels", batch_size=20) as session,
    ):
        got = np.stack([session.step(frames[:, t]) for t in range(7)], axis=1)
    assert largest_difference([got], [np.stack([alone(row) for row in frames])]) <= 1e-6

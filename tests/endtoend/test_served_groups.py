"""Groups of sessions on a real server."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import rnnserve

COUNT = 1000


def ticks(length: int, count: int) -> Any:
    return np.random.default_rng(2).normal(size=(length, count, 12)).astype(np.float32)


def test_a_thousand_sessions(server: Any, alone: Any) -> None:
    """In batches with each other; some of them against somebody who is alone."""
    frames = ticks(6, COUNT)
    with rnnserve.connect(server.grpc) as client, client.group("vowels", COUNT) as group:
        assert {info.id for info in client.sessions("vowels")} == set(group.ids)
        got = [group.step(tick) for tick in frames[:2]]
        got += group.stream(frames[2:5], window=2)
        got.append(group.step(frames[5:].swapaxes(0, 1), return_sequences=True)[:, 0])
        assert group.step_counts.tolist() == [6] * COUNT
        for n in (0, 1, 499, COUNT - 1):
            expected = alone(frames[:, n])
            assert np.abs(np.stack(got)[:, n] - expected).max() <= 1e-6
            with pytest.raises(rnnserve.SessionNotFound):
                client.resume(group.ids[n], "guess").open()
        assert client.resume(*group.keys[7]).open().step_count == 6
    with rnnserve.connect(server.grpc) as client:
        assert client.sessions() == []


async def test_asyncio(exact_server: Any, alone: Any) -> None:
    """Bit for bit, by turns with calls on single sessions of the group."""
    frames = ticks(4, 3)
    async with rnnserve.aio.connect(exact_server.grpc) as client:
        group = await client.group("vowels", 3).open()
        got = [await group.step(frames[0])]
        got += [output async for output in group.stream(frames[1:3])]
        keys = group.keys
    async with (
        rnnserve.aio.connect(exact_server.grpc) as client,
        client.resume_group(keys) as group,
    ):
        assert group.step_counts.tolist() == [3] * 3
        got.append(await group.step(frames[3]))
        for n in range(3):
            assert np.stack(got)[:, n].tobytes() == alone(frames[:, n]).tobytes()


def test_sessions_that_are_gone(server: Any) -> None:
    frames = ticks(3, 4)
    with rnnserve.connect(server.grpc) as client:
        with client.group("vowels", 4) as group:
            group.step(frames[0])
            client.resume(*group.keys[1]).open().close()
            with pytest.raises(rnnserve.GroupStepFailed, match="1 of 4 sessions failed") as caught:
                group.step(frames[1])
            assert list(caught.value.errors) == [1]
            assert group.step_counts.tolist() == [2, 1, 2, 2]
            with pytest.raises(rnnserve.RnnserveError, match="1 of 4 sessions cannot be resumed"):
                client.resume_group(group.keys).open()
        with client.group("vowels", 4, idle_ttl_s=0.3) as group:
            group.step(frames[0])
            time.sleep(1.5)
            with pytest.raises(rnnserve.GroupStepFailed) as caught:
                group.step(frames[1])
            assert [type(e) for e in caught.value.errors.values()] == [rnnserve.SessionExpired] * 4
        with pytest.raises(rnnserve.SessionExpired):
            client.resume_group(group.keys).open()
        assert client.sessions() == []


def test_what_cannot_be_a_group(server: Any) -> None:
    with rnnserve.connect(server.grpc) as client:
        with pytest.raises(rnnserve.ModelNotFound):
            client.group("consonants", 2).open()
        with pytest.raises(rnnserve.InvalidRequest, match="at least one session, with numbers"):
            client.group("vowels", 10_000_000).open()
        with pytest.raises(rnnserve.LimitReached):
            client.group("vowels", 100_001).open()
        assert client.sessions() == []

"""A client that dies in the middle of a stream: its session ends, and nobody else notices."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import rnnserve

IDLE_TTL_S = 1.0


def test_its_session_expires_and_others_go_on(
    exact_server: Any, alone: Any, utterances: Any, script: Any
) -> None:
    expired = exact_server.metric("rnnserve_sessions_expired_total")
    frames = np.concatenate(utterances)
    got = []
    with (
        rnnserve.connect(exact_server.grpc) as client,
        client.session("vowels") as other,
        script("endless_client.py", exact_server.grpc, str(IDLE_TTL_S)) as victim,
    ):
        assert victim.stdout is not None
        session_id, token = victim.stdout.readline().split()
        got += [other.step(frame) for frame in frames[:50]]
        assert {info.id for info in client.sessions()} == {other.id, "victim"}
        victim.kill()
        victim.wait()
        killed_s = time.monotonic()
        for frame in frames[50:]:
            got.append(other.step(frame))
            time.sleep(0.002)
        while exact_server.metric("rnnserve_sessions_expired_total") == expired:
            assert time.monotonic() < killed_s + 10 * IDLE_TTL_S
            time.sleep(0.02)
        assert time.monotonic() > killed_s + IDLE_TTL_S * 0.9
        with pytest.raises(rnnserve.SessionExpired, match="'victim' has expired after 1 s"):
            client.resume(session_id, token).open()
        with pytest.raises(rnnserve.SessionNotFound):
            client.resume(session_id, "guess").open()
        assert [info.id for info in client.sessions()] == [other.id]
        assert other.step_count == len(frames)
        with client.session("vowels", session_id="victim") as heir:
            assert heir.token != token
    assert np.stack(got).tobytes() == alone(frames).tobytes()
    assert exact_server.metric("rnnserve_pending_requests") == 0
    assert [e["count"] for e in exact_server.events() if e["event"] == "sessions expired"] == [1]

"""SIGTERM: no new sessions, what runs is finished, exit code 0 within the limit."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import rnnserve

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ONE_BY_ONE = ("--max-chunk", "1")  # makes a long request as long as can be
LONG = np.random.default_rng(3).normal(size=(15_000, 12)).astype(np.float32)


def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    give_up_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def health(channel: grpc.Channel, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    status: int = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status
    return status


def test_what_runs_is_finished(start: Any, repository: Any, alone: Any) -> None:
    server = start(repository, *ONE_BY_ONE).wait_until_serving()
    with (
        ThreadPoolExecutor(1) as threads,
        grpc.insecure_channel(server.grpc) as channel,
        rnnserve.connect(server.grpc) as client,
        client.session("vowels") as session,
    ):
        answer = threads.submit(session.step, LONG, return_sequences=True)
        until(lambda: server.metric("rnnserve_pending_requests") == 1)
        server.terminate()
        until(lambda: health(channel) == NOT_SERVING)
        assert health(channel, "rnnserve.v1.SessionService") == NOT_SERVING
        assert health(channel, "inference.GRPCInferenceService") == NOT_SERVING
        assert server.get("/healthz")[0] == 503
        with pytest.raises(rnnserve.ShuttingDown, match="shutting down"):
            client.session("vowels").open()
        assert not answer.done(), "the request was too short to show anything"
        probabilities = answer.result(30)
        assert np.abs(probabilities[:500] - alone(LONG[:500])).max() <= 1e-6
        session.step(LONG[0])  # a session that was open goes on
        assert session.step_count == 2
    assert server.exit_code() == 0
    assert server.events()[-1]["event"] == "stopped"
    assert server.events()[-1]["sessions_left"] == 0


def test_nobody_is_there(start: Any, repository: Any) -> None:
    server = start(repository).wait_until_serving()
    begun_s = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    assert server.exit_code() == 0
    assert time.monotonic() < begun_s + 5


def test_the_limit_holds_whoever_is_there(start: Any, repository: Any) -> None:
    """One session does nothing, the other is in the middle of something long."""
    server = start(repository, *ONE_BY_ONE, "--drain-limit-s", "1").wait_until_serving()
    with (
        ThreadPoolExecutor(1) as threads,
        rnnserve.connect(server.grpc, retries=None) as client,
    ):
        client.session("vowels").open()
        busy = client.session("vowels").open()
        answer = threads.submit(busy.step, np.concatenate([LONG] * 10))
        until(lambda: server.metric("rnnserve_pending_requests") == 1)
        begun_s = time.monotonic()
        server.terminate()
        assert server.exit_code() == 0
        assert 0.9 < time.monotonic() - begun_s < 3
        assert isinstance(answer.exception(5), rnnserve.RnnserveError)
    assert server.events()[-1]["sessions_left"] == 2


def test_a_second_signal_ends_it_at_once(start: Any, repository: Any) -> None:
    server = start(repository, *ONE_BY_ONE, "--drain-limit-s", "60").wait_until_serving()
    with (
        ThreadPoolExecutor(1) as threads,
        rnnserve.connect(server.grpc, retries=None) as client,
    ):
        session = client.session("vowels").open()
        answer = threads.submit(session.step, np.concatenate([LONG] * 10))
        until(lambda: server.metric("rnnserve_pending_requests") == 1)
        server.terminate()
        until(lambda: any(e["event"].startswith("draining") for e in server.events()))
        begun_s = time.monotonic()
        server.terminate()
        assert server.exit_code() == 0
        assert time.monotonic() - begun_s < 2
        assert isinstance(answer.exception(5), rnnserve.RnnserveError)

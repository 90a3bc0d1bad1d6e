"""Load over streams: N sessions, each on a stream of its own with one step outstanding.

A process of its own, so that client and server do not share an interpreter. It sends the same bytes
every time and does not decode what comes back: the client costs as little as it can, the same for
whichever server it is pointed at. Prints one line of JSON.

    python -m bench.load 127.0.0.1:8001 lstm64 --sessions 64 --seconds 2
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import grpc
import numpy as np
import uvloop

from bench.echo import METHOD
from bench.shapes import FEATURES
from rnnserve.v1 import session_pb2 as pb

WARM_UP_S = 0.3


@dataclass(frozen=True)
class Load:
    """Steps answered, of which at what latency."""

    steps_per_s: float
    p50_us: float
    p99_us: float


def messages(model: str) -> tuple[bytes, bytes, bytes]:
    """What opens a session, steps it and closes it."""
    frame = pb.Tensor(
        name="frames",
        datatype="FP32",
        shape=(1, 1, FEATURES),
        contents=np.linspace(-1, 1, FEATURES, dtype=np.float32).tobytes(),
    )
    return (
        _message(open=pb.OpenSessionRequest(model_name=model)),
        _message(step=pb.StepRequest(inputs=[frame])),
        _message(close=pb.CloseSessionRequest()),
    )


async def measure(target: str, model: str, sessions: int, seconds: float) -> Load:
    opening, step, closing = messages(model)
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(target) as channel:
        begin_s = time.perf_counter() + WARM_UP_S
        end_s = begin_s + seconds

        async def session() -> None:
            stream: Any = channel.stream_stream(METHOD)()
            for message in (opening, step):
                await stream.write(message)
                await stream.read()
            while (sent_s := time.perf_counter()) < end_s:
                await stream.write(step)
                await stream.read()
                if sent_s >= begin_s:
                    latencies.append(time.perf_counter() - sent_s)
            await stream.write(closing)
            await stream.read()
            await stream.done_writing()

        await asyncio.gather(*(session() for _ in range(sessions)))
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e6
    return Load(len(latencies) / seconds, float(p50), float(p99))


def _message(**action: Any) -> bytes:
    return pb.StreamRequest(request_id=1, session=1, **action).SerializeToString()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("model")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    load = uvloop.run(measure(given.target, given.model, given.sessions, given.seconds))
    print(json.dumps(asdict(load)))

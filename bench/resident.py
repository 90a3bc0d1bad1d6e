"""Fills a server with idle sessions, each of which has stepped once and so owns a row.

python -m bench.resident 127.0.0.1:8001 lstm64 1000000
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import uvloop

from bench.echo import METHOD
from bench.shapes import FEATURES
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = 1000


async def fill(target: str, model: str, count: int) -> None:
    """Open and step `count` sessions over one stream; they stay when it ends."""
    async with grpc.aio.insecure_channel(target) as channel:
        stream: Any = channel.stream_stream(METHOD)()
        for first in range(1, count + 1, AT_ONCE):
            for message in _messages(model, first, min(AT_ONCE, count + 1 - first)):
                await stream.write(message)
                answer = pb.StreamResponse.FromString(await stream.read())
                if answer.HasField("error"):
                    raise RuntimeError(answer.error.message)
        await stream.done_writing()


def _messages(model: str, first: int, count: int) -> Iterator[bytes]:
    """What opens so many sessions, by numbers from `first` on, and steps them."""
    opening = pb.OpenManyRequest(open=pb.OpenSessionRequest(model_name=model), count=count)
    yield pb.StreamRequest(session=first, open_many=opening).SerializeToString()
    x = np.zeros((count, 1, FEATURES), np.float32)
    inputs = [pb.Tensor(datatype="FP32", shape=x.shape, contents=x.tobytes())]
    numbers = np.arange(first, first + count, dtype="<u4")
    frame = pb.Frame(sessions=numbers.tobytes(), inputs=inputs)
    yield pb.StreamRequest(frame=frame).SerializeToString()


if __name__ == "__main__":
    uvloop.run(fill(sys.argv[1], sys.argv[2], int(sys.argv[3])))

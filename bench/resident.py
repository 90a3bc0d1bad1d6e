"""Fills a server with idle sessions, each of which has stepped once and so owns a row.

python -m bench.resident 127.0.0.1:8001 lstm64 100000
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
import uvloop

from bench.echo import METHOD
from bench.load import messages

PIPELINED = 64


async def fill(target: str, model: str, count: int) -> None:
    """Open and step `count` sessions over one stream; they stay when it ends."""
    opening, step, _ = messages(model)
    async with grpc.aio.insecure_channel(target) as channel:
        stream: Any = channel.stream_stream(METHOD)()
        for begun in range(0, count, PIPELINED):
            now = min(PIPELINED, count - begun)
            for _ in range(now):
                await stream.write(opening)
                await stream.write(step)
            for _ in range(2 * now):
                await stream.read()
        await stream.done_writing()


if __name__ == "__main__":
    uvloop.run(fill(sys.argv[1], sys.argv[2], int(sys.argv[3])))

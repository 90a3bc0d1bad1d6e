"""Messages that come together share a batch: what the driver makes of one read of the socket."""

from __future__ import annotations

import asyncio
from typing import Any

from rnnserve.v1 import session_pb2 as pb
from server.http2.methods import StreamMethod


async def test_one_read_is_one_turn(rig: Any) -> None:
    """The first message of a read is begun in the same turn of the event loop as its last."""

    turns: list[int] = []
    turn = 0

    def next_turn() -> None:
        nonlocal turn
        turn += 1

    def handle(request: Any, slot: Any) -> None:
        if not turns or turns[-1] != turn:
            asyncio.get_running_loop().call_soon(next_turn)
        turns.append(turn)
        slot.fill(request)

    method = StreamMethod(
        "/test.Service/Turns",
        pb.RestoreRequest,
        lambda caller: (handle, rig.service.cancel),
        4,
        False,
    )
    rig.server.add_streams([method])
    wire = await rig.wire()
    streams = [wire.call("Turns", b"a", b"b", end=False) for _ in range(50)]
    await wire.flush()
    await wire.until(lambda: all(len(wire.seen[s].data) == 16 for s in streams))
    assert len(turns) == 100
    assert len(set(turns)) <= 3  # reads, of which there are more if the network says so

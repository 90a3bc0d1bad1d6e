"""The way to another process, which may have been started anew a moment ago."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from server.errors import SessionNotFound
from server.processes.routes import REACH_LIMIT_S, Peer, socket_of

if TYPE_CHECKING:
    from pathlib import Path


async def test_one_that_starts_meanwhile_is_reached(tmp_path: Path) -> None:
    peer = Peer(tmp_path, 3)
    reached = asyncio.ensure_future(peer.reach())
    await asyncio.sleep(0.2)
    assert not reached.done()
    server = grpc.aio.server()
    server.add_insecure_port(socket_of(tmp_path, 3))
    await server.start()
    await asyncio.wait_for(reached, REACH_LIMIT_S)
    await peer.reach()  # it is connected: nothing to wait for
    await peer.close()
    await server.stop(None)


async def test_one_that_is_not_there_is_given_up(tmp_path: Path) -> None:
    peer = Peer(tmp_path, 3)
    begun_s = time.monotonic()
    with pytest.raises(SessionNotFound, match="process 3"):
        await peer.reach()
    assert REACH_LIMIT_S <= time.monotonic() - begun_s < REACH_LIMIT_S + 2
    await peer.close()

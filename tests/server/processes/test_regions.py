"""A region of shared memory is registered with all processes that are there, or with none."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from server.errors import RegionExists
from server.processes.regions import register_with_others
from server.processes.routes import Routes, socket_of
from server.rpc.shared_memory_methods import SharedMemoryMethods
from server.shared_memory import Regions
from server.stubs.inference import grpc_service_pb2 as pb
from server.stubs.inference import grpc_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


class Process(SharedMemoryMethods, grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """What another process answers for itself."""

    def __init__(self) -> None:
        self._shared_memory = "all"
        self._serving: Any = SimpleNamespace(regions=Regions())

    @property
    def names(self) -> list[str]:
        return [region.name for region in self._serving.regions.status()]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Callable[[int], Any]]:
    """Starts another process, of that number."""
    servers = []

    async def begin(number: int) -> Process:
        process, server = Process(), grpc.aio.server()
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(process, server)
        server.add_insecure_port(socket_of(tmp_path, number))
        await server.start()
        servers.append(server)
        return process

    yield begin
    for server in servers:
        await server.stop(None)


@pytest.fixture
async def routes(tmp_path: Path) -> AsyncIterator[Routes]:
    """From process 0 to 1 and 2."""
    claims: Any = None
    made = Routes(claims, 0, 3)
    made.connect(tmp_path)
    yield made
    await made.close()


class Own:
    """Process 0."""

    def __init__(self, routes: Routes, segment: Path) -> None:
        self.routes, self.regions = routes, Regions()
        self.request = pb.SystemSharedMemoryRegisterRequest(
            name="r", key=segment.name, byte_size=64
        )

    async def register(self) -> None:
        asked = self.request
        self.regions.register(asked.name, asked.key, asked.offset, asked.byte_size)
        await register_with_others(self.routes, self.regions, asked)

    async def unregister(self) -> None:
        self.regions.unregister("")
        asked = pb.SystemSharedMemoryUnregisterRequest()
        await self.routes.tell("SystemSharedMemoryUnregister", asked)


@pytest.fixture
def own(routes: Routes, make_segment: Any) -> Own:
    return Own(routes, make_segment())


async def test_everywhere(own: Own, begin: Any) -> None:
    others = [await begin(1), await begin(2)]
    await own.register()
    assert [other.names for other in others] == [["r"], ["r"]]
    await own.unregister()
    assert [other.names for other in others] == [[], []]


async def test_one_that_was_not_there_a_moment_ago(own: Own, begin: Any) -> None:
    """Calls to it would fail at once: its socket was looked for before it was there."""
    first = await begin(1)
    peer = own.routes.peers[2]
    with pytest.raises(grpc.aio.AioRpcError):
        await peer.inference.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())
    registering = asyncio.ensure_future(own.register())
    await asyncio.sleep(0.1)
    second = await begin(2)
    await registering
    assert (first.names, second.names) == (["r"], ["r"])


async def test_one_that_is_not_there(own: Own, begin: Any) -> None:
    first = await begin(1)
    await own.register()
    assert first.names == ["r"]
    await own.unregister()
    assert first.names == []


async def test_one_that_refuses(own: Own, begin: Any) -> None:
    first, second = await begin(1), await begin(2)
    asked = own.request
    second._serving.regions.register("r", asked.key, 0, 8)
    with pytest.raises(RegionExists, match="unregister it first"):
        await own.register()
    assert (first.names, second.names, list(own.regions.status())) == ([], ["r"], [])

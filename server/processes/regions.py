"""Regions of shared memory, which every process has to know: a connection may end at any."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from server.processes.failures import error_of
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from server.processes.routes import Routes
    from server.shared_memory import Regions


async def register_with_others(
    routes: Routes, own: Regions, request: pb.SystemSharedMemoryRegisterRequest
) -> pb.SystemSharedMemoryRegisterResponse:
    """What is registered here now. Where another process refuses, it is taken back everywhere, and
    that process' RequestError is raised.
    """
    peers = await routes.present()
    answers = await asyncio.gather(
        *(peer.inference.SystemSharedMemoryRegister(request) for peer in peers),
        return_exceptions=True,
    )
    done, refusals = [], []
    for peer, answer in zip(peers, answers, strict=True):
        if not isinstance(answer, grpc.aio.AioRpcError):
            done.append(peer)
        elif answer.code() is not grpc.StatusCode.UNAVAILABLE:
            refusals.append(error_of(answer, peer.number))
    if refusals:
        own.unregister(request.name)
        undo = pb.SystemSharedMemoryUnregisterRequest(name=request.name)
        await routes.ask([peer.inference.SystemSharedMemoryUnregister for peer in done], undo)
        raise refusals[0]
    return pb.SystemSharedMemoryRegisterResponse()

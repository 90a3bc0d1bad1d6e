"""Health and reflection, as probes and grpcurl ask for them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from server.http2.services import health_methods, reflection_method

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "rnnserve.v1.SessionService"


@pytest.fixture
async def status(rig: Any) -> health.aio.HealthServicer:
    status = health.aio.HealthServicer()
    await status.set(SERVICE, SERVING)
    rig.server.add_tasks(health_methods(status))
    rig.server.add_streams([reflection_method([SERVICE])])
    return status


async def test_check(rig: Any, status: Any) -> None:
    stub = health_pb2_grpc.HealthStub(rig.channel())
    for service in ("", SERVICE):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="nobody's"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watch_tells_of_changes_until_it_is_cancelled(rig: Any, status: Any) -> None:
    stub = health_pb2_grpc.HealthStub(rig.channel())
    call = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert (await call.read()).status == SERVING
    await status.enter_graceful_shutdown()
    assert (await call.read()).status == NOT_SERVING
    watchers = [task for task in asyncio.all_tasks() if "TaskCall" in repr(task.get_coro())]
    assert len(watchers) == 1
    call.cancel()
    await rig.until(watchers[0].done)


async def test_what_is_no_request_of_health(rig: Any, status: Any) -> None:
    check = rig.channel().unary_unary("/grpc.health.v1.Health/Check")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(b"\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_reflection_answers_one_request_after_the_other(rig: Any, status: Any) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
        reflection_pb2.ServerReflectionRequest(file_by_filename="no such file"),
    ]
    stub = reflection_pb2_grpc.ServerReflectionStub(rig.channel())
    listed, found, missing = [one async for one in stub.ServerReflectionInfo(iter(requests))]
    names = {service.name for service in listed.list_services_response.service}
    assert names == {SERVICE, "grpc.reflection.v1alpha.ServerReflection"}
    assert len(found.file_descriptor_response.file_descriptor_proto) >= 1
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]

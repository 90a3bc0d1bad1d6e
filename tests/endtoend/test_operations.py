"""What operators look at: health, reflection, metrics, logs."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from prometheus_client.parser import text_string_to_metric_families

import rnnserve

SERVICES = ["inference.GRPCInferenceService", "rnnserve.v1.SessionService"]


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_health(server: Any, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    with grpc.insecure_channel(server.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(request, timeout=5).status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(request, timeout=5)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def test_health_of_what_is_not_there(server: Any) -> None:
    request = health_pb2.HealthCheckRequest(service="other.Service")
    with (
        grpc.insecure_channel(server.grpc) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection(server: Any) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {*SERVICES, "grpc.health.v1.Health"} <= set(database.get_services())
        pool = DescriptorPool(database)
        methods = {
            name: {method.name for method in pool.FindServiceByName(name).methods}
            for name in SERVICES
        }
    assert {"ModelInfer", "ModelStreamInfer"} <= methods["inference.GRPCInferenceService"]
    assert {"OpenSession", "Stream"} <= methods["rnnserve.v1.SessionService"]


def test_pages(server: Any) -> None:
    assert server.get("/healthz") == (200, "ok\n")
    assert server.get("/metrics")[0] == 200
    assert server.get("/other")[0] == 404


def test_metrics_count(server: Any) -> None:
    def read() -> dict[str, float]:
        families = list(text_string_to_metric_families(server.get("/metrics")[1]))
        ours = [family for family in families if family.name.startswith("rnnserve_")]
        assert all(family.documentation for family in ours)
        samples = [sample for family in ours for sample in family.samples]
        assert all(s.labels.get("model", "vowels") == "vowels" for s in samples)
        return {s.name: s.value for s in samples if s.labels.get("le", "+Inf") == "+Inf"}

    before = read()
    with rnnserve.connect(server.grpc) as client, client.session("vowels", batch_size=2) as session:
        for _ in range(3):
            session.step(np.zeros((2, 12), np.float32))
        during = read()
    after = read()
    grown = {name: after[name] - before[name] for name in after}
    assert during["rnnserve_sessions"] - before["rnnserve_sessions"] == 1
    assert grown["rnnserve_sessions"] == 0
    assert grown["rnnserve_steps_total"] == grown["rnnserve_runs_total"] == 3
    assert grown["rnnserve_run_rows_total"] == 6
    assert grown["rnnserve_step_seconds_count"] == grown["rnnserve_step_seconds_bucket"] == 3
    assert 0 < grown["rnnserve_run_seconds_total"] <= grown["rnnserve_step_seconds_sum"]
    assert grown["rnnserve_steps_failed_total"] == 0
    assert after["rnnserve_pending_requests"] == 0


def test_metrics_have_no_doubles(server: Any) -> None:
    names = [f.name for f in text_string_to_metric_families(server.get("/metrics")[1])]
    assert len(names) == len(set(names))
    assert {"process_resident_memory_bytes", "rnnserve_step_seconds"} <= set(names)


def test_the_log_says_what_is_served_and_where(server: Any) -> None:
    (model,) = (event for event in server.events() if event["event"] == "model ready")
    assert (model["model"], model["version"], model["states"]) == ("vowels", 1, 2)
    assert model["bytes_per_session"] == 2 * 16 * 4
    assert model["device"].startswith(("cpu", "cuda"))
    (serving,) = (event for event in server.events() if event["event"] == "serving")
    assert serving["grpc"] == server.grpc

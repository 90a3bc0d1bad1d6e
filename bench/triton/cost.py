"""Processor time of a step: hardly changed by what else a machine does, and what bounds the rate of
a server that shares its cores with its clients.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from bench.triton.figures import Failed
from server.stubs.inference import grpc_service_pb2 as oip
from server.stubs.inference import grpc_service_pb2_grpc

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Cost:
    """Processor time of one step, in µs, of a server under a load and of perf_analyzer."""

    load: str
    server: str
    server_us: float
    client_us: float

    def steps_per_s(self, cores: int) -> float:
        """What that many cores can do at most if they run both."""
        return 1e6 * cores / (self.server_us + self.client_us)


@dataclass(frozen=True)
class Spent:
    """Steps that a server has run since it started, and seconds of processor time."""

    steps: int
    server_s: float
    client_s: float

    @classmethod
    def so_far(cls, pid: int, address: str, model: str) -> Self:
        """By the server of process `pid`, and by all children of this process that have ended.

        Raises Failed if the server is gone.
        """
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(_steps(address, model), _busy_s(pid), ended.ru_utime + ended.ru_stime)


def us_per_step(before: Spent, after: Spent) -> tuple[float, float]:
    """Of the server, and of its client."""
    steps = after.steps - before.steps
    return (
        1e6 * (after.server_s - before.server_s) / steps,
        1e6 * (after.client_s - before.client_s) / steps,
    )


def _steps(address: str, model: str) -> int:
    with grpc.insecure_channel(address) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        asked = oip.ModelStatisticsRequest(name=model)
        try:
            answer = stub.ModelStatistics(asked, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise Failed(f"no statistics: {error.details()}") from None
    return sum(version.inference_count for version in answer.model_stats)


def _busy_s(pid: int) -> float:
    """Of that process and those that it has started."""
    processes = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        processes[int(folder.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    family = {pid}
    while more := {p for p, (parent, _) in processes.items() if parent in family} - family:
        family |= more
    return sum(processes[p][1] for p in family if p in processes) / TICKS_PER_S

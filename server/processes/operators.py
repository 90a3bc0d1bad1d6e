"""Health and metrics of all processes, as the parent shows them over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from server.processes.routes import OPTIONS, socket_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPERATORS = "rnnserve.processes.Operators"  # a worker's service for the parent: bytes to bytes
METRICS, READY = "Metrics", "Ready"
TIMEOUT_S = 2.0


class Workers:
    """Asks the workers; those that are not there do not count. May be used from any thread."""

    def __init__(self, directory: Path, count: int) -> None:
        self._channels = [
            grpc.insecure_channel(socket_of(directory, number), OPTIONS) for number in range(count)
        ]

    def ask(self, what: str) -> Iterator[tuple[int, bytes]]:
        """The number and the answer of each."""
        calls: list[Any] = [
            channel.unary_unary(f"/{OPERATORS}/{what}").future(b"", timeout=TIMEOUT_S)  # type: ignore[arg-type]
            for channel in self._channels
        ]
        for number, call in enumerate(calls):
            try:
                yield number, call.result()
            except grpc.RpcError:
                continue

    def is_ready(self) -> bool:
        """Whether clients can open sessions."""
        return any(answer for _, answer in self.ask(READY))

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


class MergedCollector(Collector):
    """The workers' metrics, with the label `process`."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for number, page in self._workers.ask(METRICS):
            for family in text_string_to_metric_families(page.decode()):
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels: dict[str, Any] = {**sample.labels, "process": str(number)}
                    merged.add_sample(sample.name, labels, sample.value)
        yield from families.values()

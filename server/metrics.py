"""The counters as Prometheus metrics, read when somebody scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from server.statistics import LATENCY_BUCKETS_S, Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric

    from server.serving import ServedModel, Serving

LABELS = ("model", "version")


class ServingCollector(Collector):
    """Reads `serving` at every scrape; costs nothing in between."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "rnnserve_sessions", "Sessions that are open", value=len(self._serving.sessions)
        )
        yield CounterMetricFamily(
            "rnnserve_sessions_expired",
            "Sessions closed because nobody used them",
            value=self._serving.expired,
        )
        yield self._counter("steps", "Steps that were committed", lambda s: s.success.count)
        yield self._counter("steps_failed", "Steps that failed", lambda s: s.fail.count)
        yield self._counter("runs", "Runs of the model", lambda s: s.execution_count)
        yield self._counter("run_rows", "Rows in all runs together", _rows)
        yield self._counter("queue_seconds", "Waiting time of steps", lambda s: s.queue.ns / 1e9)
        yield self._counter("run_seconds", "Time in the engine", _busy_s)
        yield self._pending()
        yield self._latency()

    def _counter(
        self, name: str, text: str, value: Callable[[Statistics], float]
    ) -> CounterMetricFamily:
        family = CounterMetricFamily(f"rnnserve_{name}", text, labels=LABELS)
        for model in self._serving.models():
            family.add_metric(_labels(model), value(model.statistics))
        return family

    def _pending(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "rnnserve_pending_requests", "Requests without an answer", labels=LABELS
        )
        for model in self._serving.models():
            family.add_metric(_labels(model), model.scheduler.pending)
        return family

    def _latency(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            "rnnserve_step_seconds", "From the arrival of a step to its answer", labels=LABELS
        )
        for model in self._serving.models():
            total, buckets = 0, []
            bounds = [*(f"{bound:g}" for bound in LATENCY_BUCKETS_S), "+Inf"]
            for bound, count in zip(bounds, model.statistics.latency_buckets, strict=True):
                total += count
                buckets.append((bound, float(total)))
            family.add_metric(_labels(model), buckets, model.statistics.success.ns / 1e9)
        return family


def _labels(model: ServedModel) -> list[str]:
    return [model.spec.name, str(model.spec.version)]


def _rows(statistics: Statistics) -> int:
    return sum(size * batch.compute_infer.count for size, batch in list(statistics.batches.items()))


def _busy_s(statistics: Statistics) -> float:
    return sum(batch.compute_infer.ns for batch in list(statistics.batches.values())) / 1e9

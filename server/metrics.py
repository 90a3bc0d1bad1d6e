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

OWN_LABELS = ("model", "version")


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
        models = list(self._serving.models())
        labels = _label_names(models)
        family = CounterMetricFamily(f"rnnserve_{name}", text, labels=labels)
        for model in models:
            family.add_metric(_labels(model, labels), value(model.statistics))
        return family

    def _pending(self) -> GaugeMetricFamily:
        models = list(self._serving.models())
        labels = _label_names(models)
        family = GaugeMetricFamily(
            "rnnserve_pending_requests", "Requests without an answer", labels=labels
        )
        for model in models:
            family.add_metric(_labels(model, labels), model.scheduler.pending)
        return family

    def _latency(self) -> HistogramMetricFamily:
        models = list(self._serving.models())
        labels = _label_names(models)
        family = HistogramMetricFamily(
            "rnnserve_step_seconds", "From the arrival of a step to its answer", labels=labels
        )
        for model in models:
            total, buckets = 0, []
            bounds = [*(f"{bound:g}" for bound in LATENCY_BUCKETS_S), "+Inf"]
            for bound, count in zip(bounds, model.statistics.latency_buckets, strict=True):
                total += count
                buckets.append((bound, float(total)))
            seconds = model.statistics.success.ns / 1e9
            family.add_metric(_labels(model, labels), buckets, seconds)
        return family


def _label_names(models: list[ServedModel]) -> list[str]:
    """Those of every sample: all tags that any model's configuration has are among them."""
    tags = {tag for model in models for tag in model.spec.config.metric_tags}
    return [*OWN_LABELS, *sorted(tags)]


def _labels(model: ServedModel, names: list[str]) -> list[str]:
    """The values. An empty one is the same as no such label, to Prometheus."""
    own, tags = (model.spec.name, str(model.spec.version)), model.spec.config.metric_tags
    return [*own, *(tags.get(name, "") for name in names[len(own) :])]


def _rows(statistics: Statistics) -> int:
    return sum(size * batch.compute_infer.count for size, batch in list(statistics.batches.items()))


def _busy_s(statistics: Statistics) -> float:
    return sum(batch.compute_infer.ns for batch in list(statistics.batches.values())) / 1e9

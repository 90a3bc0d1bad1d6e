"""The metrics page as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from server.metrics import ServingCollector
from server.statistics import LATENCY_BUCKETS_S, RunTimes, Statistics
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from server.serving import Serving

Key = tuple[str, tuple[tuple[str, str], ...]]
LSTM = {"model": "lstm", "version": "3"}


def model(name: str, version: int, pending: int = 0, **tags: str) -> Any:
    config = ModelConfig(metric_tags=tags)
    return SimpleNamespace(
        spec=SimpleNamespace(name=name, version=version, config=config),
        statistics=Statistics(),
        scheduler=SimpleNamespace(pending=pending),
    )


@pytest.fixture
def lstm() -> Any:
    return model("lstm", 3, pending=5)


@pytest.fixture
def serving(lstm: Any) -> Any:
    others = [model("gru", 1), model('od"d\n', 2)]
    return SimpleNamespace(sessions=[1, 2, 3, 4], expired=9, models=lambda: [lstm, *others])


def scrape(serving: Any) -> dict[Key, float]:
    """All samples by name and labels."""
    registry = CollectorRegistry()
    registry.register(ServingCollector(cast("Serving", serving)))
    text = generate_latest(registry).decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    keys = [key(sample.name, sample.labels) for sample in samples]
    assert Counter(keys).most_common(1)[0][1] == 1, "a sample is there twice"
    return {k: sample.value for k, sample in zip(keys, samples, strict=True)}


def key(name: str, labels: Mapping[str, str]) -> Key:
    return name, tuple(sorted(labels.items()))


def test_sessions_are_counted_for_all_models_together(serving: Any) -> None:
    samples = scrape(serving)
    assert samples[key("rnnserve_sessions", {})] == 4
    assert samples[key("rnnserve_sessions_expired_total", {})] == 9


def test_counters_stand_by_model_and_version(serving: Any, lstm: Any) -> None:
    statistics = lstm.statistics
    statistics.queued(0.5)
    statistics.ran(8, 8, 8, RunTimes(0, 250_000_000, 0))
    statistics.ran(2, 2, 2, RunTimes(0, 500_000_000, 0))
    for _ in range(3):
        statistics.answered(0.01, now_ms=0)
    statistics.failed(0.1)
    samples = scrape(serving)
    expected = {
        "rnnserve_steps_total": 3,
        "rnnserve_steps_failed_total": 1,
        "rnnserve_runs_total": 2,
        "rnnserve_run_rows_total": 10,
        "rnnserve_queue_seconds_total": 0.5,
        "rnnserve_run_seconds_total": 0.75,
        "rnnserve_pending_requests": 5,
    }
    assert {name: samples[key(name, LSTM)] for name in expected} == expected
    others = {"model": "gru", "version": "1"}, {"model": 'od"d\n', "version": "2"}
    assert {samples[key(name, labels)] for name in expected for labels in others} == {0}


def test_latencies_are_a_cumulative_histogram(serving: Any, lstm: Any) -> None:
    for seconds in (0.0001, 0.002, 0.002, 0.3, 60.0):
        lstm.statistics.answered(seconds, now_ms=0)
    samples = scrape(serving)
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in samples.items()
        if name == "rnnserve_step_seconds_bucket" and dict(labels)["model"] == "lstm"
    }
    assert sorted(buckets) == [*LATENCY_BUCKETS_S, float("inf")]
    assert [buckets[bound] for bound in (0.00025, 0.001, 0.0025, 0.25, 0.5, 2.5)] == [
        1, 1, 3, 3, 4, 4,
    ]  # fmt: skip
    assert buckets[float("inf")] == samples[key("rnnserve_step_seconds_count", LSTM)] == 5
    assert samples[key("rnnserve_step_seconds_sum", LSTM)] == pytest.approx(60.3041)


def test_a_server_without_models_has_its_page_too() -> None:
    samples = scrape(SimpleNamespace(sessions=[], expired=0, models=list))
    assert samples == {
        key("rnnserve_sessions", {}): 0,
        key("rnnserve_sessions_expired_total", {}): 0,
    }


def test_the_tags_of_a_models_configuration_are_labels(serving: Any) -> None:
    tagged = [model("a", 1, 2, team="speech"), model("b", 1, 3, team="text", site="north")]
    serving.models = lambda: [*tagged, model("c", 1, 4)]
    samples = scrape(serving)
    for name, value, labels in (
        ("a", 2, {"team": "speech", "site": ""}),  # empty: the same as none
        ("b", 3, {"team": "text", "site": "north"}),
        ("c", 4, {"team": "", "site": ""}),
    ):
        all_of_them = {"model": name, "version": "1", **labels}
        assert samples[key("rnnserve_pending_requests", all_of_them)] == value
        assert samples[key("rnnserve_step_seconds_count", all_of_them)] == 0
        assert samples[key("rnnserve_steps_total", all_of_them)] == 0

from __future__ import annotations

import pytest

from server.statistics import LATENCY_BUCKETS_S, RunTimes, Statistics


def test_a_run_counts_by_size_and_for_every_request_in_it() -> None:
    statistics = Statistics()
    statistics.ran(5, 3, 2, RunTimes(input_ns=10, infer_ns=200, output_ns=1))
    statistics.ran(5, 1, 1, RunTimes(input_ns=20, infer_ns=300, output_ns=2))
    statistics.ran(1, 1, 1, RunTimes(input_ns=1, infer_ns=1, output_ns=1))
    assert statistics.execution_count == 3
    five = statistics.batches[5]
    assert (five.compute_infer.count, five.compute_infer.ns) == (2, 500)
    assert (five.compute_input.ns, five.compute_output.ns) == (30, 3)
    assert statistics.batches[1].compute_infer.count == 1
    totals = (statistics.compute_input, statistics.compute_infer, statistics.compute_output)
    assert [total.count for total in totals] == [4, 4, 4]
    assert [total.ns for total in totals] == [30 + 20 + 1, 600 + 300 + 1, 3 + 2 + 1]


def test_waiting_answers_and_failures_are_kept_apart() -> None:
    statistics = Statistics()
    statistics.queued(0.25)
    statistics.answered(0.5, now_ms=1_700_000_000_000)
    statistics.failed(2.0)
    assert (statistics.queue.count, statistics.queue.ns) == (1, 250_000_000)
    assert (statistics.success.count, statistics.success.ns) == (1, 500_000_000)
    assert (statistics.fail.count, statistics.fail.ns) == (1, 2_000_000_000)
    assert statistics.last_inference_ms == 1_700_000_000_000
    assert sum(statistics.latency_buckets) == 1


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.00025, 0), (0.0003, 1), (2.5, len(LATENCY_BUCKETS_S) - 1), (60.0, -1)],
)
def test_a_latency_falls_into_the_first_bucket_that_holds_it(seconds: float, bucket: int) -> None:
    statistics = Statistics()
    statistics.answered(seconds, now_ms=0)
    assert statistics.latency_buckets[bucket] == 1
    assert sum(statistics.latency_buckets) == 1

"""What one model has done so far, as counters that only grow.

Open Inference statistics and Prometheus both read these; the hot path adds plain integers.
Durations are in nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

LATENCY_BUCKETS_S = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip


@dataclass(slots=True)
class Duration:
    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class BatchDurations:
    """Of the runs with one batch size."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


class RunTimes(NamedTuple):
    """One run of the engine: laying out the inputs, ONNX Runtime, taking the outputs apart."""

    input_ns: int
    infer_ns: int
    output_ns: int


class Statistics:
    """`success` and `fail` count requests from arrival to answer. `queue` and the three `compute_…`
    count a request once it has run to its end, as often as `success` does; each adds the whole
    duration of the runs that the request took part in, so that dividing by the count gives what a
    request had to wait for.
    """

    def __init__(self) -> None:
        self.success = Duration()
        self.fail = Duration()
        self.queue = Duration()
        self.compute_input = Duration()
        self.compute_infer = Duration()
        self.compute_output = Duration()
        self.batches: defaultdict[int, BatchDurations] = defaultdict(BatchDurations)
        self.inference_count = 0  # requests, each counted once for every row
        self.execution_count = 0
        self.last_inference_ms = 0  # Unix time
        self.latency_buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)

    def queued(self, seconds: float, count: int = 1) -> None:
        """So many requests began to run `seconds` after they came."""
        self.queue.add(int(seconds * 1e9) * count, count)

    def ran(self, size: int, requests: int, finished: int, times: RunTimes) -> None:
        """One run with `size` rows of `requests` requests, `finished` of which are done with it."""
        self.execution_count += 1
        batch = self.batches[size]
        for mine, of_batch, ns in (
            (self.compute_input, batch.compute_input, times.input_ns),
            (self.compute_infer, batch.compute_infer, times.infer_ns),
            (self.compute_output, batch.compute_output, times.output_ns),
        ):
            mine.count += finished
            mine.ns += ns * requests
            of_batch.count += 1
            of_batch.ns += ns

    def answered(self, seconds: float, now_ms: int, count: int = 1) -> None:
        """So many steps were answered, `seconds` after they came."""
        if not count:
            return
        self.success.add(int(seconds * 1e9) * count, count)
        self.last_inference_ms = now_ms
        self.latency_buckets[bisect_left(LATENCY_BUCKETS_S, seconds)] += count

    def failed(self, seconds: float, count: int = 1) -> None:
        self.fail.add(int(seconds * 1e9) * count, count)

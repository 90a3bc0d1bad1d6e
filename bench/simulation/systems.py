"""What else a server could do with requests of different length: the systems to compare with.

Each is given the same engine and the same driver as ours, and what is not the point is decided in
its favour: batches are padded to the longest that is in them and not to the bucket's bound, and
nobody waits for a timer except where that is the point.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING

from bench.simulation.clock import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.simulation.workload import Workload


class Padded:
    """Whole requests, those of a batch padded to its longest: a batch is what waits when the engine
    is free, oldest first.

    With `bounds`, requests wait in buckets: those of up to `bounds[0]` timesteps, up to
    `bounds[1]`, …; the bucket whose first has waited longest is next. With a `delay_s`, a bucket
    waits until it fills a batch or its first has waited so long: a server with a queue delay.
    """

    def __init__(
        self,
        workload: Workload,
        max_batch_size: int,
        *,
        bounds: Sequence[int] = (),
        delay_s: float = 0.0,
    ) -> None:
        self._timesteps = workload.timesteps
        self._max_batch_size = max_batch_size
        self._bounds = bounds
        self._delay_s = delay_s
        self._buckets: list[deque[tuple[float, int]]] = [deque() for _ in (*bounds, None)]

    def arrive(self, request: int, now_s: float) -> None:
        bucket = bisect_left(self._bounds, self._timesteps[request])
        self._buckets[bucket].append((now_s, request))

    @property
    def wakes_s(self) -> float:
        waiting = [bucket[0][0] for bucket in self._buckets if bucket]
        return min(waiting) + self._delay_s if waiting else math.inf

    def next_run(self, now_s: float) -> Run | None:
        ready = [bucket for bucket in self._buckets if self._is_ready(bucket, now_s)]
        if not ready:
            return None
        bucket = min(ready, key=lambda bucket: bucket[0])
        count = min(len(bucket), self._max_batch_size)
        return self._run([bucket.popleft()[1] for _ in range(count)])

    def _is_ready(self, bucket: deque[tuple[float, int]], now_s: float) -> bool:
        full = len(bucket) >= self._max_batch_size
        return full or (bool(bucket) and bucket[0][0] + self._delay_s <= now_s)

    def _run(self, requests: list[int]) -> Run:
        longest = max(self._timesteps[request] for request in requests)
        return Run([(len(requests), longest)], requests)

    def finish(self, run: Run, now_s: float) -> Iterable[int]:
        requests: list[int] = run.what
        return requests

    def __repr__(self) -> str:
        return f"{type(self).__name__}({[len(bucket) for bucket in self._buckets]} waiting)"


class Merged(Padded):
    """A batch is formed as for padding and runs together to its end, but who is done is left out of
    the rest: no padding, nobody joins, all are answered at the end. What systems do that merge the
    graphs of whole requests (TensorFlow Fold, DyNet).
    """

    def _run(self, requests: list[int]) -> Run:
        lengths = sorted(self._timesteps[request] for request in requests)
        pieces, left, done = [], len(lengths), 0
        for length, same in groupby(lengths):
            pieces.append((left, length - done))
            left, done = left - len(list(same)), length
        return Run(pieces, requests)

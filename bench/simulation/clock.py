"""Lets virtual time pass: one engine, one system that decides what it runs, requests that come."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from bench.simulation.workload import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from bench.simulation.cost import Cost
    from bench.simulation.workload import Workload

WARM_UP = 0.1  # share of the requests that come before the queues are as usual


class Run(NamedTuple):
    """What the engine is given: runs of `(rows, timesteps)`, one after the other without a break.
    `what` is the system's own.
    """

    pieces: list[tuple[int, int]]
    what: Any


class System(Protocol):
    """Decides whom to run together."""

    @property
    def wakes_s(self) -> float:
        """When to ask `next_run` again although nobody came; inf for those who know no timer."""

    def arrive(self, request: int, now_s: float) -> None:
        """A request has come."""

    def next_run(self, now_s: float) -> Run | None:
        """The engine is free: what next?"""

    def finish(self, run: Run, now_s: float) -> Iterable[int]:
        """The run is over: who has an answer."""


@dataclass(frozen=True)
class Outcome:
    """`arrived_s`, `answered_s`: of each request. `busy_s`: of the engine, until `end_s`.
    `row_steps`: timesteps that were computed, of all rows together, padding included.
    """

    arrived_s: NDArray[np.float64]
    answered_s: NDArray[np.float64]
    busy_s: float
    end_s: float
    runs: int
    entries: int  # rows of all runs
    row_steps: int

    @property
    def latencies_s(self) -> NDArray[np.float64]:
        """Without the first ones, which found empty queues."""
        skipped = int(WARM_UP * len(self.arrived_s))
        order = np.argsort(self.arrived_s, kind="stable")[skipped:]
        latencies: NDArray[np.float64] = (self.answered_s - self.arrived_s)[order]
        return latencies

    def percentile_s(self, percent: float) -> float:
        return float(np.percentile(self.latencies_s, percent))

    @property
    def throughput(self) -> float:
        """Requests a second while eight of ten were answered: not the first and the last ones."""
        first, last = np.percentile(self.answered_s, [10, 90])
        return float(0.8 * len(self.answered_s) / (last - first))


def simulate(system: System, workload: Workload, cost: Cost, *, until_s: float = np.inf) -> Outcome:
    """Serve the whole workload, or what is answered before the engine fails at `until_s`: the rest
    is nan. Raises RuntimeError if somebody is answered twice, or never without a failure.
    """
    coming = _first_requests(workload)
    arrived_s = np.full(len(workload), np.nan)
    answered_s = np.full(len(workload), np.nan)
    now_s = busy_s = 0.0
    runs = entries = row_steps = 0

    def let_in(until_s: float) -> None:
        while coming and coming[0][0] <= until_s:
            at_s, request = heapq.heappop(coming)
            arrived_s[request] = at_s
            system.arrive(request, at_s)

    while True:
        let_in(now_s)
        run = system.next_run(now_s)
        if run is None:
            next_s = min(coming[0][0] if coming else np.inf, system.wakes_s)
            if next_s == np.inf:
                break
            assert next_s > now_s, f"time stands still at {now_s} s: {system!r}"
            now_s = next_s
            continue
        seconds = sum(cost.seconds(rows, timesteps) for rows, timesteps in run.pieces)
        if now_s + seconds > until_s:
            break
        let_in(now_s + seconds)
        now_s += seconds
        busy_s += seconds
        runs += len(run.pieces)
        entries += sum(rows for rows, _ in run.pieces)
        row_steps += sum(rows * timesteps for rows, timesteps in run.pieces)
        for request in system.finish(run, now_s):
            if not np.isnan(answered_s[request]):
                raise RuntimeError(f"request {request} was answered twice by {system!r}")
            answered_s[request] = now_s
            if (then := workload.following[request]) != NOBODY:
                heapq.heappush(coming, (now_s + workload.start_s[then], then))
    missing = int(np.isnan(answered_s).sum())
    if missing and until_s == np.inf:
        raise RuntimeError(f"{missing} requests were never answered by {system!r}")
    return Outcome(arrived_s, answered_s, busy_s, now_s, runs, entries, row_steps)


def _first_requests(workload: Workload) -> list[tuple[float, int]]:
    """When which request comes, as a heap: those that wait for no answer."""
    later = set(workload.following)
    coming = [(at_s, i) for i, at_s in enumerate(workload.start_s) if i not in later]
    heapq.heapify(coming)
    return coming

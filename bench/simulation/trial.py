"""One simulated run: which system, on what, with which load; and the figures that come of it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bench.simulation import cost
from bench.simulation.cellular import Cellular
from bench.simulation.clock import Outcome, System, simulate
from bench.simulation.systems import Merged, Padded
from bench.simulation.workload import HEAVY, SENTENCES, Workload, returning, singles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REQUESTS = 4000
CHUNK = 32  # the server's default
DELAY_S = 100e-6  # the queue delay that Triton's documentation begins with
BOUNDS = (10, 20, 50, 100, 200)
SHORT = 10  # timesteps of a request that is called short
VISITS, PAUSE_S = 5, 0.05

OURS, PADDING, DELAYED = "cellular", "padding", "padding, 0.1 ms delay"
BUCKETS, TENS, MERGED = "buckets", "buckets of 10", "merged graphs"

SYSTEMS: dict[str, Callable[[Workload, int, int], System]] = {
    OURS: Cellular,
    PADDING: lambda load, size, _: Padded(load, size),
    DELAYED: lambda load, size, _: Padded(load, size, delay_s=DELAY_S),
    BUCKETS: lambda load, size, _: Padded(load, size, bounds=BOUNDS),
    TENS: lambda load, size, _: Padded(load, size, bounds=range(10, cost.LONGEST, 10)),
    MERGED: lambda load, size, _: Merged(load, size),
}
COSTS: dict[str, Callable[[], cost.Cost]] = {
    "lstm64": lambda: cost.measured("lstm64"),
    "lstm256": lambda: cost.measured("lstm256"),
    "lstm64, engine only": lambda: cost.measured("lstm64", driver=False),
    "lstm256, engine only": lambda: cost.measured("lstm256", driver=False),
    "synthetic GPU": cost.gpu_like,
}
LENGTHS = {lengths.name: lengths for lengths in (SENTENCES, HEAVY)}


@dataclass(frozen=True)
class Trial:
    """`rate`: requests a second, inf for all at once. `comes_back`: sessions of `VISITS` requests
    instead of one.
    """

    system: str
    cost: str
    lengths: str
    max_batch_size: int
    rate: float = math.inf
    max_chunk: int = CHUNK
    comes_back: bool = False
    seed: int = 1


@dataclass(frozen=True)
class Figures:
    """Latencies in seconds. `entries`: runs that a request took part in. `useful`: share of the
    computed timesteps that somebody had asked for.
    """

    throughput: float
    p50_s: float
    p90_s: float
    p99_s: float
    short_p90_s: float
    entries: float
    useful: float


Run: TypeAlias = "Callable[[Sequence[Trial]], list[Figures]]"


def run(trial: Trial) -> Figures:
    lengths = LENGTHS[trial.lengths]
    if trial.comes_back:
        load = returning(lengths, trial.rate, REQUESTS, trial.seed, visits=VISITS, pause_s=PAUSE_S)
    else:
        load = singles(lengths, trial.rate, REQUESTS, trial.seed)
    system = SYSTEMS[trial.system](load, trial.max_batch_size, trial.max_chunk)
    return figures(load, simulate(system, load, cost_of(trial.cost)))


@functools.cache
def cost_of(name: str) -> cost.Cost:
    return COSTS[name]()


def figures(load: Workload, outcome: Outcome) -> Figures:
    short = np.array(load.timesteps) <= SHORT
    return Figures(
        outcome.throughput,
        outcome.percentile_s(50),
        outcome.percentile_s(90),
        outcome.percentile_s(99),
        float(np.percentile((outcome.answered_s - outcome.arrived_s)[short], 90)),
        outcome.entries / len(load),
        sum(load.timesteps) / outcome.row_steps,
    )

"""Many replicas, each with the real scheduler, and a million sessions spread by consistent hashing.

A session belongs to the replica whose point comes next on a ring of hashes, so that it stays where
its state is, and only the sessions of a replica that fails move. Replicas do not know of each
other: each is simulated by itself, the failing one first, because its clients go elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from bench.simulation.cellular import Cellular
from bench.simulation.clock import simulate
from bench.simulation.trial import CHUNK, cost_of
from bench.simulation.workload import NOBODY, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

COST = "lstm256"
MAX_BATCH_SIZE = 512
POINTS = 128  # of each replica on the ring
SECONDS = 0.5  # in which every session takes one step of one timestep, at some time
FAILS_S, NOTICED_S = 0.2, 0.25  # when a replica fails, and when its clients ask the next one


@dataclass(frozen=True)
class Scenario:
    """`slow`: replicas that take twice as long. `failing`: one that answers nobody any more."""

    name: str
    sessions: int
    replicas: int
    slow: int = 0
    failing: bool = False


class Share(NamedTuple):
    """What one replica has to do: arrivals in seconds, until it fails."""

    arrivals_s: NDArray[np.float64]
    slowness: float = 1.0
    until_s: float = math.inf


@dataclass(frozen=True)
class Fleet:
    """What became of a scenario. `shares`: sessions of each replica; `worst_p99_s`: of the replica
    where it is highest; `moved`: sessions that another replica took over.
    """

    latencies_s: NDArray[np.float64]
    shares: list[int]
    worst_p99_s: float
    moved: int

    @property
    def imbalance(self) -> float:
        """Sessions of the fullest replica over those of the average one."""
        return max(self.shares) / float(np.mean(self.shares))


ServeAll: TypeAlias = "Callable[[Sequence[Share]], list[NDArray[np.float64]]]"


def serve(share: Share) -> NDArray[np.float64]:
    """When each of the requests is answered; nan for those that the failure cut off."""
    count = len(share.arrivals_s)
    load = Workload(list(range(count)), [1] * count, share.arrivals_s.tolist(), [NOBODY] * count)
    cost = cost_of(COST)
    if share.slowness != 1:
        cost = cost.slower(share.slowness)
    system = Cellular(load, MAX_BATCH_SIZE, CHUNK)
    return simulate(system, load, cost, until_s=share.until_s).answered_s


def run(scenario: Scenario, serve_all: ServeAll, seed: int = 0) -> Fleet:
    rng = np.random.default_rng(seed)
    arrived_s = rng.uniform(0, SECONDS, scenario.sessions)
    asked_s = arrived_s.copy()  # the replica that answers in the end
    keys = hashes(np.arange(scenario.sessions, dtype=np.uint64))
    owners = Ring(scenario.replicas).owners(keys)
    answered_s = np.full(scenario.sessions, np.nan)
    moved = 0
    if scenario.failing:
        gone = scenario.replicas - 1
        its = np.flatnonzero(owners == gone)
        early = its[arrived_s[its] <= FAILS_S]
        (answered_s[early],) = serve_all([Share(arrived_s[early], until_s=FAILS_S)])
        lost = its[np.isnan(answered_s[its])]
        asked_s[lost] = np.maximum(arrived_s[lost], NOTICED_S)
        owners[lost] = Ring(scenario.replicas, without=gone).owners(keys[lost])
        moved = len(lost)
    groups = [
        np.flatnonzero((owners == r) & np.isnan(answered_s)) for r in range(scenario.replicas)
    ]
    shares = [
        Share(asked_s[group], 2.0 if replica < scenario.slow else 1.0)
        for replica, group in enumerate(groups)
    ]
    for group, answers in zip(groups, serve_all(shares), strict=True):
        answered_s[group] = answers
    latencies_s = answered_s - arrived_s
    p99s = [float(np.percentile(latencies_s[group], 99)) for group in groups if len(group)]
    counts = np.bincount(owners, minlength=scenario.replicas)
    return Fleet(latencies_s, counts.tolist(), max(p99s), moved)


class Ring:
    """Consistent hashing: `POINTS` points of each replica on the circle of 64-bit numbers."""

    def __init__(self, replicas: int, without: int | None = None) -> None:
        names = np.arange(replicas * POINTS, dtype=np.uint64)
        places = hashes(names + np.uint64(2**63))
        owners = np.repeat(np.arange(replicas), POINTS)
        stays = owners != (-1 if without is None else without)
        order = np.argsort(places[stays])
        self._places = places[stays][order]
        self._owners = owners[stays][order]

    def owners(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The replica of each key: that of the next point, around the circle."""
        following = np.searchsorted(self._places, keys) % len(self._places)
        owners: NDArray[np.int64] = self._owners[following]
        return owners


def hashes(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64-bit numbers that look random: the finaliser of SplitMix64 (Steele, Lea, Flood: *Fast
    Splittable Pseudorandom Number Generators*, OOPSLA 2014).
    """
    z = numbers * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))

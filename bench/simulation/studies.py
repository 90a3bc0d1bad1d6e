"""The questions that are asked, as lists of trials, and what is read off their figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.simulation.trial import (
    DELAYED,
    LENGTHS,
    OURS,
    PADDING,
    SYSTEMS,
    Figures,
    Trial,
    cost_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.simulation.trial import Run

SIZES = [1, 2, 4, 8, 16, 32, 128, 512]
LOADS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2]
CHUNKS = [1, 4, 8, 16, 32, 400]
CHUNK_LOADS = [0.3, 0.7]


@dataclass(frozen=True)
class Machine:
    """A cost curve, and the lengths of the requests that come to it."""

    cost: str
    lengths: str

    def trial(self, system: str, max_batch_size: int, **more: float) -> Trial:
        return Trial(system, self.cost, self.lengths, max_batch_size, **more)  # type: ignore[arg-type]

    @property
    def alone_s(self) -> float:
        """How long a long request takes when nobody else is there: nine of ten are shorter."""
        lengths = LENGTHS[self.lengths].draw(np.random.default_rng(0), 100_000)
        return cost_of(self.cost).seconds(1, int(np.percentile(lengths, 90)))


@dataclass(frozen=True)
class Sweep:
    """One system under growing load, with the `max_batch_size` at which it gets most done.

    `capacities` are requests a second, by `max_batch_size`, when all have come at once.
    """

    capacities: dict[int, float]
    max_batch_size: int
    rates: list[float]
    figures: list[Figures]

    @property
    def capacity(self) -> float:
        return self.capacities[self.max_batch_size]

    def rate_at(self, p90_s: float) -> float | None:
        """The highest load at which nine of ten are answered within `p90_s`, between the measured
        ones by the logarithm of the latency; None if it is lower than all of them.
        """
        latencies = [figures.p90_s for figures in self.figures]
        if latencies[0] > p90_s:
            return None
        above = next((i for i, latency in enumerate(latencies) if latency > p90_s), None)
        if above is None:
            return self.rates[-1]
        span = np.log(latencies[above - 1 : above + 1])
        return float(np.interp(np.log(p90_s), span, self.rates[above - 1 : above + 1]))

    def latency_s(self, rate: float, which: Callable[[Figures], float]) -> float | None:
        """At the given load; None if it is more than was tried."""
        if rate > self.rates[-1]:
            return None
        latencies = np.log([which(figures) for figures in self.figures])
        return float(np.exp(np.interp(rate, self.rates, latencies)))


def sweeps(run: Run, machine: Machine, systems: Iterable[str]) -> dict[str, Sweep]:
    """Each system at its best `max_batch_size`."""
    names = list(systems)
    sized = [(name, size) for name in names if name != DELAYED for size in SIZES]
    answers = run([machine.trial(name, size) for name, size in sized])
    capacities: dict[str, dict[int, float]] = {name: {} for name in names}
    for (name, size), figures in zip(sized, answers, strict=True):
        capacities[name][size] = figures.throughput
    if DELAYED in capacities:  # a full queue knows no delay
        capacities[DELAYED] = capacities[PADDING]
    found = {}
    for name in names:
        best = max(SIZES, key=capacities[name].__getitem__)
        rates = [load * capacities[name][best] for load in LOADS]
        found[name] = Sweep(
            capacities[name],
            best,
            rates,
            run([machine.trial(name, best, rate=rate) for rate in rates]),
        )
    return found


@dataclass(frozen=True)
class ChunkRow:
    """One chunk length: the capacity, and the figures at `CHUNK_LOADS` of the default's."""

    chunk: int
    capacity: float
    at: list[Figures]


def chunks(run: Run, machine: Machine, max_batch_size: int) -> list[ChunkRow]:
    full = run([machine.trial(OURS, max_batch_size, max_chunk=chunk) for chunk in CHUNKS])
    capacity = max(figures.throughput for figures in full)
    return [
        ChunkRow(
            chunk,
            figures.throughput,
            run(
                [
                    machine.trial(OURS, max_batch_size, max_chunk=chunk, rate=load * capacity)
                    for load in CHUNK_LOADS
                ]
            ),
        )
        for chunk, figures in zip(CHUNKS, full, strict=True)
    ]


def comes_back(run: Run, machine: Machine, found: dict[str, Sweep]) -> dict[str, Figures]:
    """Sessions that come back, at 70 % of what padding can do."""
    rate = 0.7 * found[PADDING].capacity
    trials = [
        machine.trial(name, sweep.max_batch_size, rate=rate, comes_back=True)
        for name, sweep in found.items()
    ]
    return dict(zip(found, run(trials), strict=True))


def count_trials(machines: int, that_come_back: int, with_chunks: int) -> int:
    """For the progress bar."""
    sweep = (len(SYSTEMS) - 1) * len(SIZES) + len(SYSTEMS) * len(LOADS)
    chunks = len(CHUNKS) * (1 + len(CHUNK_LOADS))
    return machines * sweep + that_come_back * len(SYSTEMS) + with_chunks * chunks


ALL_SYSTEMS = list(SYSTEMS)

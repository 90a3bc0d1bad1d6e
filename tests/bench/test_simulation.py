"""The simulation's own laws: time, work and answers; padding counted by hand. No real time here."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.simulation import cost, fleet, page, studies, trial
from bench.simulation.cellular import Cellular
from bench.simulation.clock import Run, simulate
from bench.simulation.cost import LONGEST, MAX_BATCH, Cost
from bench.simulation.systems import Merged, Padded
from bench.simulation.trial import SYSTEMS, Figures, Trial
from bench.simulation.workload import HEAVY, NOBODY, SENTENCES, Workload, returning, singles

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bench.simulation.clock import System
    from bench.simulation.workload import Lengths

# A timestep takes a second, however many rows it has.
FLAT = Cost("flat", [list(range(LONGEST + 1))] * (MAX_BATCH + 1))
# A row's timestep takes a millisecond, and every run two more.
STEEP = Cost(
    "steep", [[0.002 + 0.001 * b * t for t in range(LONGEST + 1)] for b in range(MAX_BATCH + 1)]
)
TIMERLESS = [name for name in SYSTEMS if name != trial.DELAYED]


def of(*requests: tuple[float, int]) -> Workload:
    """Sessions of one request each: when it comes, and its timesteps."""
    starts, timesteps = zip(*requests, strict=True)
    count = len(requests)
    return Workload(list(range(count)), list(timesteps), list(starts), [NOBODY] * count)


# ---- by hand -------------------------------------------------------------------------------------

THREE = of((0.0, 2), (0.5, 5), (1.0, 3))


def test_padding_runs_a_batch_as_long_as_its_longest() -> None:
    outcome = simulate(Padded(THREE, 8), THREE, FLAT)
    # the first alone, then both others for 5 timesteps
    assert outcome.answered_s.tolist() == [2, 7, 7]
    assert outcome.row_steps == 2 + 2 * 5
    assert (outcome.runs, outcome.entries, outcome.busy_s) == (2, 3, 7)
    assert trial.figures(THREE, outcome).useful == 10 / 12


def test_padding_takes_no_more_than_fit() -> None:
    outcome = simulate(Padded(THREE, 1), THREE, FLAT)
    assert outcome.answered_s.tolist() == [2, 7, 10]
    assert outcome.row_steps == 10


def test_buckets_hold_similar_lengths_and_the_oldest_goes_first() -> None:
    load = of((0.0, 3), (0.5, 5), (1.0, 4), (1.5, 2))
    outcome = simulate(Padded(load, 8, bounds=[3]), load, FLAT)
    # 3 alone until 3; then 5 and 4, of which one came first, until 8; then 2
    assert outcome.answered_s.tolist() == [3, 8, 8, 10]


def test_a_delay_waits_for_company_but_not_longer() -> None:
    alone = of((1.0, 2))
    assert simulate(Padded(alone, 2, delay_s=0.5), alone, FLAT).answered_s.tolist() == [3.5]
    pair = of((1.0, 2), (1.25, 2))
    assert simulate(Padded(pair, 2, delay_s=0.5), pair, FLAT).answered_s.tolist() == [3.25, 3.25]
    assert simulate(Padded(pair, 3, delay_s=0.5), pair, FLAT).answered_s.tolist() == [3.5, 3.5]


TOGETHER = of((0.0, 2), (0.0, 5), (0.0, 3))


def test_merged_graphs_pad_nothing_and_answer_at_the_end() -> None:
    outcome = simulate(Merged(TOGETHER, 8), TOGETHER, FLAT)
    assert outcome.answered_s.tolist() == [5, 5, 5]
    assert outcome.row_steps == 10
    assert (outcome.runs, outcome.entries) == (3, 3 + 2 + 1)


def test_the_scheduler_pads_nothing_and_answers_who_is_done() -> None:
    outcome = simulate(Cellular(TOGETHER, 8, LONGEST), TOGETHER, FLAT)
    assert outcome.answered_s.tolist() == [2, 5, 3]
    assert outcome.row_steps == 10
    assert (outcome.runs, outcome.entries) == (3, 3 + 2 + 1)


def test_a_newcomer_joins_between_the_chunks_of_a_long_request() -> None:
    load = of((0.0, 8), (1.0, 2))
    outcome = simulate(Cellular(load, 8, 4), load, FLAT)
    # 0-4 the long one alone, 4-6 both, 6-8 the rest
    assert outcome.answered_s.tolist() == [8, 6]


def test_whoever_comes_back_does_so_after_the_answer() -> None:
    load = Workload([0, 0], [2, 3], [1.0, 0.5], [1, NOBODY])
    outcome = simulate(Cellular(load, 8, 4), load, FLAT)
    assert outcome.arrived_s.tolist() == [1.0, 3.5]
    assert outcome.answered_s.tolist() == [3.0, 6.5]


# ---- laws ----------------------------------------------------------------------------------------


def loads(seed: int) -> list[Workload]:
    """Little to do, much to do, sessions that come back."""
    return [
        singles(SENTENCES, 5.0, 150, seed),
        singles(HEAVY, 50.0, 150, seed),
        returning(SENTENCES, 20.0, 150, seed, visits=3, pause_s=0.1),
    ]


class Watched:
    """A system whose calls are noted down, with their times."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.times: list[float] = []
        self.arrived: list[int] = []

    @property
    def wakes_s(self) -> float:
        return self.system.wakes_s

    def arrive(self, request: int, now_s: float) -> None:
        self.times.append(now_s)
        self.arrived.append(request)
        self.system.arrive(request, now_s)

    def next_run(self, now_s: float) -> Run | None:
        self.times.append(now_s)
        return self.system.next_run(now_s)

    def finish(self, run: Run, now_s: float) -> Iterable[int]:
        self.times.append(now_s)
        return self.system.finish(run, now_s)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("seed", range(3))
def test_time_runs_forwards_and_everybody_is_answered_after_coming(name: str, seed: int) -> None:
    for load in loads(seed):
        watched = Watched(SYSTEMS[name](load, 8, 16))
        outcome = simulate(watched, load, STEEP)
        assert watched.times == sorted(watched.times)
        assert sorted(watched.arrived) == list(range(len(load)))
        alone_s = [STEEP.seconds(1, timesteps) for timesteps in load.timesteps]
        assert (outcome.answered_s - outcome.arrived_s >= np.array(alone_s) - 1e-9).all()
        assert outcome.row_steps >= sum(load.timesteps)


@pytest.mark.parametrize("name", TIMERLESS)
@pytest.mark.parametrize("seed", range(3))
def test_the_engine_rests_only_when_nobody_waits(name: str, seed: int) -> None:
    for load in loads(seed):
        outcome = simulate(SYSTEMS[name](load, 8, 16), load, STEEP)
        assert outcome.busy_s == pytest.approx(occupied_s(outcome.arrived_s, outcome.answered_s))


def occupied_s(arrived_s: np.ndarray, answered_s: np.ndarray) -> float:
    """How long at least one request was there."""
    total_s, until_s = 0.0, 0.0
    for start_s, end_s in sorted(zip(arrived_s, answered_s, strict=True)):
        total_s += max(0.0, end_s - max(start_s, until_s))
        until_s = max(until_s, end_s)
    return total_s


@pytest.mark.parametrize("name", [trial.OURS, trial.MERGED])
def test_who_does_not_pad_computes_what_was_asked_for(name: str) -> None:
    for load in loads(0):
        outcome = simulate(SYSTEMS[name](load, 8, 16), load, STEEP)
        assert outcome.row_steps == sum(load.timesteps)


@pytest.mark.parametrize("name", SYSTEMS)
def test_equal_seeds_give_equal_figures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "REQUESTS", 200)
    one = Trial(name, "synthetic GPU", "sentences", 16, rate=100.0)
    assert trial.run(one) == trial.run(one)
    assert trial.run(one) != trial.run(replace(one, seed=2))


class Forgetful(Padded):
    """Says nothing of who came first."""

    def finish(self, run: Run, now_s: float) -> Iterable[int]:
        return [request for request in run.what if request]


class Talkative(Padded):
    """Answers everybody twice."""

    def finish(self, run: Run, now_s: float) -> Iterable[int]:
        return run.what * 2


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [(Forgetful, "1 requests were never answered"), (Talkative, "request 0 was answered twice")],
)
def test_a_system_that_loses_or_doubles_answers_is_found_out(
    broken: type[Padded], complaint: str
) -> None:
    with pytest.raises(RuntimeError, match=complaint):
        simulate(broken(THREE, 8), THREE, FLAT)


def test_what_an_engine_has_not_answered_when_it_fails_stays_open() -> None:
    outcome = simulate(Padded(THREE, 8), THREE, FLAT, until_s=6.5)
    assert outcome.answered_s[0] == 2
    assert np.isnan(outcome.answered_s[1:]).all()


# ---- costs and lengths ---------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [SENTENCES, HEAVY])
def test_lengths_lie_in_their_range(lengths: Lengths) -> None:
    drawn = lengths.draw(np.random.default_rng(0), 100_000)
    assert drawn.min() >= 1
    assert 300 < drawn.max() <= LONGEST
    assert drawn.mean() == pytest.approx(lengths.mean, rel=0.1)


def test_arrivals_come_at_the_rate_that_is_asked_for() -> None:
    single = singles(SENTENCES, 100.0, 20_000, 0)
    assert max(single.start_s) == pytest.approx(200, rel=0.05)
    back = returning(SENTENCES, 100.0, 20_000, 0, visits=5, pause_s=1.0)
    assert len(back) == 20_000
    assert max(back.start_s[::5]) == pytest.approx(200, rel=0.05)
    assert back.following[:5] == [1, 2, 3, 4, NOBODY]
    assert back.session[:6] == [0, 0, 0, 0, 0, 1]


def test_costs_are_those_measured_and_linear_between() -> None:
    points = np.array([[1.0, 7.0], [3.0, 13.0]])
    table = cost._between(points, [1, 3], [1, 4])
    assert table[1, 1] == 1
    assert table[3, 4] == 13
    assert table[1, 3] == 5
    assert table[2, 1] == 2
    assert table[2, 4] == 10


@pytest.mark.parametrize("name", trial.COSTS)
def test_every_run_has_a_cost(name: str) -> None:
    table = np.array(trial.cost_of(name).table)
    assert table.shape == (MAX_BATCH + 1, LONGEST + 1)
    assert (table > 0).all()
    assert trial.cost_of(name).slower(2.0).seconds(8, 4) == 2 * table[8, 4]


def test_the_synthetic_gpu_is_flat_up_to_where_it_says() -> None:
    gpu = cost.gpu_like()
    assert gpu.seconds(1, 10) == gpu.seconds(cost.GPU_FLAT_ROWS, 10) < gpu.seconds(MAX_BATCH, 10)


# ---- what is read off ----------------------------------------------------------------------------


def sweep(p90s: list[float]) -> studies.Sweep:
    rates = [100.0 * (i + 1) for i in range(len(p90s))]
    figures = [Figures(0.0, p90 / 2, p90, 2 * p90, 0.0, 0.0, 0.0) for p90 in p90s]
    return studies.Sweep({8: 300.0}, 8, rates, figures)


def test_the_rate_at_a_p90_lies_where_the_curve_crosses_it() -> None:
    curve = sweep([0.001, 0.01, 1.0])
    assert curve.rate_at(0.0005) is None
    assert curve.rate_at(0.01) == pytest.approx(200)
    assert curve.rate_at(0.1) == pytest.approx(250)
    assert curve.rate_at(5.0) == 300
    assert curve.latency_s(250, lambda figures: figures.p90_s) == pytest.approx(0.1)
    assert curve.latency_s(301, lambda figures: figures.p90_s) is None


def test_the_page_keeps_what_is_outside_the_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "page.md"
    written.write_text("before\n<!-- chunks: begin -->\nold\n<!-- chunks: end -->\nafter\n")
    monkeypatch.setattr(page, "PAGE", written)
    page.replace("chunks", ["new"])
    assert written.read_text() == (
        "before\n<!-- chunks: begin -->\nnew\n<!-- chunks: end -->\nafter\n"
    )


# ---- many replicas -------------------------------------------------------------------------------


def serve_all(shares: list[fleet.Share]) -> list[np.ndarray]:
    return [fleet.serve(share) for share in shares]


def test_only_the_sessions_of_a_replica_that_is_gone_move() -> None:
    keys = fleet.hashes(np.arange(20_000, dtype=np.uint64))
    before = fleet.Ring(8).owners(keys)
    after = fleet.Ring(8, without=3).owners(keys)
    assert (before[before != 3] == after[before != 3]).all()
    assert 3 not in after
    assert len(set(after[before == 3])) > 1, "they are spread over the others"
    assert np.bincount(before, minlength=8).min() > 20_000 / 8 / 2


def test_a_fleet_of_one_is_one_server() -> None:
    result = fleet.run(fleet.Scenario("", 500, 1), serve_all)
    arrived_s = np.random.default_rng(0).uniform(0, fleet.SECONDS, 500)
    answered_s = fleet.serve(fleet.Share(arrived_s))
    assert result.latencies_s.tolist() == (answered_s - arrived_s).tolist()
    assert (result.shares, result.imbalance, result.moved) == ([500], 1, 0)


def test_a_slow_replica_is_slow_alone() -> None:
    well = fleet.run(fleet.Scenario("", 4000, 4), serve_all)
    slow = fleet.run(fleet.Scenario("", 4000, 4, slow=1), serve_all)
    assert slow.worst_p99_s > well.worst_p99_s
    assert (slow.latencies_s == well.latencies_s).mean() > 0.5
    assert slow.shares == well.shares


def test_everybody_is_answered_although_a_replica_fails() -> None:
    scenario = fleet.Scenario("", 4000, 4, failing=True)
    result = fleet.run(scenario, serve_all)
    assert not np.isnan(result.latencies_s).any()
    assert (result.latencies_s > 0).all()
    assert 0 < result.moved < 4000 / 4 * 1.5
    assert sum(result.shares) == 4000
    before = fleet.Ring(4).owners(fleet.hashes(np.arange(4000, dtype=np.uint64)))
    assert result.shares[3] == (before == 3).sum() - result.moved, "what it had answered"
    waited = fleet.NOTICED_S - fleet.FAILS_S
    assert math.isclose(result.latencies_s.max(), waited, rel_tol=0.2), "clients notice, then ask"

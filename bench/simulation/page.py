"""The measured parts of docs/scheduling.md, as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import report
from bench.simulation.cost import MEASURED
from bench.simulation.studies import CHUNK_LOADS, SIZES
from bench.simulation.trial import BUCKETS, OURS, PADDING, TENS

if TYPE_CHECKING:
    from bench.simulation.fleet import Fleet, Scenario
    from bench.simulation.studies import ChunkRow, Machine, Sweep
    from bench.simulation.trial import Figures

PAGE = Path("docs/scheduling.md")
LIMITS = [2, 4, 8]  # p90 over what a long request takes alone
SHARES = [0.5, 0.7, 0.9]  # of padding's capacity
CAPACITIES = [OURS, PADDING, BUCKETS]


def replace(part: str, lines: list[str]) -> None:
    """Put `lines` between the marks of that part of the page."""
    report.replace(part, lines, PAGE)


def source() -> str:
    conditions = json.loads(MEASURED.read_text())["conditions"]
    return f"`python -m bench.simulation`, with what runs cost as measured on {conditions}."


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def equal_p90(found: dict[Machine, dict[str, Sweep]]) -> list[str]:
    """The highest load of each system at the same p90."""
    rows = []
    for machine, sweeps in found.items():
        for times in LIMITS:
            limit_s = times * machine.alone_s
            rates = {name: sweep.rate_at(limit_s) for name, sweep in sweeps.items()}
            others = [rates[PADDING], _best(rates[BUCKETS], rates[TENS])]
            rows.append(
                [
                    f"{machine.cost}, {machine.lengths}: {_ms(limit_s)} ms",
                    *(_rate(rate) for rate in rates.values()),
                    *(_ratio(rates[OURS], other) for other in others),
                ]
            )
    names = list(next(iter(found.values())))
    return table(["p90 within", *names, "ours / padding", "ours / best buckets"], rows)


def equal_load(found: dict[Machine, dict[str, Sweep]]) -> list[str]:
    rows = []
    for machine, sweeps in found.items():
        for share in SHARES:
            rate = share * sweeps[PADDING].capacity
            cells = [_at(sweep, rate) for sweep in sweeps.values()]
            rows.append([f"{machine.cost}, {machine.lengths}: {rate:,.0f}/s", *cells])
    return table(["p50 / p90 / p99 in ms at", *next(iter(found.values()))], rows)


def capacities(found: dict[Machine, dict[str, Sweep]]) -> list[str]:
    rows = [
        [f"{machine.cost}, {machine.lengths}: {name}"]
        + [_emphasised(sweeps[name], size) for size in SIZES]
        for machine, sweeps in found.items()
        for name in CAPACITIES
    ]
    return table(["requests a second at `max_batch_size`", *map(str, SIZES)], rows)


def returning(answers: dict[Machine, dict[str, Figures]]) -> list[str]:
    rows = [
        [f"{machine.cost}, {machine.lengths}", *(_three(figures) for figures in by_system.values())]
        for machine, by_system in answers.items()
    ]
    return table(["p50 / p90 / p99 in ms", *next(iter(answers.values()))], rows)


def chunks(studied: dict[Machine, tuple[int, list[ChunkRow]]]) -> list[str]:
    heads = ["`max_chunk`", "requests a second"]
    for load in CHUNK_LOADS:
        heads += [f"at {load:.0%}: p50 / p90 / p99, ms", "short ones' p90, ms"]
    rows = []
    for machine, (size, answers) in studied.items():
        rows.append([f"**{machine.cost}, batches of {size}**", *[""] * (len(heads) - 1)])
        for row in answers:
            cells = [str(row.chunk), f"{row.capacity:,.0f}"]
            for figures in row.at:
                cells += [_three(figures), _ms(figures.short_p90_s)]
            rows.append(cells)
    return table(heads, rows)


def fleet(answers: dict[Scenario, Fleet]) -> list[str]:
    heads = ["", "replicas", "sessions", "fullest / average", "p50 / p90 / p99, ms"]
    rows = [
        [
            scenario.name,
            str(scenario.replicas),
            f"{scenario.sessions:,}",
            f"{result.imbalance:.2f}",
            " / ".join(_ms(float(t)) for t in np.percentile(result.latencies_s, [50, 90, 99])),
            _ms(result.worst_p99_s),
            f"{result.moved:,}",
        ]
        for scenario, result in answers.items()
    ]
    return table([*heads, "worst replica's p99, ms", "moved"], rows)


def _at(sweep: Sweep, rate: float) -> str:
    latencies = [
        sweep.latency_s(rate, which)
        for which in (lambda f: f.p50_s, lambda f: f.p90_s, lambda f: f.p99_s)
    ]
    return " / ".join("too much" if latency is None else _ms(latency) for latency in latencies)


def _three(figures: Figures) -> str:
    return " / ".join(_ms(seconds) for seconds in (figures.p50_s, figures.p90_s, figures.p99_s))


def _emphasised(sweep: Sweep, size: int) -> str:
    text = f"{sweep.capacities[size]:,.0f}"
    return f"**{text}**" if size == sweep.max_batch_size else text


def _best(*rates: float | None) -> float | None:
    return max((rate for rate in rates if rate is not None), default=None)


def _rate(rate: float | None) -> str:
    return "never" if rate is None else f"{rate:,.0f}/s"


def _ratio(ours: float | None, theirs: float | None) -> str:
    return "" if ours is None or theirs is None else f"**{ours / theirs:.2f}**"


def _ms(seconds: float) -> str:
    """Milliseconds with three digits."""
    ms = 1e3 * seconds
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"

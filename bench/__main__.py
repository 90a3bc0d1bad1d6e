"""Measure, print a table, write docs/benchmarks.md.

    python -m bench

Everything that is compared is measured in alternation in this one run, so that whatever else the
machine does falls on both sides. Timings are reported, never judged: the exit code is 0.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import engine, processes, report, repository
from bench.shapes import HIDDEN_SIZES
from demo.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.load import Load
    from bench.report import Row

MODEL, HIDDEN = "lstm64", 64
ROUNDS = 5
SECONDS = 2.0
BUSY_US = 150
FEW, MANY = 100, 100_000
IDLE = 1_000_000
BATCH_SIZES = [1, 8, 32, 128, 512]


def main() -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as folder, _progress(console) as progress:
        models = Path(folder)
        repository.write(models, HIDDEN_SIZES)
        task = progress.add_task("", total=5 * ROUNDS + 3 + len(HIDDEN_SIZES))

        def begin(what: str) -> None:
            progress.update(task, description=what)

        def done() -> None:
            progress.advance(task)

        rows = [*_against_echo(models, begin, done), *_with_many_sessions(models, begin, done)]
        rows.append(_memory(models, begin))
        done()
        alone = {}
        for hidden in HIDDEN_SIZES:
            begin(f"engine alone, {hidden} units")
            name = f"lstm{hidden}"
            alone[name] = engine.steps_per_s(models, name, BATCH_SIZES, seconds=1.0)
            done()
    report.show(console, rows)
    report.write(rows, alone, BATCH_SIZES)
    console.print(f"wrote {report.PAGE}")


@dataclass(frozen=True)
class Alternated:
    """What two servers did under the same load, round by round."""

    ours: list[Load]
    theirs: list[Load]

    def throughput_ratios(self) -> list[float]:
        pairs = zip(self.ours, self.theirs, strict=True)
        return [ours.steps_per_s / theirs.steps_per_s for ours, theirs in pairs]

    def p50_ratios(self) -> list[float]:
        return [a.p50_us / b.p50_us for a, b in zip(self.ours, self.theirs, strict=True)]


def _alternate(
    ours: str, theirs: str, sessions: int, begin: Callable[[str], None], done: Callable[[], None]
) -> Alternated:
    result = Alternated([], [])
    for round in range(ROUNDS):
        begin(f"{sessions} streamed, round {round + 1}")
        result.theirs.append(processes.load(theirs, MODEL, sessions, SECONDS))
        result.ours.append(processes.load(ours, MODEL, sessions, SECONDS))
        done()
    return result


def _against_echo(
    models: Path, begin: Callable[[str], None], done: Callable[[], None]
) -> list[Row]:
    with (
        processes.echo_server(HIDDEN) as echo,
        processes.echo_server(HIDDEN, BUSY_US) as busy_echo,
        ServerProcess(models, models / "server.log") as server,
    ):
        one = _alternate(server.grpc, echo, 1, begin, done)
        busy = _alternate(busy_echo, echo, 1, begin, done)
        many = _alternate(server.grpc, echo, 64, begin, done)
    return [
        report.Row(
            "one streamed step, p50 over a bare echo's",
            one.p50_ratios(),
            "≤ 1.5",
            f"{_median(one.ours, 'p50_us'):.0f} µs over {_median(one.theirs, 'p50_us'):.0f} µs",
        ),
        report.Row(
            f"the same of an echo that computes for {BUSY_US} µs before it answers",
            busy.p50_ratios(),
            "",
            f"{_median(busy.ours, 'p50_us'):.0f} µs over {_median(busy.theirs, 'p50_us'):.0f} µs",
        ),
        report.Row(
            "64 sessions streamed, steps/s over a bare echo's",
            many.throughput_ratios(),
            "≥ 0.75",
            f"{_median(many.ours, 'steps_per_s'):,.0f}/s over "
            f"{_median(many.theirs, 'steps_per_s'):,.0f}/s",
        ),
    ]


def _with_many_sessions(
    models: Path, begin: Callable[[str], None], done: Callable[[], None]
) -> list[Row]:
    options = ("--max-sessions", str(2 * MANY))
    with ExitStack() as stack:
        few = stack.enter_context(ServerProcess(models, models / "few.log", *options))
        many = stack.enter_context(ServerProcess(models, models / "many.log", *options))
        for server, count in ((few, FEW), (many, MANY)):
            begin(f"opening {count:,} sessions")
            command = [sys.executable, "-m", "bench.resident", server.grpc, MODEL, str(count)]
            subprocess.run(command, check=True)
            done()
        one = _alternate(many.grpc, few.grpc, 1, begin, done)
        several = _alternate(many.grpc, few.grpc, 64, begin, done)
    return [
        report.Row(
            f"one streamed step with {MANY:,} sessions resident over {FEW}, p50",
            one.p50_ratios(),
            "≤ 1.1",
            f"{_median(one.ours, 'p50_us'):.0f} µs over {_median(one.theirs, 'p50_us'):.0f} µs",
        ),
        report.Row(
            f"64 sessions streamed, time per step with {MANY:,} resident over {FEW}",
            [1 / ratio for ratio in several.throughput_ratios()],
            "≤ 1.1",
            f"{_median(several.ours, 'steps_per_s'):,.0f}/s, "
            f"{_median(several.theirs, 'steps_per_s'):,.0f}/s",
        ),
    ]


def _memory(models: Path, begin: Callable[[str], None]) -> Row:
    begin(f"{IDLE:,} idle sessions")
    command = [sys.executable, "-m", "bench.memory", str(models), MODEL, str(IDLE)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return report.Row(
        "memory per idle session beyond its state",
        [float(finished.stdout)],
        "≤ 400 B",
        f"{IDLE:,} sessions that stepped once",
        " B",
    )


def _median(loads: list[Load], field: str) -> float:
    return float(statistics.median(getattr(load, field) for load in loads))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


if __name__ == "__main__":
    main()
